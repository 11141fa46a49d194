"""Agreement between predicted scores and labels: the field's figures."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, pearsonr, spearmanr

Scores = npt.NDArray[np.floating]


def _statistic(test: Callable[..., object], predicted: Scores, target: Scores) -> float:
    """The test's statistic; 0 where either side is constant: such a model tells nothing, and NaN would spread."""
    if len(predicted) < 2 or np.ptp(predicted) == 0 or np.ptp(target) == 0:
        return 0.0
    return float(test(predicted, target).statistic)  # type: ignore[attr-defined]


def srcc(predicted: Scores, target: Scores) -> float:
    """Spearman's rank-order correlation of two [N]; 0 where either is constant."""
    return _statistic(spearmanr, predicted, target)


def plcc(predicted: Scores, target: Scores) -> float:
    """Pearson's linear correlation of two [N], unfitted; 0 where either is constant."""
    return _statistic(pearsonr, predicted, target)


def krcc(predicted: Scores, target: Scores) -> float:
    """Kendall's rank correlation (tau-b) of two [N]; 0 where either is constant."""
    return _statistic(kendalltau, predicted, target)


def rmse(predicted: Scores, target: Scores) -> float:
    """Root of the mean squared difference of two [N], on the scores' scale."""
    return float(np.sqrt(np.mean(np.square(np.asarray(predicted) - np.asarray(target)))))
