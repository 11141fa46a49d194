"""``glia-bench memory``: peak memory of a long stream against that of a short one, and what stays open afterwards.

Each stream is a process of its own over files of 16 sizes from 40x30 to 640x480 pixels, some of them damaged. A
pipeline that keeps anything for each picture shows as a ratio above 1; a leak as threads or handles left over.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

from glia_bench.measure import in_fresh_process, peak_memory_bytes
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.subjects import Spec, Subject, open_subject

DISTINCT = 500
"""Files that are really made; a longer stream names them again."""


@dataclass(frozen=True)
class Footprint:
    """What a stream took and left: its pictures that failed, peak memory, and threads and handles more than before."""

    failed: int
    memory_bytes: int
    threads: int
    handles: int


def measure_memory(
    recorder: Recorder, subjects: Mapping[Spec, Subject], few: int, many: int, step: Callable[[str], None]
) -> None:
    """Add the footprints of a stream of `few` and of one of `many` pictures, and the ratio of their peaks."""
    with tempfile.TemporaryDirectory(prefix="glia-bench-") as folder:
        paths = make_pictures(Path(folder))
        for spec, subject in subjects.items():
            with recorder.part(subject.name):
                first, second = (_add(recorder, spec, subject, paths, count, step) for count in (few, many))
                ratio = second / first
                metric = f"peak memory, {many} pictures / {few}"
                recorder.add(Measurement(subject.name, metric, "", "lower", (ratio,), subject.facts()))
                recorder.note(f"{subject.name}: {many} pictures take {ratio:.3f} times the memory of {few}")


def _add(
    recorder: Recorder, spec: Spec, subject: Subject, paths: list[Path], count: int, step: Callable[[str], None]
) -> int:
    """Measure a stream of `count` pictures, add what it took and left, and return its peak."""
    step(f"{subject.name}: {count} pictures")
    found = in_fresh_process(stream, spec, paths, count)
    facts = {**subject.facts(), "pictures": count, "failed": found.failed}
    for metric, unit, value in (
        ("peak memory", "bytes", found.memory_bytes),
        ("threads left", "", found.threads),
        ("handles left", "", found.handles),
    ):
        sample, exact = (float(value),), {**facts, "count": unit == ""}
        recorder.add(Measurement(subject.name, f"{metric}, {count} pictures", unit, "lower", sample, exact))
    return found.memory_bytes


def make_pictures(folder: Path) -> list[Path]:
    """Write `DISTINCT` small JPEG and PNG files, every 50th cut in half."""
    paths = []
    for index in range(DISTINCT):
        side = 40 * (index % 16 + 1)
        noise = np.random.default_rng(index).integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
        path = folder / f"{index:03}.{'png' if index % 4 == 0 else 'jpg'}"
        Image.fromarray(noise).save(path)
        if index % 50 == 49:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        paths.append(path)
    return paths


def stream(spec: Spec, paths: list[Path], count: int) -> Footprint:
    """Score `count` pictures, in the process that is measured."""
    scorer = open_subject(spec).scorer()
    list(scorer.stream(paths[:16]))  # engines start their threads at the first run
    threads, handles = threading.active_count(), _handles()
    failed = sum(result.score is None for result in scorer.stream(islice(cycle(paths), count)))
    return Footprint(failed, peak_memory_bytes(), threading.active_count() - threads, _handles() - handles)


def _handles() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())
