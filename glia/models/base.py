"""What every architecture offers to training, export and measurement."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from glia_runtime.manifest import ScoreScale, View
from glia_runtime.view_spec import FragmentViews, ViewSpec


@dataclass(frozen=True)
class ModelConfig:
    """Base of the architectures' configs: frozen, plain values only."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)


class Head(nn.Linear):
    """The linear layer that makes a score, in the precision of its own weights, under autocast as well.

    Of scores near one standard deviation bfloat16 keeps steps of 1/128 of it, which ties scores that differ.
    """

    def forward(self, summary: Tensor) -> Tensor:
        summary = summary.to(self.weight.dtype)
        # Exported graphs know nothing of autocast, and it nothing of meta tensors, which operations are counted on.
        if summary.is_meta or not torch.is_autocast_enabled(summary.device.type):
            return super().forward(summary)
        with torch.autocast(summary.device.type, enabled=False):
            return super().forward(summary)


class QualityModel(nn.Module, ABC):
    """A blind image-quality model over views of a picture.

    Subclasses see normalised activations only; this class owns the affine map from the head's output to the
    score's scale, so that a checkpoint speaks in the units of the data it was trained on.
    """

    architecture: ClassVar[str]
    config_type: ClassVar[type[ModelConfig]]
    score_mean: Tensor
    score_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.view_spec: ViewSpec = FragmentViews()
        self.score_scale = ScoreScale(minimum=0.0, maximum=1.0, higher_is_better=True, dataset="untrained")
        self.register_buffer("score_mean", torch.zeros(()))
        self.register_buffer("score_std", torch.ones(()))

    @abstractmethod
    def predict(self, *views: Tensor) -> Tensor:
        """The head's raw output, float [B], before it is put on the score's scale."""

    @abstractmethod
    def fold_normalization(self) -> None:
        """Fold mean and standard deviation of the input into the first layer, in place; scores stay the same."""

    @abstractmethod
    def halve(self) -> None:
        """Compute in float16 up to the head, in place; the head and the score stay float32.

        On a scale of 0 to 100 float16 has steps of 1/16, which would tie scores that differ.
        """

    @property
    @abstractmethod
    def backbones(self) -> dict[str, nn.Module]:
        """The parts that start from pretrained weights, by their timm names."""

    def forward(self, *views: Tensor) -> Tensor:
        """Score a batch.

        Args:
            views: as `view_spec` names them, of any numeric dtype, values 0 to 255. GLIANet's are the resized view and
                the fragment view (Eq. 1 and 2), [B, 224, 224, 3] each.

        Returns:
            float [B] on `score_scale`.
        """
        return self.predict(*views) * self.score_std + self.score_mean

    @property
    def prior_view(self) -> View | None:
        """The view that `prior` sees, always the same way, so that it may be computed once; None without one."""
        return None

    @property
    def main_view(self) -> str:
        """The view that `predict_from` takes; of use where `prior_view` is not None."""
        return self.view_spec.names[-1]  # no error: torch.jit.trace reads every property

    def prior(self, view: Tensor) -> Tensor:
        """What the frozen part makes of `prior_view`, float [B, tokens, width]; only where that is not None.

        Args:
            view: as for `forward`.
        """
        raise NotImplementedError

    def predict_from(self, prior: Tensor, main: Tensor) -> Tensor:
        """`predict` where `prior` is computed already; only where `prior_view` is not None.

        Args:
            prior: from `prior`, [B, tokens, width], the model's dtype.
            main: `main_view`, as for `forward`.
        """
        raise NotImplementedError

    @property
    def map_view(self) -> View | None:
        """The view that `look` shows, or None where the architecture cannot say where it looked."""
        return None

    def look(self, *views: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch and say where the model looked; only where `map_view` is not None.

        Args:
            views: as for `forward`.

        Returns:
            The scores, float [B], and the map, float [B, G, G]: the share of its attention that the model gives to
            each of the G x G patches of `map_view`.
        """
        raise NotImplementedError

    def merged(self) -> "QualityModel":
        """The model as checkpoints hold it: parts that only training needs apart are one. Itself, where there are none.

        Scores stay the same but for the order of summation.
        """
        return self

    def num_trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def set_scale(self, scale: ScoreScale, mean: float, std: float) -> None:
        """Adopt a dataset's scale; `mean` and `std` are those of its training scores."""
        self.score_scale = scale
        self.score_mean.fill_(mean)
        self.score_std.fill_(std)
