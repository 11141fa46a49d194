"""What training minimises."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, smooth_l1_loss


def correlation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """(1 - PLCC) / 2 of a batch, as LoDa's paper states it; both [B].

    Equal predictions, or equal labels, have no correlation: it is taken as 0, and so is the gradient.
    """
    x, y = predicted - predicted.mean(), target - target.mean()
    if not (_varies(predicted, x) and _varies(target, y)):
        return predicted.sum() * 0 + 0.5
    loss: Tensor = (1 - (x * y).sum() / (x.norm() * y.norm())) / 2
    return loss


def _varies(values: Tensor, centred: Tensor) -> bool:
    # The mean of equal float32 values is off by their rounding, 6e-8 of them and a few times that for many.
    return bool(centred.norm() > 1e-6 * values.norm())


def ranking_loss(predicted: Tensor, target: Tensor, group: Tensor) -> Tensor:
    """Cross-entropy on the order of every two samples of one group; all [B].

    As in RankNet (Burges et al., 2005, section 3) the order is a matter of degree: how sure it should be follows from
    how far apart the labels are, so that predictions as far apart are the optimum. A loss that only asks for the order
    pulls the levels of a mild distortion apart as if they were those of a severe one.

    Predictions are in units of the labels' standard deviation; neighbouring levels of a series differ by about a
    quarter of it, hence the factor of 4.
    """
    pairs = (group[:, None] == group[None, :]).triu(1)
    if not pairs.any():
        return predicted.sum() * 0
    told, wanted = (4 * (values[:, None] - values[None, :])[pairs] for values in (predicted, target))
    return binary_cross_entropy_with_logits(told, wanted.sigmoid())


def quality_loss(predicted: Tensor, target: Tensor, group: Tensor) -> Tensor:
    """Correlation over the batch, differences within each group, and a pull to the scale itself; all [B]."""
    value = smooth_l1_loss(predicted, target, beta=0.5)
    return correlation_loss(predicted, target) + ranking_loss(predicted, target, group) + 0.5 * value


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "quality": quality_loss,
    "correlation": lambda predicted, target, group: correlation_loss(predicted, target),
    "l1": lambda predicted, target, group: l1_loss(predicted, target),
}
"""Losses by name, of predictions, labels and groups, all [B]."""
