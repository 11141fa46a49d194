"""Agreement between predicted scores and labels: the field's figures, and what several splits say of them.

Where either side is constant a correlation is 0: such a model tells nothing, and NaN would spread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import bootstrap, kendalltau, pearsonr, spearmanr

Scores = npt.NDArray[np.floating]

# Places and widths of the logistic, in standard deviations of the predictions, from which its fit sets out: the usual
# one (IQA-PyTorch's), a gentle one, and both ends, where a logistic is an exponential. With the four, 600 generated
# relations were never fitted worse than by scipy's curve_fit as IQA-PyTorch calls it, whose PLCC was lower by up to
# 7e-6 where it stopped short.
_STARTS = ((0.0, 0.25), (0.0, 1.0), (-2.0, 1.0), (2.0, 1.0))
# Of the widths: beyond them a logistic is a step, or so straight that rounding drowns its bend.
_LOGARITHMS = (-8.0, 8.0)
_RESAMPLES = 9999


def srcc(predicted: Scores, target: Scores) -> float:
    """Spearman's rank-order correlation of two [N]; ties share their mean rank."""
    return _statistic(spearmanr, predicted, target)


def plcc(predicted: Scores, target: Scores) -> float:
    """Pearson's linear correlation of two [N], unfitted."""
    return _statistic(pearsonr, predicted, target)


def krcc(predicted: Scores, target: Scores) -> float:
    """Kendall's rank correlation (tau-b, which allows for ties) of two [N]."""
    return _statistic(kendalltau, predicted, target)


def rmse(predicted: Scores, target: Scores) -> float:
    """Root of the mean squared difference of two [N], on the scores' scale, unfitted."""
    return float(np.sqrt(np.mean(np.square(np.asarray(predicted, float) - np.asarray(target, float)))))


def plcc_fitted(predicted: Scores, target: Scores) -> float:
    """Pearson's correlation after `fit_logistic`: what the field's tables call PLCC.

    Never negative, as the logistic may fall: whether a model ranks the right way up is for `srcc` to say.
    """
    return plcc(fit_logistic(predicted, target), target)


def rmse_fitted(predicted: Scores, target: Scores) -> float:
    """Root of the mean squared difference after `fit_logistic`, in units of the target."""
    return rmse(fit_logistic(predicted, target), target)


def fit_logistic(predicted: Scores, target: Scores) -> npt.NDArray[np.float64]:
    """Predictions [N] put on the target's scale: float64 [N].

    By the logistic of four parameters that VQEG fits (final report, 2003) and LoDa and most others after it,
    ``b2 + (b1 - b2) / (1 + exp(-(x - b3) / b4))``, in the sense of least squares. For each place b3 and width b4 the
    best b1 and b2 are a linear regression, so the search has two parameters, always ends, and takes either direction.
    A straight relation is its limit of a growing width.

    Constant predictions become the target's mean.
    """
    x, y = _standardised(predicted), _standardised(target)

    def fitted(place_and_width: Scores) -> npt.NDArray[np.float64]:
        place, logarithm = place_and_width
        bend = _standardised(expit((x - place) * np.exp(-np.clip(logarithm, *_LOGARITHMS))))
        return np.asarray(bend * np.mean(bend * y))

    searches = (
        # Far below what counts in a figure of four digits; the default stops at 1e-8, which shows in the sixth.
        least_squares(lambda p: fitted(p) - y, (place, np.log(width)), method="lm", ftol=1e-12, xtol=1e-12, gtol=1e-12)
        for place, width in (_STARTS if len(x) > 1 else ())
    )
    best = min(searches, key=lambda search: search.cost, default=None)
    shape = np.zeros_like(y) if best is None else fitted(best.x)
    return np.asarray(np.mean(target) + np.std(target) * shape)


@dataclass(frozen=True)
class Agreement:
    """How predictions agree with a dataset's scores.

    Attributes:
        pictures: how many were compared.
        srcc: Spearman's rank correlation.
        plcc: Pearson's correlation, unfitted.
        krcc: Kendall's rank correlation, tau-b.
        plcc_fitted: Pearson's correlation after the logistic fit.
        rmse_fitted: root mean squared error after it, in units of the dataset's scores.
    """

    pictures: int
    srcc: float
    plcc: float
    krcc: float
    plcc_fitted: float
    rmse_fitted: float


def agreement(predicted: Scores, target: Scores) -> Agreement:
    """All figures of predictions [N] and scores [N] that rise and fall together where the model is right."""
    fit = fit_logistic(predicted, target)
    ranks = srcc(predicted, target), plcc(predicted, target), krcc(predicted, target)
    return Agreement(len(target), *ranks, plcc(fit, target), rmse(fit, target))


@dataclass(frozen=True)
class SplitSummary:
    """One figure over several splits; the intervals are None where fewer than two splits were run."""

    splits: int
    median: float
    mean: float
    median_interval: tuple[float, float] | None
    mean_interval: tuple[float, float] | None


def summarise_splits(figures: Sequence[float]) -> SplitSummary:
    """Median (the paper's Tables 1 and 2), mean (its text) and their 95 % bootstrap intervals of one figure's values.

    Raises:
        ValueError: no values.
    """
    if not len(figures):
        raise ValueError("no splits to summarise")
    intervals = [bootstrap_interval(figures, statistic) for statistic in (np.median, np.mean)]
    return SplitSummary(len(figures), float(np.median(figures)), float(np.mean(figures)), *intervals)


def bootstrap_interval(
    figures: Sequence[float], statistic: Callable[..., object] = np.median, confidence: float = 0.95
) -> tuple[float, float] | None:
    """The interval of a statistic over splits, by resampling them; None for fewer than two.

    Percentiles, not BCa: the median of ten values has too few jackknife values for its acceleration. Seeded, so that
    the same figures have the same interval.

    Args:
        figures: one a split.
        statistic: takes an array and `axis`.
        confidence: share of the resampled statistics inside.
    """
    if len(figures) < 2:
        return None
    resampled = bootstrap(
        (np.asarray(figures, float),),
        statistic,
        vectorized=True,
        method="percentile",
        n_resamples=_RESAMPLES,
        confidence_level=confidence,
        rng=np.random.default_rng(0),
    )
    return float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def _statistic(test: Callable[..., object], predicted: Scores, target: Scores) -> float:
    """The test's statistic, or 0 where it has none."""
    if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(target) == 0:
        return 0.0
    return float(test(predicted, target).statistic)  # type: ignore[attr-defined]


def _standardised(values: Scores) -> npt.NDArray[np.float64]:
    """Float64 [N] of mean 0 and deviation 1; zeros where all are equal."""
    centred = np.asarray(values, float) - np.mean(values)
    deviation = np.std(centred)
    return np.asarray(centred / deviation if np.ptp(values) and deviation else np.zeros_like(centred))
