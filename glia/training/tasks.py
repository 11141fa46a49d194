"""What can be trained: a quality model with a frozen backbone, or the backbone itself."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from glia.models import QualityModel, save_checkpoint
from glia.training.backbone import BackbonePretraining
from glia.training.losses import quality_loss
from glia_runtime.atomic import atomic_write
from glia_runtime.manifest import ScoreScale
from glia_runtime.view_spec import FragmentViews, ViewSpec


class Task(ABC):
    """A module with its loss, its predictions and its file. Labels are standardised by `mean` and `std`."""

    module: nn.Module
    file_name: str
    views: ViewSpec = FragmentViews()

    def __init__(self, mean: float, std: float) -> None:
        self.mean, self.std = mean, std

    def target(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Standardised labels, float32 [B]."""
        return (batch["score"] - self.mean) / self.std

    @abstractmethod
    def loss(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        """Scalar loss of a batch from `glia.data.views`."""

    @abstractmethod
    def predict(self, *views: Tensor) -> Tensor:
        """Scores on the dataset's scale, float [B]."""

    @abstractmethod
    def save(self, path: Path, training: dict[str, Any]) -> None:
        """Write what the task makes, with the facts of its training."""


class QualityTask(Task):
    """What of a quality model is not frozen."""

    file_name = "model.pt"

    def __init__(self, model: QualityModel, scale: ScoreScale, mean: float, std: float) -> None:
        super().__init__(mean, std)
        self.module: QualityModel = model
        self.views = model.view_spec
        model.set_scale(scale, mean, std)

    def loss(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        predicted = self.module.predict(*(batch[name] for name in self.views.names)).float()
        return quality_loss(predicted, self.target(batch), batch["group"])

    def predict(self, *views: Tensor) -> Tensor:
        scores: Tensor = self.module(*views)
        return scores

    def save(self, path: Path, training: dict[str, Any]) -> None:
        save_checkpoint(self.module, path, training)


class BackboneTask(Task):
    """A ViT from random weights to one that sees distortions; judged by its score of the detail view."""

    file_name = "backbone.safetensors"

    def __init__(self, pretraining: BackbonePretraining, mean: float, std: float) -> None:
        super().__init__(mean, std)
        self.module: BackbonePretraining = pretraining

    def loss(self, batch: Mapping[str, Tensor], step: int) -> Tensor:
        return self.module.loss(batch, self.target(batch), step)

    def predict(self, *views: Tensor) -> Tensor:
        _, detail = views
        return self.module.predict(detail) * self.std + self.mean

    def save(self, path: Path, training: dict[str, Any]) -> None:
        state = {name: t.detach().cpu().contiguous() for name, t in self.module.backbone.state_dict().items()}
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(state, metadata={"training": json.dumps(training)}))
