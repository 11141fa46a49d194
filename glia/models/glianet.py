"""GLIANet: a frozen ViT sees a picture twice and small adapters let the two views talk.

Source: "Unleashing Vision Transformer Potential in Image Quality Assessment via Global-Local Adaptive
Interaction", arXiv 2605.17748. Where the paper leaves a choice open, docs/model.md says which reading this is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from timm.layers.patch_dropout import PatchDropout
from torch import Tensor, nn

from glia.models.attention import attend, class_attention
from glia.models.base import Head
from glia.models.registry import register_model
from glia.models.vit import ViTConfig, ViTModel
from glia_runtime.errors import UsageError
from glia_runtime.manifest import View


@dataclass(frozen=True)
class GLIANetConfig(ViTConfig):
    """Everything that decides the shape of a GLIANet.

    Attributes:
        backbone: as in every `ViTConfig`.
        latent_dim: width d of the space where the two streams meet.
        heads: heads of each cross-attention; divides `latent_dim`.
        up: hidden width of the up-projecting MLP: "bottleneck" is d, "wide" is the ViT's width, as in LoDa.
        residual: "additive" adds s * up(.) to the tokens with a learned, near-zero s per channel; "replace" is
            Eq. 3 to the letter.
        lgf: local-global fusion, Eq. 3 (Table 4).
        glr: global-local refinement, Eq. 4 (Table 4).
        guidance: the view that becomes the prior F_s (Table 5).
        main: the view that runs through the adapted blocks (Table 5).
        dropout: before the head, while training.
        token_drop: share of either view's tokens left out while training, drawn anew for every picture. Scoring
            always sees all of them. Half of them train twice as fast.
    """

    latent_dim: int = 192
    heads: int = 3
    up: Literal["bottleneck", "wide"] = "bottleneck"
    residual: Literal["additive", "replace"] = "additive"
    lgf: bool = True
    glr: bool = True
    guidance: View = "semantic"
    main: View = "detail"
    dropout: float = 0.1
    token_drop: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built, in one line each."""
        choices = {
            "up": ("bottleneck", "wide"),
            "residual": ("additive", "replace"),
            "guidance": ("semantic", "detail"),
            "main": ("semantic", "detail"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if self.latent_dim < 1 or self.heads < 1 or self.latent_dim % self.heads:
            raise UsageError(f"latent_dim {self.latent_dim} must be a multiple of heads {self.heads}")
        for name in ("dropout", "token_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        if not (self.lgf or self.glr):
            raise UsageError("at least one of lgf and glr must be on: without both the views never meet")


PRESETS: dict[str, GLIANetConfig] = {
    # 8.0 M trainable on ViT-B/16; the paper says 8 M.
    "default": GLIANetConfig(),
    # The widths of LoDa (d = 64, 4 heads, wide up-projection), whose equations the paper's mirror: 8.8 M.
    "loda": replace(GLIANetConfig(), latent_dim=64, heads=4, up="wide"),
}


class CrossAttention(nn.Module):
    """Multi-head cross-attention in the latent space: queries [B, N, d] look at context [B, M, d]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        # [B, M, 2 d] -> two of [B, heads, M, d / heads]
        k, v = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended: Tensor = self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        return attended


class GLIABlock(nn.Module):
    """One adapter, placed before a ViT block (Section 2.3).

    Both equations start from the same latent F_d, the down-projected tokens before fusion.

    Args:
        width: channels of the ViT.
        config: widths and switches.
        refine: whether Eq. 4 is needed here; after the last block nobody reads its output.
    """

    def __init__(self, width: int, config: GLIANetConfig, refine: bool) -> None:
        super().__init__()
        dim = config.latent_dim
        self.additive = config.residual == "additive"
        self.fuses, self.refines = config.lgf, config.glr and refine
        # Residual-stream tokens of a ViT have a few very large channels; without the norm they rule the latent.
        self.down = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim), nn.GELU(), nn.Linear(dim, dim))
        if self.fuses:
            hidden = width if config.up == "wide" else dim
            self.fuse = CrossAttention(dim, config.heads)
            self.fuse_scale = nn.Parameter(torch.full((), 0.1))
            self.up = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, width))
            if self.additive:
                self.up_scale = nn.Parameter(torch.empty(width).normal_(std=0.02))
        if self.refines:
            self.refine = CrossAttention(dim, config.heads)
            self.refine_scale = nn.Parameter(torch.full((), 0.1))

    def forward(self, tokens: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, width] and prior F_sd [B, M, d] in; both updated out."""
        local = self.down(tokens)
        if self.fuses:  # Eq. 3
            fused = self.up(local + self.fuse_scale * self.fuse(local, prior))
            tokens = tokens + self.up_scale * fused if self.additive else fused
        if self.refines:  # Eq. 4
            prior = prior + self.refine_scale * self.refine(prior, local)
        return tokens, prior


@register_model("glianet")
class GLIANet(ViTModel):
    """The model of Fig. 1: only adapters, the projection of the prior and the head are trained."""

    config_type = GLIANetConfig
    config: GLIANetConfig

    def __init__(self, config: GLIANetConfig) -> None:
        super().__init__(config)
        width, depth = self.backbone.embed_dim, len(self.backbone.blocks)
        self.token_drop = PatchDropout(config.token_drop, num_prefix_tokens=1)
        self.project = nn.Linear(width, config.latent_dim)
        self.adapters = nn.ModuleList(
            # With refinement alone the score is read from the prior, so the last block refines too.
            GLIABlock(width, config, refine=index < depth - 1 or not config.lgf)
            for index in range(depth)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = Head(width if config.lgf else config.latent_dim, 1)

    def _embed(self, view: Tensor) -> Tensor:
        """Tokens [B, 197, width] as the first block takes them, class token first."""
        vit = self.backbone
        tokens: Tensor = vit.norm_pre(self.token_drop(vit._pos_embed(vit.patch_embed(self._normalize(view)))))
        return tokens

    def prior(self, view: Tensor) -> Tensor:
        """F_s, [B, 197, width]: normalised tokens of the frozen ViT's last block, class token first; no gradient."""
        with torch.no_grad():
            features: Tensor = self.backbone.norm(self.backbone.blocks(self._embed(view)))
        return features

    def predict(self, *views: Tensor) -> Tensor:
        return self._whole(views)[0]

    @property
    def prior_view(self) -> View | None:
        """The view that guides. Not while tokens are left out: others are with every batch."""
        return None if self.config.token_drop else self.config.guidance

    @property
    def main_view(self) -> View:
        return self.config.main

    def predict_from(self, prior: Tensor, main: Tensor) -> Tensor:
        return self._predict(prior, main)[0]

    @property
    def map_view(self) -> View | None:
        """The main view. Without `lgf` the score is read from the prior, which no block's class token attends for."""
        return self.config.main if self.config.lgf else None

    def look(self, *views: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B] and the class token's attention in the last ViT block, [B, 14, 14], see `class_attention`.

        The head reads the class token after that block, so this is where its last look went (the paper's Fig. 3).
        """
        output, tokens = self._whole(views)
        shares = class_attention(self.backbone.blocks[-1], tokens)
        return output * self.score_std + self.score_mean, shares.unflatten(1, self.backbone.patch_embed.grid_size)

    def _whole(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """`_predict` from both views."""
        named = dict(zip(self.view_spec.names, views, strict=True))
        return self._predict(self.prior(named[self.config.guidance]), named[self.config.main])

    def _predict(self, features: Tensor, main: Tensor) -> tuple[Tensor, Tensor]:
        """The head's output [B], and the tokens [B, 197, width] that the last ViT block was given.

        Args:
            features: F_s, from `prior`.
            main: the main view.
        """
        prior = self.project(features)
        backbone = self.backbone
        tokens = self._embed(main)
        for adapter, block in zip(self.adapters, backbone.blocks, strict=True):
            adapted, prior = adapter(tokens, prior)
            tokens = block(adapted)
        summary = backbone.norm(tokens)[:, 0] if self.config.lgf else prior[:, 0]
        score: Tensor = self.head(self.dropout(summary)).squeeze(-1)
        return score, adapted
