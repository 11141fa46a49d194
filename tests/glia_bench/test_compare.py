"""Who lost is said only where the samples allow it; and a benchmark can lose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.compare import FEWEST, compare_runs, drift, ratio_interval
from glia_bench.latency import QUICK, measure_latency
from glia_bench.results import Run, write_run
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.errors import UsageError
from tests.glia_bench.subjects import SLOWER, SlowBackend, recorder, run_of, subject


def noisy(centre: float, count: int = 60, spread: float = 0.01, seed: int = 0) -> tuple[float, ...]:
    return tuple(centre * (1 + spread * np.random.default_rng(seed).standard_normal(count)))


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
    (item,), _ = compare_runs(before, run_of(*noisy(after, seed=1), better=better))  # type: ignore[arg-type]
    assert item.verdict == verdict
    assert item.low is not None and item.high is not None and item.low <= item.ratio <= item.high


def test_no_verdict_without_enough_samples() -> None:
    (item,), _ = compare_runs(run_of(*[1.0] * (FEWEST - 1)), run_of(*[9.0] * 50))
    assert (item.verdict, item.low) == ("undecided", None)


def test_no_verdict_where_the_interval_straddles_the_margin() -> None:
    (item,), _ = compare_runs(run_of(*noisy(1.0, 12, 0.3)), run_of(*noisy(1.05, 12, 0.3, seed=1)))
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
    (item,), objections = compare_runs(before, after)
    assert item.verdict == verdict  # not "same" either: 1.3 may be the machine's, and 1.0 its undoing
    assert any("1.50 times" in line and "no verdict on ratios between 0.67 and 1.50" in line for line in objections)


@pytest.mark.parametrize("mixed", [False, True])
def test_what_changed_while_it_was_measured_has_no_verdict(mixed: bool) -> None:
    """A run whose second half is 30 % slower: 10 % between the runs is nothing, however narrow the interval."""
    before, drifting = run_of(*noisy(1.0)), run_of(*noisy(1.1, 31), *noisy(1.43, 29, seed=1))
    if mixed:  # of files that differ the halves differ, too
        (slower,) = drifting.measurements
        drifting = replace(drifting, measurements=(replace(slower, facts={"mixed": True}),))
    (item,), objections = compare_runs(before, drifting)
    assert item.verdict == ("worse" if mixed else "undecided")
    assert item.low is not None and item.low > 1.02
    assert mixed or any("B was not measured on a quiet machine" in line for line in objections)


def test_no_interval_where_the_median_may_be_nothing() -> None:
    (item,), _ = compare_runs(run_of(0.0, 0.0, 1.0, 1.0, 1.0), run_of(*noisy(1.0)))
    assert (item.verdict, item.low, item.high) == ("undecided", None, None)


def test_two_backends_are_matched_where_each_run_has_one() -> None:
    (item,), _ = compare_runs(run_of(*noisy(1.0), subject="a"), run_of(*noisy(1.0), subject="b"))
    assert item.subject == "a -> b"


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
        step=lambda step: None,
    )
    return recording.finish()


def test_a_slow_backend_is_caught(views_artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    fast, slow = tmp_path / "fast.json", tmp_path / "slow.json"
    write_run(_latency(views_artifact, OnnxRuntimeBackend, photographs), fast)
    write_run(_latency(views_artifact, SlowBackend, photographs), slow)
    caught = CliRunner().invoke(app, ["compare", str(fast), str(slow), "--check"])
    assert caught.exit_code == 1, caught.output
    (row,) = [line for line in caught.stdout.splitlines() if "SingleStream engine latency" in line]
    assert row.endswith("worse")
    ratio = float(row.split(" to ")[0].split()[-2])
    assert ratio > SLOWER / 3  # six times the work cannot look like a third of that, on a busy machine either
    # The other way round that row is better; of the status nothing is asked, since a busy machine may slow the rest.
    swapped = CliRunner().invoke(app, ["compare", str(slow), str(fast)])
    (row,) = [line for line in swapped.stdout.splitlines() if "SingleStream engine latency" in line]
    assert row.endswith("better")
