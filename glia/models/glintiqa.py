"""GlintIQA: what a ViT and a CNN see of a crop, aligned and aggregated step by step.

Source: "No-Reference Image Quality Assessment with Global-Local Progressive Integration and Semantic-Aligned Quality
Transfer" (Wang and Zhang, arXiv 2408.03885), and its authors' public description of the model. Where these leave a
choice open, docs/model.md says which reading this is.
"""

from dataclasses import dataclass
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from glia.models.attention import attend
from glia.models.backbone import check_tag, create_backbone
from glia.models.base import Head, ModelConfig, QualityModel
from glia.models.registry import register_model
from glia_runtime.errors import UsageError
from glia_runtime.view_spec import CropViews

_MEAN = _STD = 127.5  # grey levels; the authors' for both backbones, the CNN's own would be ImageNet's
_STRIDES = (4, 8, 16)
_FROZEN_CNN = ("conv1", "bn1", "layer1", "layer2")


@dataclass(frozen=True)
class GlintIQAConfig(ModelConfig):
    """Everything that decides the shape of a GlintIQA.

    Attributes:
        backbone: a plain timm ViT with patches of 16 or 32 pixels; what it has after the last of `blocks` is not built.
        blocks: the blocks, counted from 0, whose patch tokens are the global features; one stage for each.
        frozen_blocks: how many of its first blocks stay frozen, with the embedding of patches and positions.
        cnn: a timm ResNet; the outputs of its layers 1 to 3 are the local features. Stem, layers 1 and 2 stay frozen.
        crops: along each side of a picture when scoring; the authors take 25 in all.
        dropout: on what the channel-wise attention gives and in the head, while training.
    """

    backbone: str = "vit_small_patch16_224"
    blocks: tuple[int, ...] = (6, 7, 8, 9)
    frozen_blocks: int = 5
    cnn: str = "resnet50.tv_in1k"  # torchvision's first weights, the authors'; timm's "resnet50" has others
    crops: int = 5
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Accept any sequence of blocks, and refuse what cannot be built, in one line each."""
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.blocks or list(self.blocks) != sorted(set(self.blocks)) or min(self.blocks) < 0:
            raise UsageError(f"blocks must be numbers from 0 in rising order, not {', '.join(map(str, self.blocks))}")
        if not 0 <= self.frozen_blocks <= max(self.blocks) + 1:
            raise UsageError(f"frozen_blocks must be 0 to {max(self.blocks) + 1}, not {self.frozen_blocks}")
        if self.crops < 1:
            raise UsageError(f"crops must be 1 or more along each side, not {self.crops}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), not {self.dropout}")


class ChannelAttention(nn.Module):
    """CWSA: channels look at one another; a token is what one channel holds at every position.

    Args:
        positions: P, the length of a token.
        dropout: of what was attended.
    """

    def __init__(self, positions: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(positions, positions)
        self.key = nn.Linear(positions, positions)
        self.value = nn.Linear(positions, positions)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(positions)

    def forward(self, channels: Tensor) -> Tensor:
        """[B, C, P] to the same."""
        query, key = (_unit(layer(channels)) for layer in (self.query, self.key))
        attended = attend(query[:, None], key[:, None], self.value(channels)[:, None])[:, 0]  # scaled by P ** -0.5
        mixed: Tensor = channels + self.norm(self.dropout(attended))
        return mixed


def _unit(vectors: Tensor) -> Tensor:
    # A sum of 196 squares passes float16's 65504 where the numbers exceed 18, and PyTorch's 1e-12 is 0 in float16.
    return normalize(vectors.float(), dim=-1, eps=1e-6).to(vectors.dtype)


class Stage(nn.Module):
    """One step of the aggregation: a ViT block's tokens join what there is so far; CWSA, then SIEM."""

    def __init__(self, width: int, positions: int, dropout: float) -> None:
        super().__init__()
        self.channels = ChannelAttention(positions, dropout)
        self.space = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)  # SIEM

    def forward(self, tokens: Tensor, feature: Tensor) -> Tensor:
        """[B, D, S, S] twice to the same."""
        joined = torch.cat([tokens, feature], 1)
        mixed: Tensor = self.space(self.channels(joined.flatten(2)).view_as(joined))
        return mixed


@register_model("glintiqa")
class GlintIQA(QualityModel):
    """The ViT's later blocks, the CNN's layer 3 and all that joins them are trained."""

    config_type = GlintIQAConfig
    config: GlintIQAConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: GlintIQAConfig) -> None:
        super().__init__(config)
        self.view_spec = CropViews(config.crops)
        self.register_buffer("mean", torch.full((3,), _MEAN))
        self.register_buffer("std", torch.full((3,), _STD))
        self.vit = create_backbone(config.backbone, self.view_spec.size)
        if max(config.blocks) >= len(self.vit.blocks):
            raise UsageError(f"{config.backbone} has blocks 0 to {len(self.vit.blocks) - 1}, not {max(config.blocks)}")
        self.vit.prune_intermediate_layers(list(config.blocks), prune_norm=True)
        self.cnn = _create_cnn(config.cnn)
        width, (side, _) = self.vit.embed_dim, self.vit.patch_embed.grid_size
        patch = self.view_spec.size // side
        if patch % max(_STRIDES):
            raise UsageError(
                f"backbone {config.backbone!r} has patches of {patch} pixels, which the CNN's strides of 4, 8 and 16 "
                "do not divide; choose one with patches of 16 or 32"
            )
        self.embeddings = nn.ModuleList(
            nn.Conv2d(channels, width, kernel, stride=kernel)
            for channels, kernel in zip(
                cast("list[int]", self.cnn.feature_info.channels()),
                [patch // stride for stride in _STRIDES],
                strict=True,
            )
        )
        self.local = ChannelAttention(side**2, config.dropout)
        self.project = nn.Linear(len(_STRIDES) * width, width)
        self.stages = nn.ModuleList(Stage(width, side**2, config.dropout) for _ in config.blocks)
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(config.dropout))
        self.head = Head(width, 1)
        for part in self._frozen():
            part.requires_grad_(False)
        for name in ("cls_token", "pos_embed"):
            self.vit.get_parameter(name).requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        early = [self.cnn.get_submodule(name) for name in _FROZEN_CNN]
        return [self.vit.patch_embed, *list(self.vit.blocks)[: self.config.frozen_blocks], *early]

    @property
    def backbones(self) -> dict[str, nn.Module]:
        return {self.config.backbone: self.vit, self.config.cnn: self.cnn}

    def train(self, mode: bool = True) -> "GlintIQA":
        """Switch to training or evaluation; what is frozen stays in evaluation mode, and so does batch normalisation.

        Layer 3's has trained scales and shifts, but its statistics are the pretrained ones: those of a batch would be
        other ones in each of several processes, which then train another model than one does.
        """
        super().train(mode)
        norms = [part for part in self.cnn.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        for part in [*self._frozen(), *norms]:
            part.eval()
        return self

    def predict(self, *views: Tensor) -> Tensor:
        (crops,) = views  # [B, N, S, S, 3], N of any size
        each = self._predict(crops.flatten(0, 1))
        scores: Tensor = each.unflatten(0, crops.shape[:2]).mean(1)
        return scores

    def _predict(self, crops: Tensor) -> Tensor:
        """The head's output [B] for crops [B, S, S, 3] of grey levels."""
        pixels = ((crops.to(self.mean.dtype) - self.mean) / self.std).permute(0, 3, 1, 2)
        tokens = self.vit.forward_intermediates(
            pixels, indices=list(self.config.blocks), norm=False, output_fmt="NCHW", intermediates_only=True
        )
        local = [embed(feature) for embed, feature in zip(self.embeddings, self.cnn(pixels), strict=True)]
        mixed = self.local(torch.cat(local, 1).flatten(2))
        feature = self.project(mixed.transpose(1, 2)).transpose(1, 2).unflatten(2, local[0].shape[2:])
        for stage, block in zip(self.stages, tokens, strict=True):
            feature = stage(block, feature)
        summary = self.hidden(feature.mean((2, 3)))
        score: Tensor = self.head(summary).squeeze(-1)
        return score

    def fold_normalization(self) -> None:
        """Divide the first layers' weights by the standard deviation.

        The mean is still subtracted: the CNN pads with zeros, which stand for a picture of mean grey.
        """
        with torch.no_grad():
            for backbone in self.backbones.values():
                first = next(part for part in backbone.modules() if isinstance(part, nn.Conv2d))
                first.weight /= self.std.view(1, 3, 1, 1)
            self.std.fill_(1)

    def halve(self) -> None:
        self.half()
        self.head.float()
        self.score_mean, self.score_std = self.score_mean.float(), self.score_std.float()
        for block in cast("list[Any]", self.vit.blocks):
            block.attn.fused_attn = True  # see glia.models.attention


def _create_cnn(name: str) -> Any:
    """Stem and layers 1 to 3 of a timm ResNet, random weights, which give features at strides 4, 8 and 16.

    Raises:
        UsageError: no such timm model or pretrained tag, or not a ResNet.
    """
    if not timm.is_model(name):
        raise UsageError(f"timm has no backbone {name!r}; try resnet50")
    check_tag(name)
    cnn: Any
    try:
        cnn = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2, 3))
    except (RuntimeError, ValueError, TypeError, AssertionError):
        cnn = None
    if cnn is None or cnn.feature_info.module_name() != ["layer1", "layer2", "layer3"] or "conv1" not in cnn:
        raise UsageError(f"backbone {name!r} is not a ResNet of timm's; try resnet50")
    return cnn
