"""``glia-bench throughput``: pictures a second over batch size, cores and kind of graph input; memory and energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from glia_bench import nvidia
from glia_bench.energy import joules
from glia_bench.measure import in_fresh_process, peak_memory_bytes, timed
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import Ceilings, limit_facts
from glia_bench.subjects import Spec, Subject, open_subject

WARM_UP = 2


@dataclass(frozen=True)
class Effort:
    """How long to measure a setting: fewest runs of the graph, and fewest seconds."""

    repeats: int
    seconds: float


FULL, QUICK = Effort(20, 5.0), Effort(5, 0.3)


@dataclass(frozen=True)
class Setting:
    """One point of the sweep, measured in a process of its own."""

    spec: Spec
    batch: int
    cores: int


@dataclass(frozen=True)
class Point:
    """What came back: seconds of every run, and of the process its peak memory and of all runs the energy."""

    seconds: tuple[float, ...]
    memory_bytes: int
    gpu_memory_bytes: int | None
    joules: float | None


def measure_throughput(
    recorder: Recorder,
    subjects: Mapping[Spec, Subject],
    paths: Sequence[Path],
    batches: Sequence[int],
    cores: Sequence[int],
    effort: Effort,
    ceilings: Ceilings | None,
    step: Callable[[str], None],
) -> None:
    """Measure every combination; one that cannot run is a remark, and the others go on."""
    for (spec, subject), count, batch in product(subjects.items(), cores, batches):
        step(f"{subject.name}: batch {batch}, {count} cores")
        setting = Setting(spec, batch, count)
        with recorder.part(f"{subject.name}, batch {batch}, {count} cores"):
            point = in_fresh_process(measure_setting, setting, list(paths), effort, cores=count)
            # The limits are those of all cores.
            whole = count == recorder.machine.cores
            limit = limit_facts(subject, subject.batch(paths, batch), ceilings) if whole else {}
            _add(recorder, subject, setting, point, limit)


def measure_setting(setting: Setting, paths: Sequence[Path], effort: Effort) -> Point:
    """Runs in the process that is measured."""
    before = nvidia.memory_bytes()
    subject = open_subject(setting.spec)
    inputs = subject.batch(paths, setting.batch)
    timed(lambda: subject.run(inputs), warm_up=WARM_UP, repeats=1)
    taken = joules()
    samples = timed(lambda: subject.run(inputs), warm_up=0, repeats=effort.repeats, at_least=effort.seconds)
    after, used = joules(), nvidia.memory_bytes()
    return Point(
        samples,
        peak_memory_bytes(),
        used - before if used is not None and before is not None else None,
        after - taken if after is not None and taken is not None and after > taken else None,
    )


def _add(recorder: Recorder, subject: Subject, setting: Setting, point: Point, limit: dict[str, object]) -> None:
    facts = {**subject.facts(), "batch": setting.batch, "cores": setting.cores}
    facts["at_once"] = subject.at_once(setting.batch)
    where = f"{subject.batch_title(setting.batch)}, {setting.cores} cores"
    rates = tuple(setting.batch / sample for sample in point.seconds)
    recorder.add(Measurement(subject.name, f"rate, {where}", "images/s", "higher", rates, {**facts, **limit}))
    # Of the whole process, interpreter and libraries included; the fresh process has held nothing else.
    memory = (float(point.memory_bytes),)
    recorder.add(Measurement(subject.name, f"peak memory, {where}", "bytes", "lower", memory, facts))
    if point.gpu_memory_bytes is not None:
        memory = (float(point.gpu_memory_bytes),)
        recorder.add(Measurement(subject.name, f"GPU memory, {where}", "bytes", "lower", memory, facts))
    if point.joules is not None:
        each = (point.joules / (setting.batch * len(point.seconds)),)
        recorder.add(Measurement(subject.name, f"energy a picture, {where}", "J", "lower", each, facts))
