"""What the commands of glia-bench have in common: options, the check for their packages, and the frame of a run."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glia_runtime.atomic import atomic_write
from glia_runtime.backends.base import first_line
from glia_runtime.command import FAILED, errors_on_one_line
from glia_runtime.command import say as say_as
from glia_runtime.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from glia_bench.session import Session, Target

COMMAND = "glia-bench"
BUNDLED = "bundled"
"""Names the bundled demonstration model."""

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="FILE",
        help="Artifact, checkpoint (runs in eager PyTorch) or 'bundled', the default. May be repeated.",
    ),
]
ALL_BACKENDS = "all"
Backends = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="As in glia-infer: auto (the default), openvino:bf16, onnxruntime, ...; or all that can run here. For "
        "checkpoints: pytorch (the default), pytorch:fp16. May be repeated.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")]
Images = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of photographs, 64 at most. Default: five built-in pictures."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Under a minute, for CI: few samples, not to be quoted.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the result with every sample, as JSON.")
]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write one row for every sample.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with tables and plots, self-contained.")
]


@contextmanager
def needing(debug: bool, *packages: tuple[str, str]) -> Iterator[None]:
    """Errors on one line; a missing package, (module, distribution), is refused before anything is measured."""
    with errors_on_one_line(COMMAND, debug):
        for module, distribution in packages:
            try:
                import_module(module)
            except ImportError as error:
                raise MissingExtraError.for_package(distribution, "bench", "this command") from error
        yield


@contextmanager
def measuring(
    command: str,
    debug: bool,
    files: tuple[Path | None, Path | None, Path | None],
    *packages: tuple[str, str],
    **settings: Any,
) -> Iterator["Session"]:
    """A session for the block; what it has recorded at the end is written where asked for, and printed.

    So is what it had recorded when it was interrupted or failed, with a remark that says so, before the error goes on
    to the exit status; where one of several models failed (`Recorder.part`), that is an error's as well.

    Args:
        command: its name.
        debug: as in `needing`.
        files: what --output, --csv and --html name.
        packages: as in `needing`.
        settings: the command's own options, for the result.

    Raises:
        typer.Exit: the exit status of an error, which is said; `files` names the same file twice, among others.
    """
    with needing(debug, *packages):
        from glia_bench.recording import Recorder
        from glia_bench.session import Session, deliver

        _check_distinct(files)
        if files[2] is not None:
            import_module("matplotlib")  # a result must not be lost because the picture of it cannot be drawn
        with ExitStack() as unwritten:
            # Whether they can be written is found out now: what took minutes to measure must not be lost to that.
            output, csv, html = (_pending(unwritten, path) if path else None for path in files)
            recorder, stopped = Recorder(command, settings, say), None
            try:
                with ExitStack() as stack:
                    yield Session(recorder, stack)
            except (Exception, KeyboardInterrupt) as error:
                if not recorder.count:
                    raise
                stopped = error
                reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"stopped ({first_line(error)})"
                recorder.note(f"{reason} after {recorder.count} measurements; the others are missing")
            if recorder.count or not recorder.has_failed:
                deliver(recorder.finish(), output, csv, html)
            else:
                raise typer.Exit(FAILED)
        if stopped is not None:
            raise stopped
        if recorder.has_failed:
            raise typer.Exit(FAILED)


def _check_distinct(files: tuple[Path | None, Path | None, Path | None]) -> None:
    given: dict[str, str] = {}
    for option, path in zip(("--output", "--csv", "--html"), files, strict=True):
        if path is not None and (other := given.setdefault(os.path.realpath(path), option)) != option:
            raise UsageError(f"{other} and {option} both name {path}; give each a file of its own")


def _pending(unwritten: ExitStack, path: Path) -> "Target":
    """A file that is put in its place as soon as its own stack is closed, whatever becomes of the others."""
    own = unwritten.enter_context(ExitStack())
    return own, own.enter_context(atomic_write(path))


def say(line: str) -> None:
    """Print a line on standard error under the command's name."""
    say_as(COMMAND, line)
