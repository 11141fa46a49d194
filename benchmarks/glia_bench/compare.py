"""Two runs side by side: the ratio of every shared quantity, how sure it is, and a verdict only where it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from glia_bench.results import ENOUGH, NOISY, VALID, Measurement, Run, drift, unsteadiness
from glia_runtime.errors import UsageError

Verdict = Literal["better", "worse", "same", "undecided", "too few samples"]

CONFIDENCE = 0.95
MARGIN = 0.02
"""Ratios within 2 % of 1 are called the same, whatever the samples say: they say how sure a run is of itself, not that
the machine was the same machine in the next one. Where the fixed work that every run times before and after, or the
samples themselves, show that it was not, a ratio within that drift has no verdict: it may be the machine's.
"""

FEWEST = 5
"""Samples on either side without which there is no interval: resampling three times says little about anything."""

MEMORY_MARGIN = 0.1
"""Ratios of peak memory this far from 1 have a verdict from one sample on either side: no other process adds to what
the kernel counts, so that there is no noise but the allocator's. The same models in two committed runs: 2071 and
2089 MB, 1520 and 1520.
"""

RATE_MARGIN = 0.4
"""The same of Server's rate under the same bound, of which a run has one sample, where LoadGen called both VALID. The
search takes 15 % off until it does: that one of two runs had to do so twice more (1 / 0.85**2 = 1.38) is no news.
"""

TAIL = 99
FEWEST_FOR_TAIL = ENOUGH["99"]
"""Samples on either side from which times are compared by their 99th percentile as well as by their median, which says
nothing of what one query in thirty waits for: what LoadGen asks for to estimate it where one query is late.
"""

_RESAMPLES = 5000
_SEED = 0  # the interval of the same two files is the same every time


@dataclass(frozen=True)
class Comparison:
    """One quantity in both runs.

    Attributes:
        subject: as in the runs, or "A -> B" where they measured different things.
        metric: the quantity; ", p99" where it is not the median of the samples that is compared.
        unit: of both.
        before: in A.
        after: in B.
        ratio: after / before; None where that is 0 in A.
        low: lower end of the ratio's interval; None where there are too few samples.
        high: upper end.
        verdict: on B.
    """

    subject: str
    metric: str
    unit: str
    before: float
    after: float
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparisons:
    """Two runs side by side.

    Attributes:
        shared: the quantities of both.
        only_before: what A alone measured, "subject, metric", and what B may not lack.
        only_after: what B alone measured.
        unconfirmed: what A alone measured under a bound: a restless machine confirms no rate under it, and no verdict
            on B follows.
        objections: what stands against comparing them.
    """

    shared: list[Comparison]
    only_before: list[str]
    only_after: list[str]
    unconfirmed: list[str]
    objections: list[str]

    def of(self, *verdicts: Verdict) -> list[Comparison]:
        """Those with one of these verdicts."""
        return [item for item in self.shared if item.verdict in verdicts]


def compare_runs(before: Run, after: Run, margin: float = MARGIN) -> Comparisons:
    """Compare every quantity that both runs measured, and name those that only one did.

    Subjects are matched by name; where each run has only one, that one, so that two backends can be compared. What the
    machine itself can do is no subject: where that changed, it is an objection.

    Raises:
        UsageError: the runs share no quantity.
    """
    pairs, gone, new = _matched(before, after)
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
    objections += _different_limits(before, after, margin, machine)
    objections += _different_facts(pairs) + _different_targets(pairs, margin)
    shared = [_compare(*pair, margin, machine, percent) for pair in pairs for percent in _percents(*pair[1:])]
    only_before = [_name(item) for item in gone if "target_p99_s" not in item.facts]
    unconfirmed = [_name(item) for item in gone if "target_p99_s" in item.facts]
    return Comparisons(shared, only_before, [_name(item) for item in new], unconfirmed, objections)


def ratio_interval(
    before: Sequence[float], after: Sequence[float], confidence: float = CONFIDENCE, percent: float = 50
) -> tuple[float, float] | None:
    """Bootstrap interval of median(after) / median(before), or of another percentile's ratio; None with under `FEWEST`
    samples on a side, or where that of `before` may be 0.

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
            lambda a, b, axis: np.percentile(b, percent, axis=axis) / np.percentile(a, percent, axis=axis),
            vectorized=True,
            paired=False,
            method="percentile",
            n_resamples=_RESAMPLES,
            confidence_level=confidence,
            rng=np.random.default_rng(_SEED),
        ).confidence_interval
    interval = float(found.low), float(found.high)
    return interval if np.isfinite(interval).all() else None


Pair = tuple[str, Measurement, Measurement]


def _matched(before: Run, after: Run) -> tuple[list[Pair], list[Measurement], list[Measurement]]:
    """What both runs measured, what A alone did, and what B alone did."""
    measured = [[item for item in run.measurements if not item.facts.get("ceiling")] for run in (before, after)]
    one_each = all(len({item.subject for item in items}) == 1 for items in measured)

    def key(item: Measurement) -> tuple[str, str, str]:
        return ("" if one_each else item.subject, item.metric, item.unit)

    # What is neither better nor worse cannot get lost either: Server's latency stands at another rate in every run.
    first, second = ({key(item): item for item in items if item.better != "neither"} for items in measured)
    pairs = []
    for name, item in first.items():
        if (other := second.get(name)) is not None:
            subject = item.subject if item.subject == other.subject else f"{item.subject} -> {other.subject}"
            pairs.append((subject, item, other))
    only_before, only_after = (
        [item for name, item in these.items() if name not in others]
        for these, others in ((first, second), (second, first))
    )
    return pairs, only_before, only_after


def _name(item: Measurement) -> str:
    return f"{item.subject}, {item.metric}"


def _percents(before: Measurement, after: Measurement) -> Sequence[int]:
    """The percentiles to compare: the median, and of many times the 99th as well."""
    has_tail = before.unit == "s" and min(len(before.samples), len(after.samples)) >= FEWEST_FOR_TAIL
    return (50, TAIL) if has_tail else (50,)


def _compare(
    subject: str, before: Measurement, after: Measurement, margin: float, machine_drift: float, percent: float = 50
) -> Comparison:
    metric = before.metric if percent == 50 else f"{before.metric}, p{percent}"
    first, second = (float(np.percentile(item.samples, percent)) for item in (before, after))
    if _is_count(before) or first <= 0:
        ratio = second / first if first > 0 else None
        verdict = _of_nothing(before, after)
        return Comparison(subject, metric, before.unit, first, second, ratio, None, None, verdict)
    ratio = second / first
    interval = ratio_interval(before.samples, after.samples, percent=percent)
    low, high = interval if interval is not None else (None, None)
    # Files of many sizes differ from half to half on the quietest machine; not the slowest of them, over and over.
    steady = [item.samples for item in (before, after) if percent > 50 or not item.facts.get("mixed")]
    beyond = max(margin, machine_drift, *(drift(samples, percent=percent) for samples in steady))
    if low is None or high is None:
        few = min(len(before.samples), len(after.samples)) < FEWEST
        verdict = "too few samples" if few else "undecided"
        enough = _enough_for_one(before, after, margin, machine_drift)
        if enough is not None and not _is_within(ratio, enough):
            verdict = _direction(before, ratio > 1)
    # Below 1 is better for a time, worse for a rate.
    elif high < 1 / (1 + beyond) or low > 1 + beyond:
        verdict = _direction(before, low > 1)
    elif beyond <= margin and _is_within(low, margin) and _is_within(high, margin):
        verdict = "same"
    else:
        verdict = "undecided"
    return Comparison(subject, metric, before.unit, first, second, ratio, low, high, verdict)


def _enough_for_one(before: Measurement, after: Measurement, margin: float, machine_drift: float) -> float | None:
    """How far from 1 a ratio has to be for a verdict from one sample on either side; None where none will do."""
    if before.unit == "bytes":
        return max(margin, MEMORY_MARGIN)
    valid = all(item.facts.get("judged_by") == VALID for item in (before, after))
    if valid and (targets := _targets(before, after)) and _is_within(targets[1] / targets[0], margin):
        return max(margin, RATE_MARGIN, machine_drift)
    return None


def _is_within(ratio: float, margin: float) -> bool:
    return 1 / (1 + margin) <= ratio <= 1 + margin


def _targets(before: Measurement, after: Measurement) -> tuple[float, float] | None:
    """Server's bounds in seconds, where both are rates under one."""
    first, second = (item.facts.get("target_p99_s") for item in (before, after))
    return (first, second) if first and second else None


def _direction(item: Measurement, is_more: bool) -> Verdict:
    return "worse" if is_more == (item.better == "lower") else "better"


def _is_count(item: Measurement) -> bool:
    """Whether it counts things (threads left), which is exact; older results do not say so."""
    named = item.unit == "" and item.metric.split(",")[0].endswith(" left")
    return bool(item.facts.get("count", named))


def _of_nothing(before: Measurement, after: Measurement) -> Verdict:
    """Of a count, or of what was 0 in A, where a ratio says nothing: whether all samples of B lie on one side of A's.

    One sample of a count will do, since it has no noise.
    """
    if min(before.samples) == max(before.samples) == min(after.samples) == max(after.samples):
        return "same"
    if not _is_count(before) and min(len(before.samples), len(after.samples)) < FEWEST:
        return "too few samples"
    if min(after.samples) > max(before.samples) or max(after.samples) < min(before.samples):
        return _direction(before, min(after.samples) > max(before.samples))
    return "undecided"


def _different_limits(before: Run, after: Run, margin: float, machine_drift: float) -> list[str]:
    """What the machine can do at most is none of glia's doing, and "of its limit" is not of the same."""
    limits = {item.metric: item for item in before.measurements if item.facts.get("ceiling")}
    compared = [
        _compare(item.subject, limits[item.metric], item, margin, machine_drift)
        for item in after.measurements
        if item.facts.get("ceiling") and item.metric in limits
    ]
    changed = [f"{item.metric} {item.ratio:.2f}" for item in compared if item.verdict in ("better", "worse")]
    return [f"the machine's own limits changed, B / A: {', '.join(changed)}"] if changed else []


def _different_facts(pairs: Sequence[Pair]) -> list[str]:
    """Of one name, and yet another file, other weights (peers), other libraries (peers), or fewer pictures."""
    found = []
    for subject, before, after in pairs:
        # The random weights of a stand-in are others in every run, and the time is that of any weights.
        is_one = before.subject == after.subject and not str(before.facts.get("weights", "")).startswith("random")
        for name in ("sha256",) * is_one + ("weights", "versions", "pictures"):
            first, second = (item.facts.get(name) for item in (before, after))
            if first is not None and second is not None and first != second:  # older results lack some
                found.append(f"{subject}: different {name}: {_shown(first, second)}")
    return list(dict.fromkeys(found))


def _shown(first: Any, second: Any) -> str:
    """Two that differ; of two dictionaries what differs in them."""
    if isinstance(first, dict) and isinstance(second, dict):
        names = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
        return ", ".join(f"{name} {_shown(first.get(name), second.get(name))}" for name in names)
    return f"{_short(first)} and {_short(second)}"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else "none" if value is None else str(value)


def _different_targets(pairs: Sequence[Pair], margin: float) -> list[str]:
    """Server's rate under another bound is another quantity: the bound follows each backend's own speed by default."""
    found = []
    for subject, before, after in pairs:
        if (targets := _targets(before, after)) and not _is_within(targets[1] / targets[0], margin):
            first, second = targets
            found.append(
                f"{subject}, {before.metric}: under different bounds, {first * 1e3:.1f} ms and {second * 1e3:.1f} ms; "
                "measure both with the same --target-ms"
            )
    return found


def _objections(before: Run, after: Run) -> list[str]:
    """What a sceptic would say first."""
    found = []
    for name in ("cpu", "cores", "gpu", "governor", "system", "python"):
        first, second = getattr(before.machine, name), getattr(after.machine, name)
        if name == "gpu":
            first, second = (gpu and gpu.get("name") for gpu in (first, second))
        if first != second:
            found.append(f"different {name}: {first} and {second}")
    # Another glia is what is compared; another onnxruntime is not.
    versions = [{**run.machine.versions, "glia": None} for run in (before, after)]
    if versions[0] != versions[1]:
        found.append(f"different versions: {_shown(*versions)}")
    first, second = before.settings, after.settings
    digests = {run.settings.get("images_sha256") for run in (before, after)}
    # What the folder is called matters only where its pictures are not known.
    known = {"models", "images_sha256"} | ({"images"} if None not in digests else set())
    if len(digests - {None}) > 1:
        found.append(f"different pictures: {first.get('images')} and {second.get('images')}")
    changed = [name for name in sorted({*first, *second} - known) if first.get(name) != second.get(name)]
    if changed:
        found.append(f"different settings: {', '.join(changed)}")
    for label, run in (("A", before), ("B", after)):
        noisy = [item for item in run.measurements if item.is_noisy]
        if noisy:
            worst = max(noisy, key=lambda item: unsteadiness(item.samples) or 0.0)
            found.append(
                f"{label} was not measured on a quiet machine: {len(noisy)} of {len(run.measurements)} measurements "
                f"vary by more than {NOISY:.0%}, most {worst.subject}, {worst.metric}, by "
                f"{unsteadiness(worst.samples):.0%}"
            )
    return found
