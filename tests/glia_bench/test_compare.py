"""Who lost is said only where the samples allow it; and a benchmark can lose."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.compare import FEWEST, compare_runs, machine_drift, ratio_interval
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


def test_a_machine_that_changed_widens_the_margin() -> None:
    before, after = run_of(*noisy(1.0)), run_of(*noisy(1.3, seed=1), fixed_work=(1.0,) * 5 + (1.5,) * 5)
    assert machine_drift(before, after) == pytest.approx(0.5)
    (item,), objections = compare_runs(before, after)
    assert item.verdict == "same"  # 1.3 is within the 1.5 by which the machine itself differed
    assert any("1.50 times" in line for line in objections)


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
