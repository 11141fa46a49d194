"""Who lost is said only where the samples allow it; and a benchmark can lose."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.compare import FEWEST, FEWEST_FOR_TAIL, Comparison, compare_runs, ratio_interval
from glia_bench.latency import QUICK, measure_latency
from glia_bench.results import VALID, Measurement, Run, drift, write_run
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.errors import UsageError
from tests.glia_bench.subjects import SLOWER, SlowBackend, recorder, run_of, subject


def noisy(centre: float, count: int = 60, spread: float = 0.01, seed: int = 0) -> tuple[float, ...]:
    return tuple(centre * (1 + spread * np.random.default_rng(seed).standard_normal(count)))


def shared(before: Run, after: Run) -> list[Comparison]:
    return compare_runs(before, after).shared


def measured(*samples: float, metric: str = "threads left, 100 pictures", unit: str = "", **facts: object) -> Run:
    items = (Measurement("one", metric, unit, "lower", samples, facts),)
    return replace(run_of(1.0), measurements=items)


@pytest.mark.parametrize(
    ("after", "better", "verdict"),
    [
        (1.3, "lower", "worse"),
        (1.3, "higher", "better"),
        (0.7, "lower", "better"),
        (0.7, "higher", "worse"),
        (1.001, "lower", "same"),
    ],
)
def test_the_verdict(after: float, better: str, verdict: str) -> None:
    before = run_of(*noisy(1.0), better=better)  # type: ignore[arg-type]
    (item,) = shared(before, run_of(*noisy(after, seed=1), better=better))  # type: ignore[arg-type]
    assert item.verdict == verdict
    assert item.low is not None and item.high is not None and item.ratio is not None
    assert item.low <= item.ratio <= item.high


def test_no_verdict_without_enough_samples() -> None:
    (item,) = shared(run_of(*[1.0] * (FEWEST - 1)), run_of(*[9.0] * 50))
    assert (item.verdict, item.low) == ("too few samples", None)


def test_no_verdict_where_the_interval_straddles_the_margin() -> None:
    (item,) = shared(run_of(*noisy(1.0, 12, 0.3)), run_of(*noisy(1.05, 12, 0.3, seed=1)))
    assert item.verdict == "undecided"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    trials, covered = 150, 0
    for _ in range(trials):
        before, after = rng.lognormal(0, 0.2, 40), 1.1 * rng.lognormal(0, 0.2, 40)
        interval = ratio_interval(list(before), list(after))
        assert interval is not None
        covered += interval[0] <= 1.1 <= interval[1]
    # 95 % of 150 is 142; the percentile interval of a median is known to be a little wide or narrow. Four standard
    # deviations of a binomial (2.7) below, and never all but impossible above.
    assert 131 <= covered <= trials


@pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "undecided"), (1.3, "undecided"), (1.8, "worse")])
def test_what_a_changed_machine_can_explain_has_no_verdict(ratio: float, verdict: str) -> None:
    before, after = run_of(*noisy(1.0)), run_of(*noisy(ratio, seed=1), fixed_work=(1.0,) * 5 + (1.5,) * 5)
    assert drift(before.fixed_work, after.fixed_work) == pytest.approx(0.5)
    found = compare_runs(before, after)
    (item,), objections = found.shared, found.objections
    assert item.verdict == verdict  # not "same" either: 1.3 may be the machine's, and 1.0 its undoing
    assert any("1.50 times" in line and "no verdict on ratios between 0.67 and 1.50" in line for line in objections)


@pytest.mark.parametrize("mixed", [False, True])
def test_what_changed_while_it_was_measured_has_no_verdict(mixed: bool) -> None:
    """A run whose second half is 30 % slower: 10 % between the runs is nothing, however narrow the interval."""
    before, drifting = run_of(*noisy(1.0)), run_of(*noisy(1.1, 31), *noisy(1.43, 29, seed=1))
    if mixed:  # of files that differ the halves differ, too
        (slower,) = drifting.measurements
        drifting = replace(drifting, measurements=(replace(slower, facts={"mixed": True}),))
    found = compare_runs(before, drifting)
    (item,), objections = found.shared, found.objections
    assert item.verdict == ("worse" if mixed else "undecided")
    assert item.low is not None and item.low > 1.02
    assert mixed or any("B was not measured on a quiet machine" in line for line in objections)


def test_no_interval_where_the_median_may_be_nothing() -> None:
    (item,) = shared(run_of(0.0, 0.0, 1.0, 1.0, 1.0), run_of(*noisy(1.0)))
    assert (item.verdict, item.low, item.high) == ("undecided", None, None)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0.0, 3.0, "worse"), (0.0, 0.0, "same"), (3.0, 0.0, "better"), (3.0, 3.0, "same"), (1.0, 2.0, "worse")],
)
def test_a_count_is_exact(before: float, after: float, verdict: str) -> None:
    (item,) = shared(measured(before, metric="things", count=True), measured(after, metric="things", count=True))
    assert (item.verdict, item.low) == (verdict, None)
    (item,) = shared(measured(before), measured(after))  # the metric alone says it in older results
    assert (item.verdict, item.low) == (verdict, None)


def test_what_was_nothing_in_every_sample_and_is_something_in_every_one_is_worse() -> None:
    before = measured(*[0.0] * 8, metric="|difference|", unit="score")
    (item,) = shared(before, measured(*noisy(3.0, 8), metric="|difference|", unit="score"))
    assert (item.verdict, item.ratio) == ("worse", None)
    (item,) = shared(before, measured(0.0, *noisy(3.0, 8), metric="|difference|", unit="score"))
    assert item.verdict == "undecided"


@pytest.mark.parametrize(("after", "verdict"), [(1.3e9, "worse"), (1.05e9, "too few samples"), (0.7e9, "better")])
def test_peak_memory_is_judged_by_one_sample_beyond_its_margin(after: float, verdict: str) -> None:
    before = measured(1e9, metric="peak memory", unit="bytes")
    (item,) = shared(before, measured(after, metric="peak memory", unit="bytes"))
    assert item.verdict == verdict
    (item,) = shared(measured(1.0, metric="cold start", unit="s"), measured(9.0, metric="cold start", unit="s"))
    assert item.verdict == "too few samples"  # of a time one sample says nothing


def rate_under(bound: float, value: float, judged_by: str = VALID) -> Run:
    facts = {"target_p99_s": bound, "judged_by": judged_by}
    return replace(
        run_of(1.0), measurements=(Measurement("one", "Server rate", "images/s", "higher", (value,), facts),)
    )


@pytest.mark.parametrize(
    ("after", "bound", "verdict"),
    [(5.0, 0.04, "worse"), (20.0, 0.04, "better"), (7.3, 0.04, "too few samples"), (5.0, 0.05, "too few samples")],
)
def test_a_server_rate_is_judged_by_one_sample_beyond_what_the_search_resolves(
    after: float, bound: float, verdict: str
) -> None:
    (item,) = shared(rate_under(0.04, 10.0), rate_under(bound, after))
    assert item.verdict == verdict
    (item,) = shared(rate_under(0.04, 10.0), rate_under(bound, after, "the bound alone"))
    assert item.verdict == "too few samples"  # of a few queries one hiccup decides
    slowed = replace(rate_under(0.04, 5.0), fixed_work=(2.5,) * 10)  # half of the rate, of less than half the machine
    (item,) = shared(rate_under(0.04, 10.0), slowed)
    assert item.verdict == "too few samples"


def with_tail(part: float, seed: int) -> tuple[float, ...]:
    """Times of which so many take 50 times as long, here and there."""
    rng = np.random.default_rng(seed)
    times = (1 + 0.01 * rng.standard_normal(1000)) * np.where(rng.random(1000) < part, 50.0, 1.0)
    return tuple(times.tolist())


@pytest.mark.parametrize(("part", "verdict"), [(0.0, "same"), (0.03, "worse")])
def test_a_slow_tail_loses_where_the_median_is_the_same(part: float, verdict: str) -> None:
    median, tail = shared(run_of(*with_tail(0.0, 0)), run_of(*with_tail(part, 1)))
    assert (median.metric, median.verdict) == ("latency", "same")
    assert (tail.metric, tail.verdict) == ("latency, p99", verdict)
    assert tail.ratio == pytest.approx(49 if part else 1, rel=0.05)


def test_a_tail_has_a_verdict_only_where_it_is_known_and_lasts() -> None:
    few = with_tail(0.03, 0)[: FEWEST_FOR_TAIL - 1]
    assert [item.metric for item in shared(run_of(*few), run_of(*with_tail(0.0, 1)))] == ["latency"]
    once = (*with_tail(0.0, 1)[:970], *[50.0] * 30)  # one interruption, at the end
    assert shared(run_of(*with_tail(0.0, 0)), run_of(*once))[1].verdict == "undecided"
    rates = (run_of(*with_tail(0.03, seed), unit="images/s", better="higher") for seed in (0, 1))
    assert len(shared(*rates)) == 1  # of a rate the slow end is the low one


def test_what_only_one_run_has_is_named_and_what_is_gone_fails_the_check(tmp_path: Path) -> None:
    whole = run_of(*noisy(1.0))
    extra = Measurement("one", "rate", "images/s", "higher", (1.0,))
    more = replace(whole, measurements=(*whole.measurements, extra))
    write_run(more, tmp_path / "more.json")
    write_run(whole, tmp_path / "less.json")
    files = [str(tmp_path / name) for name in ("more.json", "less.json")]
    gone = CliRunner().invoke(app, ["compare", *files, "--check"])
    assert gone.exit_code == 1 and "only in A: one, rate" in gone.stderr and "lacks 1 quantities" in gone.stderr
    assert CliRunner().invoke(app, ["compare", *files]).exit_code == 0
    new = CliRunner().invoke(app, ["compare", *reversed(files), "--check"])
    assert new.exit_code == 0 and "only in B: one, rate" in new.stderr


def test_a_server_rate_that_was_not_confirmed_has_no_verdict(tmp_path: Path) -> None:
    without = run_of(*noisy(1.0))
    rate = Measurement("one", "Server engine rate", "images/s", "higher", (5.0,), {"target_p99_s": 0.04})
    write_run(replace(without, measurements=(*without.measurements, rate)), tmp_path / "a.json")
    write_run(without, tmp_path / "b.json")
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--check"])
    assert done.exit_code == 0 and "only in A: one, Server engine rate; no verdict" in done.stderr


def test_rates_under_different_bounds_are_objected_to() -> None:
    first, second = (measured(5.0, metric="Server engine rate", unit="images/s", target_p99_s=t) for t in (0.04, 0.08))
    (objection,) = compare_runs(first, second).objections
    assert "40.0 ms and 80.0 ms" in objection and "--target-ms" in objection
    assert not compare_runs(first, first).objections


def test_two_backends_are_matched_where_each_run_has_one() -> None:
    (item,) = shared(run_of(*noisy(1.0), subject="a"), run_of(*noisy(1.0), subject="b"))
    assert item.subject == "a -> b"


def beside_ceiling(run: Run, peak: float) -> Run:
    """With what the machine can do at most, as latency and roofline keep it."""
    rates = tuple(peak * sample for sample in noisy(1.0, 20))
    ceiling = Measurement("this machine", "fp32 matrix product", "FLOP/s", "higher", rates, {"ceiling": True})
    return replace(run, measurements=(ceiling, *run.measurements))


def test_the_limits_of_the_machine_are_no_subject(tmp_path: Path) -> None:
    before, after = run_of(*noisy(1.0), subject="a"), run_of(*noisy(1.0, seed=1), subject="b")
    same = compare_runs(beside_ceiling(before, 1e9), beside_ceiling(after, 1e9))
    assert [item.subject for item in same.shared] == ["a -> b"] and not same.objections
    assert not same.only_before and not same.only_after
    slower = compare_runs(beside_ceiling(before, 1e9), beside_ceiling(after, 0.7e9))
    assert [item.verdict for item in slower.shared] == ["same"]
    assert slower.objections == ["the machine's own limits changed, B / A: fp32 matrix product 0.70"]
    assert not compare_runs(before, beside_ceiling(after, 1e9)).only_after  # older results lack them


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"sha256": "a" * 64}, {"sha256": "b" * 64}, "one: different sha256: aaaaaaaaaaaa and bbbbbbbbbbbb"),
        ({"weights": "its own"}, {"weights": "random"}, "one: different weights: its own and random"),
        ({"versions": {"pyiqa": "1", "torch": "2"}}, {"versions": {"torch": "2"}}, "versions: pyiqa 1 and none"),
        ({"pictures": 16}, {"pictures": 1}, "one: different pictures: 16 and 1"),
        ({"sha256": "a"}, {}, None),  # older results lack it
        ({"sha256": "a", "weights": "random"}, {"sha256": "b", "weights": "random"}, None),  # in every run others
    ],
)
def test_another_thing_of_the_same_name_is_objected_to(
    first: dict[str, Any], second: dict[str, Any], said: str | None
) -> None:
    found = compare_runs(measured(1.0, **first), measured(1.0, **second))
    assert len(found.objections) == (said is not None)
    assert said is None or found.objections[0].endswith(said)


def test_other_versions_and_pictures_are_objected_to() -> None:
    one = run_of(*noisy(1.0))
    versions = {**one.machine.versions, "onnxruntime": "9.9", "glia": "9.9"}  # another glia is what is compared
    (objection,) = compare_runs(one, replace(one, machine=replace(one.machine, versions=versions))).objections
    assert objection.startswith("different versions: onnxruntime ") and objection.endswith(" and 9.9")
    photos, moved, others = (
        replace(one, settings={"images": f"2 of {name}", "images_sha256": digest})
        for name, digest in (("photos", "1"), ("moved", "1"), ("photos", "2"))
    )
    assert compare_runs(photos, moved).objections == []
    assert compare_runs(photos, others).objections == ["different pictures: 2 of photos and 2 of photos"]
    older = replace(one, settings={"images": "2 of photos"})
    assert compare_runs(older, moved).objections == ["different settings: images"]
    assert compare_runs(older, photos).objections == []


def test_runs_that_share_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="share no measurement"):
        compare_runs(run_of(1.0, unit="s"), run_of(1.0, unit="bytes"))


def _latency(artifact: Path, backend: type[OnnxRuntimeBackend], photographs: list[Path]) -> Run:
    recording = recorder(command="latency")
    measure_latency(
        recording,
        subject(artifact, backend),
        photographs,
        ["SingleStream"],
        QUICK,
        max_batch=4,
        target_seconds=None,
        ceilings=None,
        step=lambda step: None,
    )
    return recording.finish()


def test_a_slow_backend_is_caught(views_artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    fast, slow = tmp_path / "fast.json", tmp_path / "slow.json"
    write_run(_latency(views_artifact, OnnxRuntimeBackend, photographs), fast)
    write_run(_latency(views_artifact, SlowBackend, photographs), slow)
    caught = CliRunner().invoke(app, ["compare", str(fast), str(slow), "--check"])
    assert caught.exit_code == 1, caught.output
    (row,) = [line for line in caught.stdout.splitlines() if "SingleStream engine latency  " in line]
    assert row.endswith("worse")
    ratio = float(row.split(" to ")[0].split()[-2])
    assert ratio > SLOWER / 3  # six times the work cannot look like a third of that, on a busy machine either
    # The other way round that row is better; of the status nothing is asked, since a busy machine may slow the rest.
    swapped = CliRunner().invoke(app, ["compare", str(slow), str(fast)])
    (row,) = [line for line in swapped.stdout.splitlines() if "SingleStream engine latency  " in line]
    assert row.endswith("better")
