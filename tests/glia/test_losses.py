"""What training minimises is what its names say, also where nothing varies."""

import numpy as np
import pytest
import torch

from glia.training.losses import correlation_loss, ranking_loss


def test_correlation_loss_is_pearsons() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 50)
    expected = (1 - np.corrcoef(x, y)[0, 1]) / 2
    assert correlation_loss(x, y).item() == pytest.approx(expected, abs=1e-6)  # float32 sums of 50
    constant = torch.zeros(50, requires_grad=True)
    loss = correlation_loss(constant, y)
    loss.backward()
    assert torch.isfinite(loss) and constant.grad is not None and torch.isfinite(constant.grad).all()


@pytest.mark.parametrize("value", [0.0, 0.3, -1234.5])
def test_what_does_not_vary_has_no_correlation_and_no_gradient(value: float) -> None:
    torch.manual_seed(0)
    equal, varied = torch.full((7,), value), torch.randn(7)
    for predicted, target in ((equal, varied), (varied, equal), (equal, equal)):
        predicted = predicted.clone().requires_grad_()
        loss = correlation_loss(predicted, target)
        loss.backward()
        assert loss == 0.5 and predicted.grad is not None and not predicted.grad.any()


def test_ranking_loss_orders_within_groups_only() -> None:
    group = torch.tensor([0, 0, 1, 1])
    target = torch.tensor([2.0, 1.0, 2.0, 1.0])
    right = ranking_loss(torch.tensor([5.0, 4.0, 1.0, 0.0]), target, group)
    wrong = ranking_loss(torch.tensor([4.0, 5.0, 0.0, 1.0]), target, group)
    assert right < 0.1 < 1 < wrong
    assert ranking_loss(torch.ones(2), torch.tensor([1.0, 2.0]), torch.tensor([0, 1])) == 0


def test_ranking_loss_is_least_where_predictions_are_as_far_apart_as_labels() -> None:
    target, group = torch.tensor([0.0, 0.125, 0.125, 0.25, 1.0]), torch.zeros(5, dtype=torch.int)
    predicted = (target + 7).requires_grad_()  # exact: all are eighths
    least = ranking_loss(predicted, target, group)
    (slope,) = torch.autograd.grad(least, predicted)
    assert slope.abs().max() < 1e-6  # float32: sigmoids to 1e-7 each
    assert all(ranking_loss(scale * target, target, group) > least for scale in (0.5, 2.0))
