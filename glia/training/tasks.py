"""What can be trained: a quality model with a frozen backbone, or the backbone itself."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from glia.data.views import views_at
from glia.models import QualityModel, save_checkpoint
from glia.training.backbone import SHOWN, BackbonePretraining
from glia.training.losses import LOSSES
from glia_runtime.atomic import atomic_write
from glia_runtime.manifest import ScoreScale
from glia_runtime.view_spec import FragmentViews, ViewSpec

Gather = Callable[[Tensor], Tensor]
"""Joins the rows of a tensor over all processes of a run, see `Processes.gather`."""


class Outcome(NamedTuple):
    """What a batch came to, over all processes: the scalar loss; predictions, standardised labels, indices; [B]."""

    loss: Tensor
    predicted: Tensor
    target: Tensor
    sample: Tensor


class Task(ABC):
    """A module with its loss, its predictions and its file. Labels are standardised by `mean` and `std`."""

    module: nn.Module
    file_name: str
    view_spec: ViewSpec = FragmentViews()
    """What the module is shown."""
    views_in_turn: Sequence[Sequence[str]] = (view_spec.names,)
    """Those of its views that a batch must hold, see `views_at`."""

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    def target(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Standardised labels, float32 [B]."""
        return (batch["score"] - self.mean) / self.std

    @abstractmethod
    def loss(self, batch: Mapping[str, Tensor], step: int, gather: Gather) -> Outcome:
        """Loss of a batch from `glia.data.views`, of which this process has a part."""

    @abstractmethod
    def predict(self, *views: Tensor) -> Tensor:
        """Scores on the dataset's scale, float [B]."""

    @abstractmethod
    def compile(self) -> None:
        """Have torch.compile translate what the steps run."""

    @abstractmethod
    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write what the task makes, with the facts of its training."""

    def calibrate(self, predicted: Tensor, target: Tensor) -> None:  # noqa: B027 (most losses need none of it)
        """Learn the scale that the loss leaves open from late predictions and standardised labels, float [N] each."""


class QualityTask(Task):
    """What of a quality model is not frozen.

    Args:
        model: trained in place.
        scale: of the labels.
        mean: of the labels.
        std: of the labels.
        loss: a name of `LOSSES`.
        cached_prior: batches hold what the frozen part makes of a view instead of it, see `compute_priors`.
    """

    file_name = "model.pt"

    def __init__(
        self,
        model: QualityModel,
        scale: ScoreScale,
        mean: float,
        std: float,
        loss: str = "quality",
        cached_prior: bool = False,
    ) -> None:
        super().__init__(mean, std)
        self.module: QualityModel = model
        self._scale, self._loss = scale, loss
        self._predict: Callable[..., Tensor] = model.predict_from if cached_prior else model.predict
        self.view_spec = model.view_spec
        self.views_in_turn = ((model.main_view,) if cached_prior else model.view_spec.names,)
        model.set_scale(scale, mean, std)

    def loss(self, batch: Mapping[str, Tensor], step: int, gather: Gather) -> Outcome:
        prior = [batch["prior"].float()] if "prior" in batch else []
        views = (batch[name] for name in views_at(step, self.views_in_turn))
        predicted = gather(self._predict(*prior, *views).float())
        target, group, index = (gather(part) for part in (self.target(batch), batch["group"], batch["index"]))
        return Outcome(LOSSES[self._loss](predicted, target, group), predicted, target, index)

    def predict(self, *views: Tensor) -> Tensor:
        scores: Tensor = self.module(*views)
        return scores

    def compile(self) -> None:
        self._predict = torch.compile(self._predict)

    def save(self, path: Path, training: dict[str, Any]) -> None:
        save_checkpoint(self.module, path, training)

    def calibrate(self, predicted: Tensor, target: Tensor) -> None:
        """The straight line that maps predictions to labels best; a correlation is the same before and after."""
        if self._loss != "correlation":
            return
        x, y = predicted.double() - predicted.double().mean(), target.double() - target.double().mean()
        slope = float((x * y).sum() / x.square().sum().clamp_min(1e-12))
        if slope > 0:  # else nothing was learnt yet, and a falling line would turn the scores round
            shift = float(target.double().mean() - slope * predicted.double().mean())
            self.module.set_scale(self._scale, self.mean + self.std * shift, self.std * slope)


class BackboneTask(Task):
    """A ViT from random weights to one that sees distortions; judged by its score of the detail view."""

    file_name = "backbone.safetensors"
    views_in_turn = SHOWN

    def __init__(self, pretraining: BackbonePretraining, mean: float, std: float) -> None:
        super().__init__(mean, std)
        self.module: BackbonePretraining = pretraining

    def loss(self, batch: Mapping[str, Tensor], step: int, gather: Gather) -> Outcome:
        target = self.target(batch)
        loss, predicted = self.module.loss(batch, target, step)
        return Outcome(loss, predicted, target, batch["index"])

    def predict(self, *views: Tensor) -> Tensor:
        _, detail = views
        return self.module.predict(detail) * self.std + self.mean

    def compile(self) -> None:
        self.module.compile()

    def save(self, path: Path, training: dict[str, Any]) -> None:
        state = {name: t.detach().cpu().contiguous() for name, t in self.module.backbone.state_dict().items()}
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(state, metadata={"training": json.dumps(training)}))
