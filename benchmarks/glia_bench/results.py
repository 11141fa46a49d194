"""One form for everything that glia-bench measures: JSON with the machine, the settings and every sample.

A figure that was summed up can no longer be doubted properly, so nothing is summed up here: a measurement keeps the
samples in the order in which they were taken, and whoever reads them (`compare`, the tables) computes from those.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glia_bench.machine import Machine
from glia_runtime.errors import UsageError
from glia_runtime.strict_json import JsonError, from_jsonable, parse_object, to_jsonable

SCHEMA = "glia-bench/1"

Better = Literal["lower", "higher", "neither"]

NOISY = 0.05
"""Unsteadiness above which a machine is not called quiet, see `unsteadiness`. trtexec warns at a coefficient of
variation of 0.025 of GPU time; on an idle CPU we saw 0.01 to 0.03.
"""

VALID = "LoadGen's VALID"
"""What a Server rate was judged by, where it is more than a guess from few queries."""

ENOUGH = {"90": 64, "99": 662}
"""Fewest samples from which LoadGen estimates a percentile; of fewer it says that they are not enough."""


def drift(*series: Sequence[float], percent: float = 50) -> float:
    """How far the medians (or another percentile) of the halves of these series lie apart: largest over smallest,
    less 1.

    Half by half, because a machine that changes while it is measured leaves samples that depend on one another, and
    an interval that takes them for independent is too narrow.
    """
    halves = [
        half for samples in series for half in (samples[: (len(samples) + 1) // 2], samples[(len(samples) + 1) // 2 :])
    ]
    levels = [float(np.percentile(half, percent)) for half in halves if half]
    return max(levels) / min(levels) - 1 if levels and min(levels) > 0 else 0.0


def unsteadiness(*series: Sequence[float]) -> float | None:
    """The larger of the drift of these series and of their spread; None for under three samples or a median of 0.

    The spread is half of what lies between the 16th and the 84th percentile, over the median: of normal samples the
    coefficient of variation. Not the standard deviation, which a few outliers decide: in a committed run 13 of 120
    products of a millisecond took two to seven times as long, a deviation of 81 %, where the spread was 6 %. Such
    interruptions move no median. Nor the median distance from the median, which does not see what slows just under
    half of the samples.
    """
    samples = [sample for each in series for sample in each]
    middle = statistics.median(samples) if samples else 0.0
    if len(samples) < 3 or not middle:
        return None
    low, high = np.percentile(samples, (16, 84))
    return max(float(high - low) / 2 / abs(middle), drift(*series))


@dataclass(frozen=True)
class Measurement:
    """One quantity, measured once or many times on one subject.

    Attributes:
        subject: what was measured: an artifact with its backend, a peer, a form of the operator.
        metric: which quantity, under which settings; unique for a subject within a run.
        unit: of the samples: "s", "images/s", "bytes", "J", "score", "FLOP/s", "bytes/s", "".
        better: which way is better, so that a comparison knows who lost.
        samples: every one, in order, the warm-up left out.
        facts: what else is known of it: the settings, what a library reported.
    """

    subject: str
    metric: str
    unit: str
    better: Better
    samples: tuple[float, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Half of the samples are below."""
        return statistics.median(self.samples)

    @property
    def is_noisy(self) -> bool:
        """Whether the samples, if they are to be equal, say that the machine was not quiet.

        Times of files differ because files do: such a measurement says so by the fact ``mixed``.
        """
        return not self.facts.get("mixed") and (unsteadiness(self.samples) or 0.0) > NOISY


@dataclass(frozen=True)
class Run:
    """One call of a command: where, with what, and all that came out."""

    command: str
    created: str
    """UTC, ISO 8601."""
    machine: Machine
    settings: dict[str, Any]
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()
    """Warnings and what was left out, one line each; part of the result."""
    fixed_work: tuple[float, ...] = ()
    """Seconds of one small matrix product, over and over, before and after: how quiet the machine was."""
    schema: str = SCHEMA

    def to_json(self) -> str:
        """JSON text, indented, but with the samples of a measurement on one line."""
        plain = to_jsonable(self)
        samples = [measurement.pop("samples") for measurement in plain["measurements"]]
        for index, measurement in enumerate(plain["measurements"]):
            measurement["samples"] = f"@samples {index}@"
        text = json.dumps(plain, indent=1, allow_nan=False)
        for index, values in enumerate(samples):
            text = text.replace(f'"@samples {index}@"', json.dumps(values), 1)
        return text + "\n"

    def subjects(self) -> list[str]:
        """Each subject once, in order."""
        return list(dict.fromkeys(measurement.subject for measurement in self.measurements))


def read_run(path: str | Path) -> Run:
    """Read what `write_run` wrote.

    Raises:
        UsageError: no such file, or not a result of this version of glia-bench.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); name a result of glia-bench") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a result of glia-bench (not UTF-8 text)") from error
    try:
        fields = parse_object(text)
        if fields.get("schema") != SCHEMA:
            raise JsonError(f"its schema is {fields.get('schema')!r}, this glia-bench reads {SCHEMA!r}")
        run = from_jsonable(Run, fields)
        for index, measurement in enumerate(run.measurements):
            _check_samples(measurement.samples, f"measurements[{index}].samples")
    except JsonError as error:
        raise UsageError(f"{path}: not a result of glia-bench ({error}); measure again") from error
    return run


def _check_samples(samples: tuple[float, ...], where: str) -> None:
    if not samples:
        raise JsonError(f"{where} is empty")


def write_run(run: Run, path: str | Path) -> None:
    """Write `run` as JSON."""
    Path(path).write_text(run.to_json(), encoding="utf-8")


def write_csv(run: Run, path: str | Path) -> None:
    """Write one row for every sample, so that a spreadsheet can doubt the medians."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["command", "subject", "metric", "unit", "better", "index", "sample"])
    for item in run.measurements:
        for index, sample in enumerate(item.samples):
            writer.writerow([run.command, item.subject, item.metric, item.unit, item.better, index, repr(sample)])
    Path(path).write_text(sink.getvalue(), encoding="utf-8")
