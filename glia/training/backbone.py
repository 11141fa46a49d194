"""A backbone from nothing: a ViT learns to see distortions on drawn pictures, where no pretrained one may be used.

The result is frozen under GLIANet as a pretrained ViT would be. The pretext joins what GLIANet's head will ask for
(the score) with what it will need to know: which distortion, how much each single patch lost against the undistorted
picture, and the small-scale statistics of each patch that give distortions away. The last two are the richest: a
picture has one score, but every patch its own. Both views are shown, so that the tokens of either stream mean
something.
"""

from collections.abc import Mapping

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, pad, smooth_l1_loss

from glia.data.views import views_at
from glia.models.base import Head
from glia.training.losses import quality_loss

# The views in turn, one a step: the detail view mostly, since it tells more.
SHOWN = (("detail",), ("detail",), ("detail",), ("semantic",))
# Share of a view's patches left out of every pass: a quarter of them trains six times as many views an hour on the
# CPU, and fragments are redundant enough for the score to survive.
_PATCH_DROP = 0.75
# Grey levels: deviations below this are mostly rounding to 8 bits, and are not blown up to unit variance.
_WHITENING_FLOOR = 2.0
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601
# SSIM's second constant (Wang et al., 2004) for grey levels 0..255.
_C2 = (0.03 * 255) ** 2


class BackbonePretraining(nn.Module):
    """A ViT with heads over its class token (score, type of distortion) and every patch (damage, statistics).

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
        self.score = Head(backbone.embed_dim, 1)
        self.distortion = nn.Linear(backbone.embed_dim, distortions)
        self.patch = nn.Linear(backbone.embed_dim, len(DAMAGE) + len(STATISTICS))

    def forward(self, patches: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Some patches of every view, and where they belong.

        Args:
            patches: grey levels [B, N, side, side, 3].
            places: int64 [B, N], row by row from the upper left.

        Returns:
            Scores [B], distortion logits [B, K]; of each patch [B, N, D] its damage, then its statistics.
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
        return self.score(summary).squeeze(-1), self.distortion(summary), self.patch(features[:, 1:])

    def predict(self, view: Tensor) -> Tensor:
        """Scores [B] of whole views, uint8 [B, H, W, 3]."""
        patches = split(view, self.backbone.patch_embed.patch_size[0])
        places = torch.arange(patches.shape[1], device=view.device).expand(len(view), -1)
        scores: Tensor = self(patches, places)[0]
        return scores

    def loss(self, batch: Mapping[str, Tensor], target: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Loss of one view of a batch, the one that `SHOWN` says, and the scores [B]."""
        (name,) = views_at(step, SHOWN)
        view = turned(batch[name])
        patches = split(view, self.backbone.patch_embed.patch_size[0])
        shape = patches.shape[:2]
        places = torch.rand(shape, device=view.device).argsort(1)[:, : round(shape[1] * (1 - _PATCH_DROP))]
        rows = torch.arange(len(view), device=view.device)[:, None]
        shown = patches[rows, places]
        score, logits, told = self(shown, places)
        damage, statistics = told.float().split([len(DAMAGE), len(STATISTICS)], -1)
        with torch.autocast(view.device.type, enabled=False):
            loss: Tensor = quality_loss(score.float(), target, batch["group"])
            loss = loss + smooth_l1_loss(statistics, patch_statistics(shown))
            known = batch["distortion"] >= 0
            if known.any():
                loss = loss + 0.2 * cross_entropy(logits[known].float(), batch["distortion"][known])
            origin, paired = undistorted(batch["group"], batch["level"])
            if paired.any():
                originals = patches[origin[:, None], places]
                loss = loss + smooth_l1_loss(damage[paired], patch_damage(shown[paired], originals[paired]))
        return loss, score.float()


def turned(view: Tensor) -> Tensor:
    """The views of a batch [B, side, side, 3], all turned or overturned alike, at random.

    Damage has no up, nor has what is drawn, so one picture is worth several. With the mirror images that come from the
    loader these are all eight ways to lay a square; a mosaic of fragments becomes that of the turned picture.
    """
    across, over = torch.rand(2) < 0.5
    view = view.transpose(1, 2) if across else view
    return view.flip(1) if over else view


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
    luma_x, chroma_x = _luma_and_chroma(patches)
    luma_y, chroma_y = _luma_and_chroma(originals)
    mean_x, mean_y = luma_x.mean((-2, -1)), luma_y.mean((-2, -1))
    centered_x, centered_y = luma_x - mean_x[..., None, None], luma_y - mean_y[..., None, None]
    covariance = (centered_x * centered_y).mean((-2, -1))
    variances = centered_x.square().mean((-2, -1)) + centered_y.square().mean((-2, -1))
    sharpness_x, sharpness_y = (_gradients(luma).flatten(-3).mean(-1) for luma in (luma_x, luma_y))
    return torch.stack(
        [
            (luma_x - luma_y).square().mean((-2, -1)).sqrt().log1p(),
            (chroma_x - chroma_y).square().mean((-3, -2, -1)).sqrt().log1p(),
            (2 * covariance + _C2) / (variances + _C2),
            (mean_x - mean_y) / 32,
            ((sharpness_x + 1) / (sharpness_y + 1)).log(),
        ],
        -1,
    )


# What `patch_statistics` tells of a patch, in its order. JPEG's blocks are 8 pixels wide and may start anywhere.
_BLOCK = 8
STATISTICS = (
    "sharpness",
    "colour",
    "flatness down",
    "flatness across",
    *(f"edge {way} {phase}" for way in ("down", "across") for phase in range(_BLOCK)),
)


def patch_statistics(patches: Tensor) -> Tensor:
    """What of each patch gives distortions away and can be read off it alone.

    Args:
        patches: grey levels [..., side, side, 3], side a multiple of 8.

    Returns:
        float32 [..., 20], each of order one: log(1 + mean luma gradient); log(1 + RMS colour); the share of luma
        differences under one grey level, down and across (blur, blocks, quantisation); and, down and across, how much
        stronger the gradient is at each row and column modulo 8 than on average (JPEG's grid).
    """
    luma, chroma = _luma_and_chroma(patches)
    gradients = _gradients(luma)
    mean = gradients.mean((-3, -2, -1)).log1p()
    flat = (gradients < 1).float().mean((-2, -1))
    lines = pad(gradients.mean(-1), (0, 1), value=torch.nan).unflatten(-1, (-1, _BLOCK)).nanmean(-2).log1p()
    strength = (lines - lines.nanmean(-1, keepdim=True)).nan_to_num()  # [..., 2, 8]; patches of 8 pixels lack one
    colour = chroma.square().mean((-3, -2, -1)).sqrt().log1p()
    # 3: the spread of the strengths over photographs' patches is about a third
    return torch.cat([mean[..., None], colour[..., None], flat, 3 * strength.flatten(-2)], -1)


def _luma_and_chroma(patches: Tensor) -> tuple[Tensor, Tensor]:
    """[..., 3] to luma [...] and what is left of each channel without it [..., 3], float32."""
    values = patches.float()
    luma = values @ values.new_tensor(_LUMA_WEIGHTS)
    return luma, values - luma[..., None]


def _gradients(luma: Tensor) -> Tensor:
    """Absolute differences of neighbours: [..., side, side] to [..., 2, side - 1, side].

    The first of the two runs down; the second runs across and is transposed, so that the lines of either are rows.
    """
    return torch.stack([lines.diff(dim=-2).abs() for lines in (luma, luma.mT)], -3)


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
