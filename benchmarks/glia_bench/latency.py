"""``glia-bench latency``: MLPerf's four scenarios, and a file's time split into host and engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from glia_bench import nvidia
from glia_bench.loadgen import MULTI_STREAM_SAMPLES, Load, Outcome, Scenario, Work, run_scenario
from glia_bench.measure import seconds
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import Ceilings, limit_facts
from glia_bench.subjects import Subject
from glia_runtime.decode import decode

Scope = Literal["host", "engine", "file"]

SCOPES: dict[Scope, str] = {
    "host": "decode and make the graph's inputs",
    "engine": "run the graph on inputs that lie in memory",
    "file": "from a file to its score, one after the other",
}
SCENARIOS: tuple[Scenario, ...] = ("SingleStream", "MultiStream", "Server", "Offline")
PERCENTILES = (50, 90, 99)

_VALID_QUERIES = 700
"""LoadGen's early stopping asks for 459 queries for a 99th percentile, if none is late, and 662 if one is."""
_CONFIRMATIONS = 3

Step = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        queries: fewest queries of a scenario.
        seconds: shortest run of a scenario.
        warm_up: calls before each scenario.
        trials: rates that Server tries, to find the highest that meets the bound.
        strict: whether the rate found has to be VALID to LoadGen as well, in a longer run.
    """

    queries: int
    seconds: float
    warm_up: int
    trials: int
    strict: bool


FULL = Effort(queries=100, seconds=10.0, warm_up=10, trials=6, strict=True)
QUICK = Effort(queries=10, seconds=0.5, warm_up=2, trials=4, strict=False)


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
    step: Step,
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
    works = _works(subject, paths)
    once = _warm(works["engine"], len(paths), effort.warm_up)
    rate = max_batch / _warm(lambda indices: works["engine"](indices * max_batch), 1, 1)
    for scenario in scenarios:
        step(f"{subject.name}: {scenario}")
        if scenario == "SingleStream":
            limit = _time_limit(subject, paths, 1, ceilings)
            once = _single_stream(recorder, subject, works, len(paths), effort, limit)
        elif scenario == "MultiStream":
            load = Load("MultiStream", max(3, effort.queries // 4), effort.seconds)
            outcome = run_scenario(works["engine"], len(paths), load)
            limit = _time_limit(subject, paths, MULTI_STREAM_SAMPLES, ceilings)
            recorder.add(_latencies(subject, "MultiStream engine latency", outcome, limit=limit))
        elif scenario == "Server":
            _server(recorder, subject, works["engine"], len(paths), effort, max_batch, target_seconds or 4 * once, rate)
        else:
            load = Load("Offline", 1, max(effort.seconds, 3 * max_batch / rate), max_batch, rate)
            limit = limit_facts(subject, subject.batch(paths, max_batch), ceilings)
            rate = _offline(recorder, subject, works["engine"], len(paths), load, limit)


def _time_limit(subject: Subject, paths: Sequence[Path], batch: int, ceilings: Ceilings | None) -> dict[str, Any]:
    """As `limit_facts`, whose limit is a rate: of the seconds of one query of `batch` pictures."""
    facts = limit_facts(subject, subject.batch(paths, batch), ceilings)
    return {**facts, "limit": batch / facts["limit"]} if facts else {}


def _works(subject: Subject, paths: Sequence[Path]) -> dict[Scope, Work]:
    prepared = [subject.prepare(decode(path)) for path in paths]
    singles = [subject.collate([picture]) for picture in prepared]

    def engine(indices: list[int]) -> None:
        one = len(indices) == 1
        subject.run(singles[indices[0]] if one else subject.collate([prepared[index] for index in indices]))

    def host(indices: list[int]) -> None:
        subject.collate([subject.prepare(decode(paths[index])) for index in indices])

    def file(indices: list[int]) -> None:
        subject.run(subject.collate([subject.prepare(decode(paths[index])) for index in indices]))

    return {"host": host, "engine": engine, "file": file}


def _warm(work: Work, pictures: int, times: int) -> float:
    """Call `work` once and `times` more; seconds of the fastest."""
    return min(seconds(lambda index=index: work([index % pictures])) for index in range(times + 1))  # type: ignore[misc]


def _single_stream(
    recorder: Recorder,
    subject: Subject,
    works: dict[Scope, Work],
    pictures: int,
    effort: Effort,
    limit: dict[str, Any],
) -> float:
    medians: dict[str, float] = {}
    for scope, work in works.items():
        _warm(work, pictures, effort.warm_up)
        outcome = run_scenario(work, pictures, Load("SingleStream", effort.queries, effort.seconds))
        of_engine = limit if scope == "engine" else {}
        measured = recorder.add(_latencies(subject, f"SingleStream {scope} latency", outcome, scope, limit=of_engine))
        medians[scope] = measured.median
    if subject.backend.device.startswith("cuda"):
        if nvidia.has_events():
            _cuda_events(recorder, subject, works["engine"], pictures, effort)
        else:
            recorder.note("no times by CUDA events: they need PyTorch with CUDA, and the one here has none")
    return medians["engine"]


def _cuda_events(recorder: Recorder, subject: Subject, engine: Work, pictures: int, effort: Effort) -> None:
    timer = nvidia.CudaTimer()
    samples = []
    for index in range(effort.warm_up + effort.queries):
        timer.start()
        engine([index % pictures])
        samples.append(timer.stop())
    facts = {**subject.facts(), "clock": "CUDA events around the call"}
    recorder.add(
        Measurement(
            subject.name, "engine latency by CUDA events", "s", "lower", tuple(samples[effort.warm_up :]), facts
        )
    )


def _server(
    recorder: Recorder,
    subject: Subject,
    work: Work,
    pictures: int,
    effort: Effort,
    max_batch: int,
    target: float,
    ceiling: float,
) -> None:
    """The highest rate of Poisson arrivals whose 99th percentile meets `target`, by bisection below `ceiling`."""
    trials: list[dict[str, Any]] = []

    def tried(rate: float, queries: int) -> Outcome:
        outcome = run_scenario(work, pictures, Load("Server", queries, effort.seconds, max_batch, rate, target))
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
        low, best = _confirmed(tried, low)
    facts = {**subject.facts(), "target_p99_s": target, "max_batch": max_batch, "trials": trials}
    facts["judged_by"] = "LoadGen's VALID" if effort.strict else "the bound alone, on too few queries to be VALID"
    if best is None:
        # No row: a rate of 0 was not measured either.
        bound, rates = f"{target * 1000:.1f} ms", ", ".join(f"{trial['rate']:.3g}" for trial in trials)
        recorder.note(
            f"{subject.name}: Server has no confirmed rate: {bound} was met on few queries, and LoadGen called none of "
            f"the longer runs VALID (tried: {rates} images/s); try a quieter machine, or allow more by --target-ms"
            if met
            else f"{subject.name}: Server met {bound} at none of the rates tried ({rates} images/s); allow more by "
            "--target-ms"
        )
        return
    recorder.add(Measurement(subject.name, "Server engine rate", "images/s", "higher", (low,), facts))
    # Of another rate in every run, so that there is nothing to compare.
    recorder.add(_latencies(subject, "Server engine latency", best, better="neither"))


def _confirmed(tried: Callable[[float, int], Outcome], rate: float) -> tuple[float, Outcome | None]:
    """The first of `rate` and somewhat lower ones that LoadGen calls VALID; None where none is."""
    for _ in range(_CONFIRMATIONS):
        outcome = tried(rate, _VALID_QUERIES)
        if outcome.valid:
            return rate, outcome
        rate *= 0.9
    return 0.0, None


def _offline(
    recorder: Recorder, subject: Subject, work: Work, pictures: int, load: Load, limit: dict[str, Any]
) -> float:
    outcome = run_scenario(work, pictures, load)
    # When each batch was done; the rate of each is a sample, LoadGen's overall rate a fact.
    batches = [
        outcome.latencies[start : start + load.max_batch] for start in range(0, len(outcome.latencies), load.max_batch)
    ]
    ends = [0.0, *(max(batch) for batch in batches)]
    rates = tuple(len(batch) / (end - begin) for batch, (begin, end) in zip(batches, pairwise(ends), strict=True))
    facts = {**subject.facts(), **limit, "batch": load.max_batch, "loadgen": outcome.report}
    facts["mixed"] = subject.manifest.input == "image"
    overall = float(outcome.report["result_samples_per_second"])
    recorder.add(Measurement(subject.name, "Offline engine rate", "images/s", "higher", rates, facts))
    return overall


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
    """LoadGen's percentiles where it took the samples, else those of the samples."""
    known: dict[str, float] | None = measurement.facts.get("percentiles")
    if known is not None:
        return known
    return {str(percent): float(np.percentile(measurement.samples, percent)) for percent in PERCENTILES}
