"""``glia-bench stream``: files to scores, against the graph alone and against decoding alone.

The same files go through each stage by itself and through `Scorer.stream`, in turn, round after round. A stream can be
no faster than its slowest stage, and on a CPU the stages share the cores: the ratios say how near it comes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from glia_bench.measure import timed_in_turn
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import Ceilings, limit_facts
from glia_bench.subjects import Subject
from glia_runtime.backends.base import usable_cpus
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError
from glia_runtime.inputs import Inputs, in_batches
from glia_runtime.scorer import Scorer

BACKEND, DECODE, PILLOW = "backend alone", "decode alone", "decode alone, by Pillow"
STREAM, DRAFT = "files to scores", "files to scores, draft"


def measure_stream(
    recorder: Recorder, subject: Subject, paths: Sequence[Path], *, repeats: int, ceilings: Ceilings | None
) -> None:
    """Add the rate of every stage and of the stream, and the stream's ratio to what it cannot be without.

    Args:
        recorder: takes the measurements, a sample a round.
        subject: what scores.
        paths: the files of one round, in order; the same one may come again.
        repeats: rounds, after one that does not count.
        ceilings: of the machine, to set the backend's rate against; None where they are not known.

    Raises:
        ImageError: a file that cannot be scored, which would take less time than one that can.
    """
    scorer, ready = subject.scorer(), _ready_batch(subject, paths)
    calls: dict[str, Callable[[], object]] = {
        BACKEND: lambda: _run_backend(subject, ready, len(paths)),
        DECODE: lambda: _in_threads(decode, paths),
        PILLOW: lambda: _in_threads(_pillow, paths),
        STREAM: lambda: _scores(scorer, paths, draft=False),
    }
    if "semantic" in subject.manifest.input_names:
        calls[DRAFT] = lambda: _scores(scorer, paths, draft=True)
    taken = timed_in_turn(calls, warm_up=1, repeats=repeats)
    facts = {**subject.facts(), "pictures": len(paths)}
    for name, samples in taken.items():
        rates = tuple(len(paths) / sample for sample in samples)
        limit = limit_facts(subject, ready, ceilings) if name == BACKEND else {}
        recorder.add(Measurement(subject.name, name, "images/s", "higher", rates, {**facts, **limit}))
    for name in (STREAM, DRAFT) if DRAFT in calls else (STREAM,):
        for alone in (BACKEND, DECODE):
            # Round by round: what disturbed both halves of a ratio is not in it.
            ratios = tuple(stage / whole for stage, whole in zip(taken[alone], taken[name], strict=True))
            recorder.add(Measurement(subject.name, f"{name} / {alone}", "", "higher", ratios, facts))
    if DRAFT in calls:
        exact, drafted = (_scores(scorer, paths, draft=draft) for draft in (False, True))
        largest = (float(np.abs(exact - drafted).max()),)
        recorder.add(Measurement(subject.name, "draft, largest score difference", "score", "lower", largest, facts))


@contextmanager
def resized(paths: Sequence[Path], megapixels: float | None) -> Iterator[list[Path]]:
    """The pictures at so many megapixels, as JPEG files of quality 90 in a temporary folder; as they are for None."""
    if megapixels is None:
        yield list(paths)
        return
    with tempfile.TemporaryDirectory(prefix="glia-bench-") as folder:
        made = []
        for index, path in enumerate(paths):
            picture = Image.fromarray(decode(path))
            factor = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
            made.append(Path(folder) / f"{index}.jpg")
            size = round(picture.width * factor), round(picture.height * factor)
            picture.resize(size).save(made[-1], quality=90)
        yield made


def _ready_batch(subject: Subject, paths: Sequence[Path]) -> Inputs:
    """The first batch that a stream of these files would run."""
    prepared = ((path, subject.prepare(decode(path))) for path in paths)
    batch = next(in_batches(prepared, subject.scorer().batch_size))
    return subject.collate([picture for _, picture in batch if not isinstance(picture, str)])


def _run_backend(subject: Subject, ready: Inputs, pictures: int) -> None:
    # The same batch over and over: what a graph costs does not depend on the pixels.
    for start in range(0, pictures, len(next(iter(ready.values())))):
        subject.run({name: array[: pictures - start] for name, array in ready.items()})


def _in_threads(work: Callable[[Path], object], paths: Sequence[Path]) -> None:
    with ThreadPoolExecutor(usable_cpus()) as pool:  # as many as the stream has
        for _ in pool.map(lambda path: work(path) is None, paths):  # not the arrays, which would fill the memory
            pass


def _pillow(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _scores(scorer: Scorer, paths: Sequence[Path], *, draft: bool) -> npt.NDArray[np.float64]:
    results = list(scorer.stream(paths, draft=draft))
    if errors := [result.error for result in results if result.error is not None]:
        raise ImageError(errors[0])
    return np.array([result.score for result in results], dtype=np.float64)
