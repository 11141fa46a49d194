"""What every model over a timm ViT shares: the backbone, its input's statistics and the way to lower precision."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from glia.models.backbone import create_backbone, input_statistics
from glia.models.base import ModelConfig, QualityModel


@dataclass(frozen=True)
class ViTConfig(ModelConfig):
    """Base of the configs of models over one ViT.

    Attributes:
        backbone: a plain timm ViT with a class token, 224x224 input.
    """

    backbone: str = "vit_base_patch16_224.augreg2_in21k_ft_in1k"


class ViTModel(QualityModel):
    """A quality model over one ViT, which is frozen unless the architecture says otherwise.

    Subclasses make `head`, a linear layer: whatever comes before it may be computed in float16.
    """

    config: ViTConfig
    mean: Tensor
    std: Tensor
    head: nn.Linear

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.backbone = create_backbone(config.backbone, self.view_spec.size)
        self.backbone.requires_grad_(False)
        mean, std = input_statistics(self.backbone)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @property
    def backbones(self) -> dict[str, nn.Module]:
        return {self.config.backbone: self.backbone}

    def train(self, mode: bool = True) -> "ViTModel":
        """Switch dropout on or off; the backbone always stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def _normalize(self, view: Tensor) -> Tensor:
        """[B, H, W, 3] of 0..255 to normalised [B, 3, H, W] in the model's dtype."""
        return ((view.to(self.mean.dtype) - self.mean) / self.std).permute(0, 3, 1, 2)

    def fold_normalization(self) -> None:
        projection = self.backbone.patch_embed.proj
        with torch.no_grad():
            weight = projection.weight / self.std.view(1, 3, 1, 1)
            if projection.bias is None:
                projection.bias = nn.Parameter(weight.new_zeros(len(weight)), requires_grad=False)
            projection.bias -= (weight * self.mean.view(1, 3, 1, 1)).sum((1, 2, 3))
            projection.weight.copy_(weight)
            self.mean.zero_()
            self.std.fill_(1)

    def halve(self) -> None:
        # PyTorch computes layer norms and softmax of float16 in float32 inside.
        self.half()
        self.head.float()
        self.score_mean, self.score_std = self.score_mean.float(), self.score_std.float()
        for block in cast("list[Any]", self.backbone.blocks):
            block.attn.fused_attn = True  # see glia.models.attention
