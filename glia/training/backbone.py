"""A backbone from nothing: a ViT learns to see distortions on drawn pictures, where no pretrained one may be used.

The result is frozen under GLIANet as a pretrained ViT would be. The pretext joins what GLIANet's head will ask for
(the score) with what it will need to know (which distortion); both views are shown, so that the tokens of either
stream mean something.
"""

from collections.abc import Mapping

import torch
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from glia.training.losses import quality_loss

# Share of a view's tokens left out of every pass: a quarter of them trains six times as many views an hour on the
# CPU, and fragments are redundant enough for the score to survive.
_TOKEN_DROP = 0.75
# Grey levels: deviations below this are mostly rounding to 8 bits, and are not blown up to unit variance.
_WHITENING_FLOOR = 2.0


class BackbonePretraining(nn.Module):
    """A ViT with two heads over its class token: the score and the type of distortion.

    Args:
        backbone: trained in place.
        mean: of the input, grey levels, [3].
        std: of the input, grey levels, [3].
        distortions: number of types.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: VisionTransformer, mean: Tensor, std: Tensor, distortions: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(True)
        self.drop = PatchDropout(_TOKEN_DROP, num_prefix_tokens=1)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.score = nn.Linear(backbone.embed_dim, 1)
        self.distortion = nn.Linear(backbone.embed_dim, distortions)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """View uint8 [B, 224, 224, 3] to score [B] and distortion logits [B, K]."""
        vit = self.backbone
        normalized = ((view.to(self.mean.dtype) - self.mean) / self.std).permute(0, 3, 1, 2)
        tokens = vit.norm_pre(self.drop(vit._pos_embed(vit.patch_embed(normalized))))
        summary = vit.norm(vit.blocks(tokens))[:, 0]
        return self.score(summary).squeeze(-1), self.distortion(summary)

    def loss(self, batch: Mapping[str, Tensor], target: Tensor, step: int) -> Tensor:
        """Loss of one view of a batch; the detail view three times in four, since it carries most of the signal."""
        view = batch["semantic"] if step % 4 == 3 else batch["detail"]
        score, logits = self(view)
        known = batch["distortion"] >= 0
        kind = cross_entropy(logits[known], batch["distortion"][known]) if known.any() else logits.sum() * 0
        return quality_loss(score.float(), target, batch["group"]) + 0.2 * kind


@torch.no_grad()
def whiten_patch_embedding(backbone: VisionTransformer, mean: Tensor, std: Tensor, views: Tensor) -> None:
    """Start the patch embedding as a whitening of real patches instead of at random, in place.

    In pictures the energy falls steeply with frequency, so a random projection sees brightness and little else;
    distortions live in the small, fine components. Half the channels become the leading principal components at
    unit variance, the other half random mixtures of all the whitened rest, so that fine detail counts as much.

    Args:
        backbone: its patch embedding is replaced.
        mean: of the input, grey levels, [3].
        std: of the input, grey levels, [3].
        views: uint8 [N, 224, 224, 3] to measure on; some thousands of patches are enough.
    """
    projection = backbone.patch_embed.proj
    channels, side = projection.out_channels, projection.kernel_size[0]
    normalized = ((views.float() - mean) / std).permute(0, 3, 1, 2)
    patches = nn.functional.unfold(normalized, side, stride=side).transpose(1, 2).flatten(0, 1)
    center = patches.mean(0)
    variance, components = torch.linalg.eigh(torch.cov((patches - center).T))
    floor = (_WHITENING_FLOOR / std.mean()) ** 2
    whitening = (components / variance.clamp_min(floor).sqrt()).T.flip(0)  # strongest first
    leading, rest = whitening[: channels // 2], whitening[channels // 2 :]
    mixture = nn.init.orthogonal_(torch.empty(channels - len(leading), len(rest)))
    weight = torch.cat([leading, mixture @ rest])
    projection.weight.copy_(weight.view_as(projection.weight))
    if projection.bias is not None:
        projection.bias.copy_(-(weight @ center))
