"""``glia-bench latency``: MLPerf's four scenarios, and a file's time split into host and engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from glia_bench import nvidia
from glia_bench.loadgen import MULTI_STREAM_SAMPLES, Load, Outcome, Scenario, Work, run_scenario
from glia_bench.measure import Say, timed
from glia_bench.recording import Recorder
from glia_bench.results import ENOUGH, VALID, Measurement
from glia_bench.roofline import Ceilings, limit_facts
from glia_bench.subjects import Subject
from glia_runtime.decode import decode

Scope = Literal["host", "engine", "file"]
"""Decoding and making the graph's inputs; the graph on inputs in memory; both, from a file to its score."""

SCENARIOS: tuple[Scenario, ...] = ("SingleStream", "MultiStream", "Server", "Offline")
PERCENTILES = (50, 90, 99)

_VALID_QUERIES = 700
"""LoadGen's early stopping asks for 459 queries for a 99th percentile, if none is late, and 662 if one is."""
_CONFIRMATIONS, _LOWER = 5, 0.85
"""Rates that a full run has judged by LoadGen at most, and each one's ratio to the one before."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        queries: fewest queries of a scenario.
        seconds: shortest run of a scenario.
        warm_up: fewest calls before each scenario; more where its batches have more shapes than that.
        warm_up_seconds: that these may take, the last one aside.
        trials: rates that Server tries, to find the highest that meets the bound.
        strict: whether LoadGen is to call the runs VALID: Server's rate has to be, in a longer run; of another scenario
            that is not the result says so.
    """

    queries: int
    seconds: float
    warm_up: int
    warm_up_seconds: float
    trials: int
    strict: bool


FULL = Effort(queries=100, seconds=10.0, warm_up=10, warm_up_seconds=20, trials=6, strict=True)
QUICK = Effort(queries=10, seconds=0.5, warm_up=2, warm_up_seconds=1, trials=4, strict=False)


def measure_latency(
    recorder: Recorder,
    subject: Subject,
    paths: Sequence[Path],
    scenarios: Sequence[Scenario],
    effort: Effort,
    *,
    max_batch: int,
    target_seconds: float | None,
    ceilings: Ceilings | None,
    step: Say,
) -> None:
    """Measure `scenarios` on `subject`: SingleStream in every scope, the others on the engine.

    Args:
        recorder: takes the measurements.
        subject: what is measured.
        paths: pictures that can be read.
        scenarios: in the order to run them.
        effort: how long.
        max_batch: most pictures in one run of the graph, in Server and Offline.
        target_seconds: Server's bound on the 99th percentile; by default four times SingleStream's median.
        ceilings: of the machine, to set the engine's times against; None where they are not known.
        step: told what begins.
    """
    if (most := subject.at_once(max_batch)) < max_batch:
        recorder.note(
            f"{subject.name}: takes {most} pictures at once, so that its Server and Offline batches end there"
        )
        max_batch = most
    bench = _Bench(recorder, subject, paths, effort, ceilings)
    once: float | None = None
    for scenario in scenarios:
        step(f"{subject.name}: {scenario}")
        if scenario == "SingleStream":
            once = _single_stream(bench)
        elif scenario == "MultiStream":
            _multi_stream(bench)
        elif scenario == "Server":
            _server(bench, max_batch, 4 * (once or bench.typical(1)) if target_seconds is None else target_seconds)
        else:
            _offline(bench, max_batch)


class _Bench:
    """A subject with its pictures in memory, and what the scenarios do with both."""

    def __init__(
        self, recorder: Recorder, subject: Subject, paths: Sequence[Path], effort: Effort, ceilings: Ceilings | None
    ) -> None:
        self.recorder, self.subject, self.effort = recorder, subject, effort
        self._paths, self._ceilings = paths, ceilings
        self._prepared = [subject.prepare(decode(path)) for path in paths]
        self._singles = [subject.collate([picture]) for picture in self._prepared]
        self.pictures = len(paths)
        self.works: dict[Scope, Work] = {"host": self._host, "engine": self.engine, "file": self._file}

    def engine(self, indices: list[int]) -> None:
        one = len(indices) == 1
        self.subject.run(
            self._singles[indices[0]] if one else self.subject.collate([self._prepared[index] for index in indices])
        )

    def _host(self, indices: list[int]) -> None:
        self.subject.collate([self.subject.prepare(decode(self._paths[index])) for index in indices])

    def _file(self, indices: list[int]) -> None:
        self.subject.run(self.subject.collate([self.subject.prepare(decode(self._paths[index])) for index in indices]))

    def warm_up(self, work: Work, sizes: Iterable[int]) -> None:
        """Call `work` on every shape that batches of these sizes have: many a library compiles for each new one.

        Whole pictures are padded to the largest of their batch: known are the shapes of files that follow one another,
        and LoadGen mixes others from them. What takes longer than the effort allows ends there.
        """
        shapes = {self._shape(batch): batch for size in sizes for batch in self._batches(size)}
        begun = perf_counter()
        for batch in islice(cycle(shapes.values()), max(len(shapes), self.effort.warm_up)):
            work(batch)
            if perf_counter() - begun > self.effort.warm_up_seconds:
                break

    def _batches(self, size: int) -> list[list[int]]:
        """Of files that follow one another, each of them in one batch at least."""
        starts = range(0, self.pictures, size)
        return [[index % self.pictures for index in range(start, start + size)] for start in starts]

    def _shape(self, batch: list[int]) -> tuple[int, ...]:
        return len(batch), *np.max([self._prepared[index][0].shape for index in batch], axis=0).tolist()

    def typical(self, size: int) -> float:
        """Median seconds of the engine on batches of `size`, once it is warm."""
        self.warm_up(self.engine, [size])
        batches = cycle(self._batches(size))
        return median(timed(lambda: self.engine(next(batches)), warm_up=0, repeats=max(3, self.effort.warm_up)))

    def run(self, name: str, work: Work, load: Load) -> Outcome:
        """Let LoadGen put `load` on `work`; where that is to be VALID and is not, say so."""
        outcome = run_scenario(work, self.pictures, load)
        if self.effort.strict and not outcome.valid:
            self.recorder.note(f"{self.subject.name}: LoadGen calls {name} INVALID: {outcome.reason}")
        return outcome

    def rate_limit(self, batch: int) -> dict[str, Any]:
        """As `limit_facts`, for batches of so many pictures."""
        return limit_facts(self.subject, self.subject.batch(self._paths, batch), self._ceilings)

    def time_limit(self, batch: int) -> dict[str, Any]:
        """As `rate_limit`, but the limit is that of the seconds of a batch."""
        facts = self.rate_limit(batch)
        return {**facts, "limit": batch / facts["limit"]} if facts else {}


def _single_stream(bench: _Bench) -> float:
    """Every scope; the median of the engine's latencies in seconds."""
    subject, effort, limit = bench.subject, bench.effort, bench.time_limit(1)
    medians: dict[Scope, float] = {}
    for scope, work in bench.works.items():
        bench.warm_up(work, [1])
        load = Load("SingleStream", effort.queries, effort.seconds)
        outcome = bench.run(f"SingleStream {scope}", work, load)
        of_engine = limit if scope == "engine" else {}
        measured = _latencies(subject, f"SingleStream {scope} latency", outcome, scope, limit=of_engine)
        medians[scope] = bench.recorder.add(measured).median
    if subject.backend.device.startswith("cuda"):
        if nvidia.has_events():
            _cuda_events(bench, limit)
        else:
            bench.recorder.note("no times by CUDA events: they need PyTorch with CUDA, and the one here has none")
    return medians["engine"]


def _cuda_events(bench: _Bench, limit: dict[str, Any]) -> None:
    timer = nvidia.CudaTimer()
    samples = []
    for index in range(bench.effort.warm_up + bench.effort.queries):
        timer.start()
        bench.engine([index % bench.pictures])
        samples.append(timer.stop())
    taken = tuple(samples[bench.effort.warm_up :])
    facts = {**bench.subject.facts(), **limit, "clock": "CUDA events around the call"}
    bench.recorder.add(Measurement(bench.subject.name, "engine latency by CUDA events", "s", "lower", taken, facts))


def _multi_stream(bench: _Bench) -> None:
    bench.warm_up(bench.engine, [MULTI_STREAM_SAMPLES])
    load = Load("MultiStream", max(3, bench.effort.queries // 4), bench.effort.seconds)
    outcome = bench.run("MultiStream", bench.engine, load)
    limit = bench.time_limit(MULTI_STREAM_SAMPLES)
    bench.recorder.add(_latencies(bench.subject, "MultiStream engine latency", outcome, limit=limit))


def _server(bench: _Bench, max_batch: int, target: float) -> None:
    """The highest rate of Poisson arrivals whose 99th percentile meets `target` (seconds): below what the engine can
    do by bisection, then, where LoadGen has to confirm it, downwards.
    """
    subject, effort = bench.subject, bench.effort
    bench.warm_up(bench.engine, range(max_batch, 0, -1))
    ceiling = max_batch / bench.typical(max_batch)
    trials: list[dict[str, Any]] = []

    def tried(rate: float, queries: int) -> Outcome:
        load = Load("Server", queries, effort.seconds, max_batch, rate, target)
        outcome = run_scenario(bench.engine, bench.pictures, load)
        p99, validity = percentiles(outcome.report)["99"], outcome.report["result_validity"]
        trials.append({"rate": rate, "p99_s": p99, "met": outcome.meets_target, "loadgen": validity})
        return outcome

    low, high = 0.0, ceiling
    best: Outcome | None = None
    # Where an eighth of what the engine can do is too much, no queue is to blame, and ever slower queries tell nothing.
    while len(trials) < effort.trials and high > ceiling / 8:
        # First well below what the engine can do, where a queue is short; then the middle of what is left.
        rate = (low + high) / 2 if trials else 0.6 * ceiling
        outcome = tried(rate, max(10, effort.queries))
        if outcome.meets_target:
            low, best = rate, outcome
        else:
            high = rate
    met = best is not None
    if met and effort.strict:
        # The 99th percentile of a hundred queries is about the slowest: what they met, 700 often miss.
        best = None
        rates = [low * _LOWER**count for count in range(_CONFIRMATIONS)]
        for rate in [rate for rate in rates if rate >= ceiling / 8] or [low]:
            if (outcome := tried(rate, _VALID_QUERIES)).valid:
                low, best = rate, outcome
                break
            high = rate
    if best is None:
        # No row: a rate of 0 was not measured either.
        bound, shown = f"{target * 1000:.1f} ms", ", ".join(f"{trial['rate']:.3g}" for trial in trials)
        bench.recorder.note(
            f"{subject.name}: Server has no confirmed rate: {bound} was met on few queries, and LoadGen called none of "
            f"the longer runs VALID (tried: {shown} images/s); try a quieter machine, or allow more by --target-ms"
            if met
            else f"{subject.name}: Server met {bound} at none of the rates tried ({shown} images/s); allow more by "
            "--target-ms"
        )
        return
    facts = {**subject.facts(), **bench.rate_limit(max_batch), "target_p99_s": target, "max_batch": max_batch}
    facts["judged_by"] = VALID if effort.strict else "the bound alone, on too few queries to be VALID"
    # The rate sought lies between this one and the next that failed, or all that the engine can do.
    facts.update(trials=trials, failed_at=high)
    bench.recorder.add(Measurement(subject.name, "Server engine rate", "images/s", "higher", (low,), facts))
    # Of another rate in every run, so that there is nothing to compare.
    bench.recorder.add(_latencies(subject, "Server engine latency", best, better="neither"))


def _offline(bench: _Bench, max_batch: int) -> None:
    subject, rate = bench.subject, max_batch / bench.typical(max_batch)
    load = Load("Offline", 1, max(bench.effort.seconds, 3 * max_batch / rate), max_batch, rate)
    outcome = bench.run("Offline", bench.engine, load)
    # When each batch was done; the rate of each is a sample, LoadGen's overall rate a fact.
    batches = [outcome.latencies[start : start + max_batch] for start in range(0, len(outcome.latencies), max_batch)]
    ends = [0.0, *(max(batch) for batch in batches)]
    rates = tuple(len(batch) / (end - begin) for batch, (begin, end) in zip(batches, pairwise(ends), strict=True))
    facts = {**subject.facts(), **bench.rate_limit(max_batch), "batch": max_batch, "loadgen": outcome.report}
    facts["mixed"] = subject.manifest.input == "image"
    bench.recorder.add(Measurement(subject.name, "Offline engine rate", "images/s", "higher", rates, facts))


def _latencies(
    subject: Subject,
    metric: str,
    outcome: Outcome,
    scope: Scope = "engine",
    better: Literal["lower", "neither"] = "lower",
    limit: Mapping[str, Any] = MappingProxyType({}),
) -> Measurement:
    # Files differ in size, and so do whole pictures; views never do. Latencies under Poisson load hold the queue.
    mixed = scope != "engine" or subject.manifest.input == "image" or better == "neither"
    facts = {
        **subject.facts(),
        **limit,
        "mixed": mixed,
        "percentiles": percentiles(outcome.report),
        "loadgen": outcome.report,
    }
    return Measurement(subject.name, metric, "s", better, outcome.latencies, facts)


def percentiles(report: dict[str, Any]) -> dict[str, float]:
    """LoadGen's own percentiles of a query's latency in seconds, {"50": ...}."""
    found = {}
    for percent in PERCENTILES:
        name = f"result_{percent:.2f}_percentile_per_query_latency_ns"  # where a query holds several samples
        if name not in report:
            name = f"result_{percent:.2f}_percentile_latency_ns"
        found[str(percent)] = report[name] / 1e9
    return found


def measured_percentiles(measurement: Measurement) -> dict[str, float]:
    """LoadGen's percentiles where it took the samples, else those of the samples; only those that these are enough for.

    The 99th of a hundred samples is their slowest, and no estimate.
    """
    found = measurement.facts.get("percentiles")
    if found is None:
        found = {str(percent): float(np.percentile(measurement.samples, percent)) for percent in PERCENTILES}
    return {key: value for key, value in found.items() if len(measurement.samples) >= ENOUGH.get(key, 1)}
