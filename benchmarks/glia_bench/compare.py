"""Two runs side by side: the ratio of every shared quantity, how sure it is, and a verdict only where it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glia_bench.results import NOISY, Measurement, Run
from glia_runtime.errors import UsageError

Verdict = Literal["better", "worse", "same", "undecided"]

CONFIDENCE = 0.95
MARGIN = 0.02
"""Ratios within 2 % of 1 are called the same, whatever the samples say: they say how sure a run is of itself, not that
the machine was the same machine in the next one. Where the fixed work that every run times before and after, or the
samples themselves, show that it was not, a ratio within that drift has no verdict: it may be the machine's.
"""

FEWEST = 5
"""Samples on either side without which there is no interval: resampling three times says little about anything."""

_RESAMPLES = 5000
_SEED = 0  # the interval of the same two files is the same every time


@dataclass(frozen=True)
class Comparison:
    """One quantity in both runs.

    Attributes:
        subject: as in the runs, or "A -> B" where they measured different things.
        metric: the quantity.
        unit: of both medians.
        before: median in A.
        after: median in B.
        ratio: after / before.
        low: lower end of the ratio's interval; None where there are too few samples.
        high: upper end.
        verdict: on B.
    """

    subject: str
    metric: str
    unit: str
    before: float
    after: float
    ratio: float
    low: float | None
    high: float | None
    verdict: Verdict


def compare_runs(before: Run, after: Run, margin: float = MARGIN) -> tuple[list[Comparison], list[str]]:
    """Compare every quantity that both runs measured; also return what stands against comparing them.

    Subjects are matched by name; where each run has only one, that one, so that two backends can be compared.

    Raises:
        UsageError: the runs share no quantity.
    """
    pairs = _matched(before, after)
    if not pairs:
        raise UsageError(
            "the two results share no measurement; compare two runs of the same command "
            f"(these are {before.command} and {after.command})"
        )
    machine = drift(before.fixed_work, after.fixed_work)
    objections = _objections(before, after)
    if machine > margin:
        objections.append(
            f"the machine changed: the same fixed work took up to {1 + machine:.2f} times as long; "
            f"no verdict on ratios between {1 / (1 + machine):.2f} and {1 + machine:.2f}"
        )
    return [_compare(*pair, margin, machine) for pair in pairs], objections


def drift(*series: Sequence[float]) -> float:
    """How far the medians of the halves of these series lie apart: largest over smallest, less 1.

    Half by half, because a machine that changes while it is measured leaves samples that depend on one another, and
    an interval that takes them for independent is too narrow.
    """
    medians = [float(np.median(half)) for samples in series for half in np.array_split(samples, 2) if len(half)]
    return max(medians) / min(medians) - 1 if medians and min(medians) > 0 else 0.0


def ratio_interval(
    before: Sequence[float], after: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Bootstrap interval of median(after) / median(before); None with under `FEWEST` samples on a side,
    or where median(before) may be 0.

    The percentile interval, because the median has no jackknife for BCa to correct by (Efron and Tibshirani, 1993,
    section 11.6).
    """
    from scipy.stats import bootstrap

    if min(len(before), len(after)) < FEWEST:
        return None
    first, second = np.asarray(before, float), np.asarray(after, float)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # A side whose samples are all equal (bytes) has an interval of no width, which is right here.
        warnings.filterwarnings("ignore", message="The BCa|.*[Dd]egenerate")
        found = bootstrap(
            (first, second),
            lambda a, b, axis: np.median(b, axis=axis) / np.median(a, axis=axis),
            vectorized=True,
            paired=False,
            method="percentile",
            n_resamples=_RESAMPLES,
            confidence_level=confidence,
            rng=np.random.default_rng(_SEED),
        ).confidence_interval
    interval = float(found.low), float(found.high)
    return interval if np.isfinite(interval).all() else None


def _matched(before: Run, after: Run) -> list[tuple[str, Measurement, Measurement]]:
    one_each = len(before.subjects()) == len(after.subjects()) == 1
    found = {(item.subject if not one_each else "", item.metric): item for item in after.measurements}
    pairs = []
    for item in before.measurements:
        other = found.get((item.subject if not one_each else "", item.metric))
        if other is None or other.unit != item.unit or item.better == "neither" or item.median <= 0:
            continue
        name = item.subject if item.subject == other.subject else f"{item.subject} -> {other.subject}"
        pairs.append((name, item, other))
    return pairs


def _compare(subject: str, before: Measurement, after: Measurement, margin: float, machine_drift: float) -> Comparison:
    interval = ratio_interval(before.samples, after.samples)
    low, high = interval if interval is not None else (None, None)
    # Files of many sizes differ from half to half on the quietest machine.
    steady = [item.samples for item in (before, after) if not item.facts.get("mixed")]
    beyond = max(margin, machine_drift, *(drift(samples) for samples in steady))
    verdict: Verdict = "undecided"
    if low is not None and high is not None:
        # Below 1 is better for a time, worse for a rate.
        if high < 1 / (1 + beyond):
            verdict = "better" if before.better == "lower" else "worse"
        elif low > 1 + beyond:
            verdict = "worse" if before.better == "lower" else "better"
        elif beyond <= margin and low >= 1 / (1 + margin) and high <= 1 + margin:
            verdict = "same"
    ratio = after.median / before.median
    return Comparison(subject, before.metric, before.unit, before.median, after.median, ratio, low, high, verdict)


def _objections(before: Run, after: Run) -> list[str]:
    """What a sceptic would say first."""
    found = []
    for name in ("cpu", "cores", "gpu", "governor", "system"):
        first, second = getattr(before.machine, name), getattr(after.machine, name)
        if name == "gpu":
            first, second = (gpu and gpu.get("name") for gpu in (first, second))
        if first != second:
            found.append(f"different {name}: {first} and {second}")
    changed = [
        name
        for name in sorted({*before.settings, *after.settings} - {"models"})
        if before.settings.get(name) != after.settings.get(name)
    ]
    if changed:
        found.append(f"different settings: {', '.join(changed)}")
    for label, run in (("A", before), ("B", after)):
        noisy = [item for item in run.measurements if item.is_noisy]
        if noisy:
            worst = max(noisy, key=lambda item: item.variation or 0)
            found.append(
                f"{label} was not measured on a quiet machine: {len(noisy)} of {len(run.measurements)} measurements "
                f"vary by more than {NOISY:.0%}, most {worst.subject}, {worst.metric}, by {worst.variation:.0%}"
            )
    return found
