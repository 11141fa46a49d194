"""A backbone from nothing: a ViT learns to see distortions on drawn pictures, where no pretrained one may be used.

The result is frozen under GLIANet as a pretrained ViT would be. The pretext joins what GLIANet's head will ask for
(the score) with what it will need to know: which distortion, and how much each single patch lost against the
undistorted picture. The last is the richest: a picture has one score, but every patch its own damage. Both views
are shown, so that the tokens of either stream mean something.
"""

from collections.abc import Mapping

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, smooth_l1_loss

from glia.training.losses import quality_loss

# Share of a view's patches left out of every pass: a quarter of them trains six times as many views an hour on the
# CPU, and fragments are redundant enough for the score to survive.
_PATCH_DROP = 0.75
# Grey levels: deviations below this are mostly rounding to 8 bits, and are not blown up to unit variance.
_WHITENING_FLOOR = 2.0
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601
# SSIM's second constant (Wang et al., 2004) for grey levels 0..255.
_C2 = (0.03 * 255) ** 2


class BackbonePretraining(nn.Module):
    """A ViT with heads over its class token (score, type of distortion) and over every patch (its damage).

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
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.score = nn.Linear(backbone.embed_dim, 1)
        self.distortion = nn.Linear(backbone.embed_dim, distortions)
        self.damage = nn.Linear(backbone.embed_dim, len(DAMAGE))

    def forward(self, patches: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Some patches of every view, and where they belong.

        Args:
            patches: grey levels [B, N, side, side, 3].
            places: int64 [B, N], row by row from the upper left.

        Returns:
            Scores [B], distortion logits [B, K], damage of each patch [B, N, D].
        """
        vit = self.backbone
        projection = vit.patch_embed.proj
        normalized = (patches.to(self.mean.dtype) - self.mean) / self.std
        weight = projection.weight.permute(0, 2, 3, 1).flatten(1)  # channels last, as the patches are
        embedded = linear(normalized.flatten(2), weight, projection.bias)
        # What the ViT adds to embedded patches, taken from an embedding of zeros: class token and positions.
        blank = vit.patch_embed(self.mean.new_zeros(1, 3, *vit.patch_embed.img_size))
        frame = vit._pos_embed(torch.zeros_like(blank))
        positioned = embedded + frame[0, 1:][places]
        tokens = torch.cat([frame[:, :1].expand(len(patches), -1, -1), positioned], 1)
        features = vit.norm(vit.blocks(vit.norm_pre(tokens)))
        summary = features[:, 0]
        return self.score(summary).squeeze(-1), self.distortion(summary), self.damage(features[:, 1:])

    def predict(self, view: Tensor) -> Tensor:
        """Scores [B] of whole views, uint8 [B, H, W, 3]."""
        patches = split(view, self.backbone.patch_embed.patch_size[0])
        places = torch.arange(patches.shape[1], device=view.device).expand(len(view), -1)
        scores: Tensor = self(patches, places)[0]
        return scores

    def loss(self, batch: Mapping[str, Tensor], target: Tensor, step: int) -> Tensor:
        """Loss of one view of a batch; the detail view three times in four, since it carries most of the signal."""
        view = batch["semantic"] if step % 4 == 3 else batch["detail"]
        patches = split(view, self.backbone.patch_embed.patch_size[0])
        shape = patches.shape[:2]
        places = torch.rand(shape, device=view.device).argsort(1)[:, : round(shape[1] * (1 - _PATCH_DROP))]
        rows = torch.arange(len(view), device=view.device)[:, None]
        shown = patches[rows, places]
        score, logits, damage = self(shown, places)
        loss: Tensor = quality_loss(score.float(), target, batch["group"])
        known = batch["distortion"] >= 0
        if known.any():
            loss = loss + 0.2 * cross_entropy(logits[known], batch["distortion"][known])
        origin, paired = undistorted(batch["group"], batch["level"])
        if paired.any():
            with torch.autocast(view.device.type, enabled=False):
                expected = patch_damage(shown[paired], patches[origin[:, None], places][paired])
            loss = loss + smooth_l1_loss(damage[paired].float(), expected)
        return loss


def split(view: Tensor, side: int) -> Tensor:
    """[B, H, W, 3] to patches [B, N, side, side, 3], row by row from the upper left; a copy."""
    rows, cols = view.shape[1] // side, view.shape[2] // side
    patches: Tensor = view.unflatten(2, (cols, side)).unflatten(1, (rows, side)).transpose(2, 3).flatten(1, 2)
    return patches


def undistorted(group: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Of each sample: the index in the batch of its group's undistorted picture, int64 [B], and whether it has one."""
    match = (group[:, None] == group[None, :]) & (level == 0)[None, :]
    return match.int().argmax(1), match.any(1)


# What `patch_damage` tells of a patch, in its order.
DAMAGE = ("luma error", "chroma error", "structure", "brightness", "sharpness")


def patch_damage(patches: Tensor, originals: Tensor) -> Tensor:
    """How each patch differs from the one it was made from.

    Args:
        patches: grey levels [..., side, side, 3].
        originals: the same shape.

    Returns:
        float32 [..., 5], each of order one: log(1 + RMS error) of luma and of colour, the structure term of SSIM,
        the change of brightness, and the log ratio of the mean luma gradients (below 0: blurred, above: noisy).
    """
    x, y = patches.float(), originals.float()
    weights = x.new_tensor(_LUMA_WEIGHTS)
    luma_x, luma_y = x @ weights, y @ weights
    chroma = (x - luma_x[..., None]) - (y - luma_y[..., None])
    luma_x, luma_y = luma_x.flatten(-2), luma_y.flatten(-2)
    mean_x, mean_y = luma_x.mean(-1), luma_y.mean(-1)
    centered_x, centered_y = luma_x - mean_x[..., None], luma_y - mean_y[..., None]
    covariance = (centered_x * centered_y).mean(-1)
    variances = centered_x.square().mean(-1) + centered_y.square().mean(-1)
    side = x.shape[-2]
    gradient_x, gradient_y = (_mean_gradient(luma.unflatten(-1, (side, side))) for luma in (luma_x, luma_y))
    return torch.stack(
        [
            (luma_x - luma_y).square().mean(-1).sqrt().log1p(),
            chroma.square().mean((-3, -2, -1)).sqrt().log1p(),
            (2 * covariance + _C2) / (variances + _C2),
            (mean_x - mean_y) / 32,
            ((gradient_x + 1) / (gradient_y + 1)).log(),
        ],
        -1,
    )


def _mean_gradient(luma: Tensor) -> Tensor:
    """Mean absolute differences of neighbours, down plus across: [..., side, side] to [...]."""
    return luma.diff(dim=-2).abs().mean((-2, -1)) + luma.diff(dim=-1).abs().mean((-2, -1))


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
