"""``glia-bench training``: the plain training loop against the faster ones, and whether they learn the same.

Every loop is `glia.training.run.train` itself, in a process of its own, on the same pictures with the same split.
"""

from __future__ import annotations

import csv
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console

from glia.data.synthetic import DrawnFor, SyntheticDataset
from glia.training.fit import FitConfig
from glia.training.run import RunConfig, train
from glia_bench.measure import in_fresh_process, peak_memory_bytes
from glia_bench.recording import Recorder
from glia_bench.results import Measurement

PLAIN = "plain"
_JPEG_QUALITY = 95  # a dataset's photographs are files: decoding them is a part of the plain loop


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        series: drawn, six pictures each, where no ratings are given.
        intervals: samples of the pace, after one that does not count.
        steps: optimiser steps in each.
        seeds: runs of the plain and of the fastest loop, whose results are compared.
    """

    series: int
    intervals: int
    steps: int
    seeds: int


FULL, QUICK = Effort(40, 5, 6, 3), Effort(2, 1, 1, 1)


@dataclass(frozen=True)
class Loop:
    """One way to train: its name, and what it changes.

    Attributes:
        name: what the tables call it.
        fit: fields of `FitConfig` that differ.
        cache_tokens: compute the frozen half's tokens once.
        cache_pictures: keep decoded pictures.
    """

    name: str
    fit: dict[str, Any]
    cache_tokens: bool = False
    cache_pictures: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came back: samples a second, interval by interval; seconds of the whole run; memory; SRCC at its end."""

    rates: tuple[float, ...]
    seconds: float
    memory_bytes: int
    gpu_memory_bytes: int | None
    srcc: float


def loops(precision: str, *, compiled: bool, has_tokens: bool) -> list[Loop]:
    """The plain loop, each means alone, and all of them together; where a model has tokens to keep, that too."""
    cast = {"precision": precision}
    together = {**cast, "compile": compiled}
    alone = [Loop(PLAIN, {}), Loop(precision, cast)]
    if has_tokens:
        alone.append(Loop("cached tokens", {}, cache_tokens=True))
    alone.append(Loop("cached pictures", {}, cache_pictures=True))
    if compiled:
        alone.append(Loop("compiled", {"compile": True}))
    return [*alone, Loop("all together", together, cache_tokens=has_tokens, cache_pictures=True)]


@contextmanager
def rated_pictures(root: Path | None, series: int) -> Iterator[Path]:
    """A CSV file of rated pictures: `root`, or one of drawn pictures in a temporary folder."""
    if root is not None:
        yield root
        return
    dataset = SyntheticDataset(series, seed=DrawnFor.BENCHMARK)
    with tempfile.TemporaryDirectory(prefix="glia-bench-") as folder:
        path = Path(folder) / "rated.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "score", "reference"))
            for index in range(len(dataset)):
                sample = dataset[index]
                Image.fromarray(sample.image).save(path.with_name(f"{index}.jpg"), quality=_JPEG_QUALITY)
                writer.writerow((f"{index}.jpg", sample.score, sample.reference))
        yield path


def measure_training(
    recorder: Recorder,
    chosen: Sequence[Loop],
    root: Path,
    *,
    architecture: str,
    model: dict[str, Any],
    backbone_weights: str,
    batch_size: int,
    workers: int,
    effort: Effort,
    step: Callable[[str], None],
) -> None:
    """Measure every loop, then say how much faster each is than the first, and what the first and the last learnt."""
    fit = FitConfig(
        steps=(effort.intervals + 1) * effort.steps,
        evaluate_every=effort.steps,
        batch_size=batch_size,
        workers=workers,
        select="last",
    )
    base = RunConfig(
        dataset="csv",
        root=str(root),
        architecture=architecture,
        model=model,
        backbone_weights=backbone_weights,
        fit=fit,
    )
    facts = {"architecture": architecture, "backbone": model["backbone"], "batch": batch_size, "workers": workers}
    found: dict[str, list[Outcome]] = {}
    for loop in chosen:
        seeds = effort.seeds if loop in (chosen[0], chosen[-1]) else 1
        for seed in range(seeds):
            step(f"{loop.name}, seed {seed}")
            config = replace(base, cache_tokens=loop.cache_tokens, fit=replace(fit, seed=seed, **loop.fit))
            found.setdefault(loop.name, []).append(in_fresh_process(measure_loop, config, loop.cache_pictures))
        _add(recorder, loop.name, found[loop.name], facts)
    first = found[chosen[0].name]
    for loop in chosen[1:]:
        recorder.note(f"{loop.name}: {_compared(found[loop.name][0], first[0])}")
    learnt = [
        "SRCC " + ", ".join(f"{outcome.srcc:.3f}" for outcome in found[loop.name]) for loop in (chosen[0], chosen[-1])
    ]
    recorder.note(f"learnt, by seed: {chosen[0].name} {learnt[0]}; {chosen[-1].name} {learnt[1]}")


def measure_loop(config: RunConfig, cache_pictures: bool) -> Outcome:
    """Runs in the process that is measured."""
    with tempfile.TemporaryDirectory(prefix="glia-bench-") as folder:
        out = Path(folder) / "run"
        begun = time.monotonic()
        train(config, out, Path(folder) / "cache" if cache_pictures else None, False, Console(file=io.StringIO()))
        seconds = time.monotonic() - begun
        with (out / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    return Outcome(
        tuple(float(row["samples_per_second"]) for row in rows[1:]),
        seconds,
        peak_memory_bytes(),
        torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        float(rows[-1]["srcc"]),
    )


def _add(recorder: Recorder, name: str, found: Sequence[Outcome], facts: dict[str, object]) -> None:
    recorder.add(Measurement(name, "pace of the steps", "samples/s", "higher", found[0].rates, facts))
    recorder.add(Measurement(name, "whole run", "s", "lower", tuple(o.seconds for o in found), facts))
    memory = tuple(float(outcome.memory_bytes) for outcome in found)
    recorder.add(Measurement(name, "peak memory", "bytes", "lower", memory, facts))
    if gpu := [float(o.gpu_memory_bytes) for o in found if o.gpu_memory_bytes is not None]:
        recorder.add(Measurement(name, "GPU memory", "bytes", "lower", tuple(gpu), facts))
    # Seeds draw other batches: that they differ says nothing of the machine.
    learnt = tuple(outcome.srcc for outcome in found)
    recorder.add(Measurement(name, "SRCC on the test part", "", "higher", learnt, {**facts, "mixed": True}))


def _compared(outcome: Outcome, plain: Outcome) -> str:
    def median(rates: tuple[float, ...]) -> float:
        return sorted(rates)[len(rates) // 2]

    pace = median(outcome.rates) / median(plain.rates)
    memory = outcome.memory_bytes / plain.memory_bytes
    words = f"{pace:.2f} times the pace, {memory:.2f} times the memory"
    if outcome.gpu_memory_bytes and plain.gpu_memory_bytes:
        words += f", {outcome.gpu_memory_bytes / plain.gpu_memory_bytes:.2f} times the GPU memory"
    return words
