"""How things are timed: warm-up, repetition, peak memory, a process of its own, and the pictures."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from PIL import Image as PillowImage

from glia_runtime.errors import BackendError, GliaError
from glia_runtime.listing import some_pictures
from glia_runtime.probe import probe_images
from glia_runtime.progress import terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Say = Callable[[str], None]

MOST_PHOTOGRAPHS = 64
"""Of a folder, spread evenly over the sorted names; as views of GLIANet they fill 20 MB, as crops 240 MB."""


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def timed(call: Callable[[], object], *, warm_up: int, repeats: int, at_least: float = 0.0) -> tuple[float, ...]:
    """Seconds of each call after `warm_up` calls that do not count.

    Args:
        call: what is timed; it returns when its work is done.
        warm_up: calls before the first sample: caches, lazy loading, clocks.
        repeats: fewest samples.
        at_least: go on until the samples sum up to these seconds.
    """
    for _ in range(warm_up):
        call()
    samples: list[float] = []
    total = 0.0
    while len(samples) < repeats or total < at_least:
        samples.append(seconds(call))
        total += samples[-1]
    return tuple(samples)


def timed_in_turn(calls: Mapping[K, Callable[[], object]], *, warm_up: int, repeats: int) -> dict[K, tuple[float, ...]]:
    """Seconds of each of several calls, one round after another, so that a change of the machine meets them all."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    samples: dict[K, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            samples[name].append(seconds(call))
    return {name: tuple(values) for name, values in samples.items()}


def peak_memory_bytes() -> int:
    """Most memory this process has held since its program began: Linux's VmHWM, elsewhere its largest resident set.

    Not getrusage on Linux: its figure begins with what the parent held when it forked.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def in_fresh_process(function: Callable[..., T], *arguments: object, cores: int | None = None) -> T:
    """Call a module's function in an interpreter of its own, on the first `cores` that this process may use.

    So that peak memory is that of one setting, and every library counts the cores it may use when it is loaded. It ends
    with the call, whether that returns, is interrupted, or this process is killed.

    Raises:
        GliaError: as the function raised it.
        ModuleNotFoundError: as the function raised it, so that a command says which extra to install.
        BackendError: the process died, for want of memory most likely.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, cores, function, arguments))
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    try:
        kind, answer = ours.recv()
    except EOFError as error:
        raise BackendError(
            "the measuring process died, probably for want of memory; try a smaller batch or picture"
        ) from error
    else:
        process.join()
    finally:
        process.kill()
        process.join()
        ours.close()
    if kind == "refused":
        raise GliaError(answer)
    if kind == "missing":
        message, module = answer
        raise ModuleNotFoundError(message, name=module)
    if kind == "failed":
        raise RuntimeError(f"in the measuring process:\n{answer}")
    value: T = answer
    return value


def _answer(
    pipe: Connection, cores: int | None, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    """What the process does. Errors go back as text: some do not unpickle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; who waits for this process ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_cores(cores)
    try:
        pipe.send(("value", function(*arguments)))  # pickled before anything is written
    except GliaError as error:
        pipe.send(("refused", str(error)))
    except ModuleNotFoundError as error:
        pipe.send(("missing", (str(error), error.name)))
    except Exception:
        pipe.send(("failed", traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # killed, or it would have ended this process itself


def _limit_cores(cores: int | None) -> None:
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


@contextmanager
def photographs(folder: Path | None, say: Say, most: int = MOST_PHOTOGRAPHS) -> Iterator[list[Path]]:
    """The picture files to measure on: `most` of `folder`, or the built-in ones, written to a temporary folder.

    Raises:
        UsageError: no folder, or no picture in it.
    """
    if folder is not None:
        yield some_pictures(folder, most, say)
        return
    with tempfile.TemporaryDirectory(prefix="glia-bench-") as temporary:
        paths = []
        for index, image in enumerate(probe_images()):
            paths.append(Path(temporary) / f"built-in-{index}.jpg")
            PillowImage.fromarray(image).save(paths[-1], quality=90)
        yield paths[:most]


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def progress(total: int | None = None) -> Iterator[Callable[[str], None]]:
    """A bar on standard error where that is a terminal; yields what is called at the begin of each step."""
    console = terminal()
    if console is None:
        yield lambda step: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield _steps(bar, total)


def _steps(bar: Bar, total: int | None) -> Callable[[str], None]:
    task = bar.add_task("", total=total)
    begun = False

    def step(description: str) -> None:
        nonlocal begun
        bar.update(task, description=description, advance=1 if begun else 0)
        begun = True

    return step


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send descriptor 1 to nothing: libraries in C++ print what belongs to no table."""
    if sys.stdout is not None:
        sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        kept = os.dup(1)
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 1)
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 -- a descriptor is what is wanted
            os.dup2(nothing.fileno(), 1)
        yield
