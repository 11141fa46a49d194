"""The other ways to tune a ViT for quality, GLIANet's rivals in Table 6, each an architecture of its own.

What they see. The table's rivals are strategies for one ViT ("linear probing of ViT, full fine-tuning, ..."), and one
ViT takes one picture of 224x224; two streams are what GLIA adds. Section 1 names what such models are given: a resized
or cropped picture. So each sees the resized view. `view="detail"` shows it the mosaic of fragments instead, which tells
how much of GLIANet's lead is the input's. Everything else is GLIANet's: the ViT, dropout, and a linear head on the
class token after the last norm.

How large. The paper gives no sizes. Adapter, LoRA and VPT have usual ones: 0.4 to 1.2 million parameters on ViT-B/16.
"""

import copy
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from glia.models.base import Head
from glia.models.registry import register_model
from glia.models.vit import ViTConfig, ViTModel
from glia_runtime.errors import MissingExtraError, UsageError
from glia_runtime.manifest import View

_WRAPPED = ("qkv", "proj")  # the linear layers of an attention that LoRA goes beside


@dataclass(frozen=True)
class TunedViTConfig(ViTConfig):
    """What all of them can be told.

    Attributes:
        backbone: as in every `ViTConfig`.
        view: the one view that is seen.
        dropout: before the head, while training.
    """

    view: View = "semantic"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be built, in one line each."""
        if self.view not in ("semantic", "detail"):
            raise UsageError(f"view must be one of semantic, detail, not {self.view!r}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be in [0, 1), not {self.dropout}")


class TunedViT(ViTModel):
    """A ViT over one view, with a linear head on its class token."""

    config_type: ClassVar[type[TunedViTConfig]] = TunedViTConfig
    config: TunedViTConfig

    def __init__(self, config: TunedViTConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = Head(self.backbone.embed_dim, 1)

    def run_blocks(self, tokens: Tensor) -> Tensor:
        """The backbone's blocks and what tunes them: [B, 197, width] to as many tokens or more, class token first."""
        features: Tensor = self.backbone.blocks(tokens)
        return features

    def predict(self, *views: Tensor) -> Tensor:
        vit = self.backbone
        view = dict(zip(self.view_spec.names, views, strict=True))[self.config.view]
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(self._normalize(view))))
        summary = vit.norm(self.run_blocks(tokens))[:, 0]
        score: Tensor = self.head(self.dropout(summary)).squeeze(-1)
        return score


@register_model("linear-probe")
class LinearProbe(TunedViT):
    """The head alone learns."""


@register_model("full-fine-tune")
class FullFineTune(TunedViT):
    """Everything learns, the patch embedding and the class token included."""

    def __init__(self, config: TunedViTConfig) -> None:
        super().__init__(config)
        self.backbone.requires_grad_(True)


@dataclass(frozen=True)
class AdapterConfig(TunedViTConfig):
    """`TunedViTConfig` and the size of the adapters.

    Attributes:
        bottleneck: hidden width of each.
    """

    bottleneck: int = 64

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        super().__post_init__()
        _at_least_one("bottleneck", self.bottleneck)


@register_model("adapter")
class AdapterTuning(TunedViT):
    """Frozen blocks, each followed by tokens + up(gelu(down(norm(tokens)))).

    Bottleneck adapters of Houlsby et al. (2019), one a block as in Pfeiffer et al. (2021); zero at the start. The
    paper's [2] is ViT-Adapter, made for detection and segmentation: it gives a ViT a pyramid of feature maps, which
    a score from the class token does not use. The name in the table is read as the method that commonly bears it.
    """

    config_type = AdapterConfig
    config: AdapterConfig

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__(config)
        width, hidden = self.backbone.embed_dim, config.bottleneck
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            for _ in self.backbone.blocks
        )
        for adapter in cast("list[Any]", self.adapters):
            nn.init.zeros_(adapter[-1].weight)
            nn.init.zeros_(adapter[-1].bias)

    def run_blocks(self, tokens: Tensor) -> Tensor:
        for block, adapter in zip(self.backbone.blocks, self.adapters, strict=True):
            tokens = block(tokens)
            tokens = tokens + adapter(tokens)
        return tokens


@dataclass(frozen=True)
class LoRAConfig(TunedViTConfig):
    """`TunedViTConfig` and the size of the low-rank products.

    Attributes:
        rank: of each product.
        alpha: a product is scaled by alpha / rank.
        merged: the products are part of the weights, as in every checkpoint (see `LoRATuning.merged`).
    """

    rank: int = 8
    alpha: float = 16.0
    merged: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        super().__post_init__()
        _at_least_one("rank", self.rank)


@register_model("lora")
class LoRATuning(TunedViT):
    """Frozen weights W of each attention's qkv and proj, and beside them alpha / rank * B A (Hu et al., 2022).

    peft makes, computes and merges the products, so training needs it. A checkpoint holds the merged weights under a
    plain ViT's names: what only reads one (evaluation, export, the runtime) does not.

    Raises:
        MissingExtraError: peft is not installed, and the config is not a merged one.
    """

    config_type = LoRAConfig
    config: LoRAConfig

    def __init__(self, config: LoRAConfig) -> None:
        super().__init__(config)
        if config.merged:
            return
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ModuleNotFoundError as error:
            raise MissingExtraError.for_package("peft", "tune", "LoRA tuning") from error
        wrapped = rf"blocks\.\d+\.attn\.({'|'.join(_WRAPPED)})"  # as a list it would take patch_embed.proj too
        products = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=wrapped)  # type: ignore[arg-type]
        inject_adapter_in_model(products, self.backbone)
        self.backbone.register_load_state_dict_pre_hook(_name_as_wrapped)

    def merged(self) -> "LoRATuning":
        if self.config.merged:
            return self
        plain = copy.deepcopy(self)
        plain.config = replace(self.config, merged=True)
        for block in cast("list[Any]", plain.backbone.blocks):
            for name in _WRAPPED:
                layer = getattr(block.attn, name)
                layer.merge()
                setattr(block.attn, name, layer.get_base_layer())
        return plain


def _name_as_wrapped(backbone: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a plain ViT's weights into one that peft has wrapped, where a layer's weights have another name.

    Products that the state does not hold stay as they are: fresh.
    """
    for name, own in backbone.state_dict().items():
        plain = prefix + name.replace(".base_layer", "")
        if plain != prefix + name and plain in state:
            state[prefix + name] = state.pop(plain)
        elif ".lora_" in name:
            state.setdefault(prefix + name, own)


@dataclass(frozen=True)
class PromptConfig(TunedViTConfig):
    """`TunedViTConfig` and the number of prompts.

    Attributes:
        prompts: learned tokens shown to each block.
    """

    prompts: int = 50

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        super().__post_init__()
        _at_least_one("prompts", self.prompts)


@register_model("vpt")
class PromptTuning(TunedViT):
    """Frozen blocks, each shown learned tokens of its own between class token and patches: VPT-deep (Jia et al., 2022).

    What a block makes of its prompts is dropped; the next has others in their place.
    """

    config_type = PromptConfig
    config: PromptConfig

    def __init__(self, config: PromptConfig) -> None:
        super().__init__(config)
        vit = self.backbone
        limit = sqrt(6 / (vit.patch_embed.proj.weight[0].numel() + vit.embed_dim))  # VPT's: Xavier's, of the embedding
        blocks = len(vit.blocks)
        self.prompts = nn.Parameter(torch.empty(blocks, config.prompts, vit.embed_dim).uniform_(-limit, limit))

    def run_blocks(self, tokens: Tensor) -> Tensor:
        summary, patches = tokens[:, :1], tokens[:, 1:]
        for block, prompts in zip(self.backbone.blocks, self.prompts, strict=True):
            tokens = block(torch.cat([summary, prompts.expand(tokens.shape[0], -1, -1), patches], 1))
            summary, patches = tokens[:, :1], tokens[:, 1 + len(prompts) :]
        return tokens


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")
