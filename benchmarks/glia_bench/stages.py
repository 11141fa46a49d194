"""``glia-bench stages``: where the time of a file goes on its way to a score.

Each stage is timed by itself, one file after another, through the runtime's public functions, and the fastest of three
counts: "read" is from a hot cache, no disk's speed. What only exists while everything runs at once, the queue, is read
off a real run of `Scorer.stream`: from when it took a path to when the picture's batch began, less what its own stages
take. It is how long a picture waits, others being computed meanwhile, and no cost to be added to the others. Nothing
inside the runtime is touched, so that what is measured is what runs.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from glia_bench.measure import seconds
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.subjects import Subject
from glia_runtime.backends.base import Backend
from glia_runtime.decode import decode
from glia_runtime.inputs import Inputs
from glia_runtime.pipeline import Result
from glia_runtime.scorer import Scorer
from glia_runtime.writers import WRITERS

STAGES = ("read", "decode", "orient", "views", "queue", "inference", "output")
_REPEATS = 3
"""Of each file's stage, the fastest counts: the work is the same every time, only what disturbs it differs.

The file is in the cache from the first.
"""

_ORIENTATION_TAG = 0x0112


def measure_stages(
    recorder: Recorder, subject: Subject, paths: Sequence[Path], *, batch_size: int, step: Callable[[str], None]
) -> None:
    """Add one measurement for each stage, seconds a picture, and the wall time a picture of the whole.

    The queue's are seconds that each picture waits; those of the others are what it costs.

    Args:
        recorder: takes the measurements.
        subject: what scores.
        paths: pictures that can be read.
        batch_size: of the stream, and of the inference that is timed alone.
        step: told what begins.
    """
    if (most := subject.at_once(batch_size)) < batch_size:
        recorder.note(f"{subject.name}: takes {most} pictures at once, so that its batches end there")
        batch_size = most
    step(f"{subject.name}: stages")
    host = {stage: [] for stage in ("read", "decode", "orient", "views")}  # type: dict[str, list[float]]
    prepared = []
    for path in paths:
        content = path.read_bytes()
        upright = without_orientation(content)
        image = decode(content)
        host["read"].append(_fastest(path.read_bytes))
        whole, plain = _fastest(lambda: decode(content)), _fastest(lambda: decode(upright))  # noqa: B023 -- called at once
        host["decode"].append(min(whole, plain))
        # Nothing to turn: exactly nothing, and not the noise between two equal decodings.
        host["orient"].append(max(0.0, whole - plain) if upright is not content else 0.0)
        host["views"].append(_fastest(lambda: subject.prepare(image)))  # noqa: B023
        prepared.append(subject.prepare(image))
    inference: list[float] = []
    for start in range(0, len(prepared), batch_size):
        batch = prepared[start : start + batch_size]
        inference += [_fastest(lambda: subject.run(subject.collate(batch))) / len(batch)] * len(batch)  # noqa: B023
    step(f"{subject.name}: stream")
    queue, wall, results = _stream(subject, paths, batch_size, np.sum(list(host.values()), axis=0))
    output = _output(results, subject)
    samples = {**host, "queue": queue, "inference": inference, "output": [output] * len(paths)}
    facts = {**subject.facts(), "batch": batch_size, "mixed": True, "stage": True}
    for stage in STAGES:
        recorder.add(Measurement(subject.name, stage, "s", "lower", tuple(samples[stage]), facts))
    whole_facts = {**subject.facts(), "batch": batch_size, "mixed": True}
    recorder.add(Measurement(subject.name, "stream, wall time a picture", "s", "lower", (wall,), whole_facts))


def without_orientation(content: bytes) -> bytes:
    """The file with its EXIF orientation set to upright, in place; the very same object where there is none to change.

    The tag is looked for in the first 64 kB, where EXIF lies in a JPEG: entry 0x0112 of type SHORT, one value.
    """
    for order in ("<", ">"):
        entry = struct.pack(f"{order}HHI", _ORIENTATION_TAG, 3, 1)
        position = content.find(entry, 0, 1 << 16)
        if position >= 0:
            place = position + len(entry)
            (value,) = struct.unpack_from(f"{order}H", content, place)
            if 2 <= value <= 8:
                return content[:place] + struct.pack(f"{order}H", 1) + content[place + 2 :]
    return content


def _fastest(call: Callable[[], object]) -> float:
    return min(seconds(call) for _ in range(_REPEATS))


class _Watched(Backend):
    """A loaded backend that notes when each picture's batch began."""

    def __init__(self, watched: Backend) -> None:
        self.name, self.artifact, self.device = watched.name, watched.artifact, watched.device
        self.manifest, self.timing = watched.manifest, watched.timing
        self._watched = watched
        self.began: list[float] = []

    def run(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        self.began += [perf_counter()] * len(next(iter(inputs.values())))
        return self._watched.run(inputs)

    def _load(self) -> None:
        """Loaded already."""

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        return self._watched.run(inputs)


def _stream(
    subject: Subject, paths: Sequence[Path], batch_size: int, host: npt.NDArray[np.float64]
) -> tuple[list[float], float, list[Result]]:
    """Seconds each picture waited, wall seconds a picture, and the results, of one run after one that warms up."""
    list(Scorer(subject.backend).stream(paths[:1], batch_size=batch_size))
    watched = _Watched(subject.backend)
    taken: list[float] = []

    def pulled() -> Iterator[Path]:
        for path in paths:
            taken.append(perf_counter())
            yield path

    begun = perf_counter()
    results = list(Scorer(watched).stream(pulled(), batch_size=batch_size))
    wall = (perf_counter() - begun) / len(paths)
    # Order is kept, and every picture can be read: the i-th taken is the i-th to begin.
    waited = np.array(watched.began[: len(taken)]) - np.array(taken) - host
    return np.maximum(waited, 0.0).tolist(), wall, results


def _output(results: Sequence[Result], subject: Subject) -> float:
    """Seconds to write one row as CSV, the mean over all."""
    sink = io.BytesIO()
    writer = WRITERS["csv"](sink, subject.manifest.score_scale)

    def write() -> None:
        writer.begin()
        for result in results:
            writer.write(result)
        writer.end()

    return _fastest(write) / len(results)
