"""Figures of agreement against formulas written out, and against what published programs compute."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from glia.evaluation.metrics import (
    agreement,
    bootstrap_interval,
    fit_logistic,
    krcc,
    plcc,
    plcc_fitted,
    rmse,
    rmse_fitted,
    srcc,
    summarise_splits,
)

Numbers = npt.NDArray[np.float64]
numbers = st.lists(st.integers(-5, 5), min_size=3, max_size=30)


@settings(deadline=None)  # a search takes some milliseconds, on a busy machine more
@given(numbers, st.randoms(use_true_random=False))
def test_rank_correlations_by_hand(values: list[int], random: object) -> None:
    x = np.array(values, float)
    y = np.array(values, float)
    random.shuffle(y)  # type: ignore[attr-defined]
    if np.ptp(x) == 0:
        assert srcc(x, y) == plcc(x, y) == krcc(x, y) == plcc_fitted(x, y) == 0
        return

    def ranks(v: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.array([(v < a).sum() + ((v == a).sum() + 1) / 2 for a in v])

    signs_x, signs_y = (np.sign(v[:, None] - v[None, :]) for v in (x, y))
    tau_b = (signs_x * signs_y).sum() / np.sqrt((signs_x**2).sum() * (signs_y**2).sum())
    # the same sums in double precision, another order
    assert srcc(x, y) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1], abs=1e-9)
    assert plcc(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    assert krcc(x, y) == pytest.approx(tau_b, abs=1e-9)
    assert rmse(x, y) == pytest.approx(((x - y) ** 2).mean() ** 0.5)
    # a straight line is a logistic's limit, from which the widest one that is searched is this far
    assert plcc_fitted(x, y) >= abs(plcc(x, y)) - 1e-7
    assert rmse_fitted(x, y) <= y.std() + 1e-9


def published_fit(x: Numbers, y: Numbers, *, rising: bool) -> Numbers:
    """The logistic as IQA-PyTorch and LoDa fit it, with IQA-PyTorch's start, to the end of double precision."""

    def logistic(x: Numbers, b1: float, b2: float, b3: float, b4: float) -> Numbers:
        return (b1 - b2) / (1 + np.exp(-(x - b3) / b4)) + b2

    ends = (y.max(), y.min()) if rising else (y.min(), y.max())
    found, _ = curve_fit(logistic, x, y, p0=(*ends, x.mean(), x.std() / 4), ftol=1e-12, xtol=1e-12, maxfev=100_000)
    return logistic(x, *found)


RELATIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "saturating": np.tanh,
    "steep": lambda z: np.tanh(4 * z),
    "falling": lambda z: -np.tanh(2 * z),
    "ties": lambda z: np.round(4 * np.tanh(z)),
    "off centre": lambda z: np.tanh(2 * (z - 1)),
}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("noise", [0.05, 0.4])
@pytest.mark.parametrize("name", list(RELATIONS))
def test_the_logistic_is_the_one_that_published_programs_fit(name: str, noise: float, scale: float) -> None:
    rng = np.random.default_rng(len(name))
    z = rng.normal(size=200)
    y = 50 + 10 * (RELATIONS[name](z) + noise * rng.normal(size=200))
    x = scale * (np.round(z * 3) if name == "ties" else z)
    theirs = published_fit(x, y, rising=name != "falling")
    assert plcc_fitted(x, y) == pytest.approx(float(np.corrcoef(theirs, y)[0, 1]), abs=1e-6)
    assert rmse_fitted(x, y) == pytest.approx(float(np.sqrt(np.mean((theirs - y) ** 2))), abs=1e-5)  # of a spread of 10
    # both minima are flat, so places near them differ by the root of that
    assert fit_logistic(x, y) == pytest.approx(theirs, abs=2e-2)


def test_the_fit_depends_on_neither_scale() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = np.tanh(x) + 0.2 * rng.normal(size=60)
    wanted = plcc_fitted(x, y)
    for moved in (plcc_fitted(40 * x - 7, y), plcc_fitted(x, 1e4 + 20 * y), plcc_fitted(-x, y), plcc_fitted(x, -y)):
        assert moved == pytest.approx(wanted, abs=1e-9)  # rounding of the shifted numbers


def test_a_straight_relation_has_no_best_logistic_and_is_fitted_all_the_same() -> None:
    x = np.linspace(20, 80, 25)
    assert plcc_fitted(x, 3 - x / 20) == pytest.approx(1, abs=1e-9)
    assert fit_logistic(x, 3 - x / 20) == pytest.approx(3 - x / 20, abs=1e-4)  # the widest logistic's bend


@pytest.mark.parametrize("predicted", [[2.0, 2.0, 2.0], [0.1] * 7, [7.0]])
def test_constant_predictions_tell_nothing(predicted: list[float]) -> None:
    x = np.array(predicted)
    y = np.arange(len(x), dtype=float)
    assert srcc(x, y) == plcc(x, y) == krcc(x, y) == plcc_fitted(x, y) == 0
    assert fit_logistic(x, y) == pytest.approx(np.full(len(x), y.mean()))
    assert rmse_fitted(x, y) == pytest.approx(y.std())
    assert plcc_fitted(y, x) == 0 and rmse_fitted(y, x) == pytest.approx(0, abs=1e-15)


def test_agreement_holds_every_figure() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 40))
    found = agreement(x + y, y)
    assert (found.pictures, found.srcc, found.plcc, found.krcc) == (40, srcc(x + y, y), plcc(x + y, y), krcc(x + y, y))
    assert (found.plcc_fitted, found.rmse_fitted) == (plcc_fitted(x + y, y), rmse_fitted(x + y, y))


def test_splits_are_summarised_with_intervals() -> None:
    figures = [0.90, 0.91, 0.93, 0.92, 0.95, 0.91, 0.90, 0.94, 0.92, 0.93]
    found = summarise_splits(figures)
    assert found.splits == 10
    assert (found.median, found.mean) == pytest.approx((0.92, 0.921))
    assert found.median_interval is not None and found.mean_interval is not None
    # The mean's interval by the normal approximation; with ten values it is some tenths too wide or narrow.
    half = 1.96 * float(np.std(figures)) / math.sqrt(10)
    assert found.mean_interval == pytest.approx((0.921 - half, 0.921 + half), abs=half / 4)
    # The order statistics that hold the median of ten with 95 % or more (binomial): the 2nd and 9th.
    low, high = found.median_interval
    assert sorted(figures)[1] <= low < found.median < high <= sorted(figures)[8]
    assert summarise_splits(figures) == found  # the same every time
    assert summarise_splits([0.9] * 10).mean_interval == pytest.approx((0.9, 0.9))
    one = summarise_splits([0.9])
    assert (one.median, one.mean, one.median_interval, one.mean_interval) == (0.9, 0.9, None, None)
    with pytest.raises(ValueError, match="no splits"):
        summarise_splits([])


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 100 samples of 30 normal numbers, the intervals of their means hold 0 in about 93.

    Percentile intervals of small samples are a little narrow. The bounds are three standard deviations (2.6) around 93.
    """
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.normal(size=30).tolist(), np.mean) for _ in range(100)]
    held = sum(low < 0 < high for low, high in filter(None, intervals))
    assert 85 <= held <= 99
