"""The semantic view inside a graph: Pillow's antialiased bicubic resize as two matrix products.

Pillow (src/libImaging/Resample.c), as `glia_runtime.views` calls it, resizes across first, rounds to 8 bits, then
down, with filter weights in 22-bit fixed point. The same order, rounding and weights here give its pixels: what may
differ is a sum that a float32 accumulates to the other side of a half, by one grey level (seen: in 20 of a view's
150,528 values at most). Resizing down first would read memory in order and spare a transposition, but it rounds and
clamps other intermediate values: on noise a quarter of the view then differs, by up to 18 grey levels.
"""

import torch
from torch import Tensor

from glia_runtime.manifest import Limits

_CUBIC = -0.5  # Pillow's bicubic: Keys' kernel, a = -0.5
_FIXED_POINT = float(1 << 22)  # PRECISION_BITS = 32 - 8 - 2

LONGEST_SIDE = 1 << 15
"""Longest side of a picture, in pixels: `distance` below stays under 2 * 32768 * 224 = 14.7 million, and float32 holds
every whole number up to 16.8 million. The longest panoramas that phones take are half as long; what goes beyond is a
thin strip that was enlarged, and costs gigabytes.
"""

PICTURE_LIMITS = Limits(max_height=LONGEST_SIDE, max_width=LONGEST_SIDE)
"""Of what makes the views itself."""


def bicubic_resize(images: Tensor, sizes: Tensor, target: int) -> Tensor:
    """Resize pictures padded into one batch; the padding is never seen.

    Args:
        images: uint8 [B, H, W, 3].
        sizes: int64 [B, 2], true height and width.
        target: side of the result in pixels; the aspect is not kept.

    Returns:
        float32 [B, target, target, 3], whole numbers 0 to 255.
    """
    # Cast first: TensorRT lets a UINT8 tensor feed nothing else, and glia::FragmentSample shares the Cast.
    planes = images.to(torch.float32).permute(0, 3, 1, 2)
    across = resampling_weights(sizes[:, 1], images.shape[2], target)
    down = resampling_weights(sizes[:, 0], images.shape[1], target)
    narrow = _to_grey_levels(planes @ across[:, None].transpose(-1, -2))  # [B, 3, H, target]
    return _to_grey_levels(down[:, None] @ narrow).permute(0, 2, 3, 1)


def resampling_weights(size: Tensor, padded: int, target: int) -> Tensor:
    """Pillow's filter weights along one axis.

    Args:
        size: int64 [B], true lengths.
        padded: length of the axis, at least every `size`.
        target: length of the result.

    Returns:
        float32 [B, target, padded]: row t holds the weights of result t, zero in the padding; a row's sum is 1 but
        for the rounding to fixed point.
    """
    source = torch.arange(padded, device=size.device)
    result = torch.arange(target, device=size.device)[:, None]
    true = size[:, None, None]
    # Source pixel x lies (x + 1/2) - (t + 1/2) size / target pixels from result t's centre, and the filter is
    # stretched by max(1, size / target). Over their common denominator all are whole numbers: no rounding up to
    # LONGEST_SIDE, where float32 coordinates of a 6000-pixel side are good to 1/2048 pixel only.
    distance = (2 * source + 1) * target - (2 * result + 1) * true
    stretch = 2 * size.clamp(min=target)[:, None, None]
    x = distance.abs().to(torch.float32) / stretch.to(torch.float32)
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _CUBIC
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    weights = torch.where(source < true, weights, torch.zeros_like(weights))
    weights = weights / weights.sum(-1, keepdim=True)
    return torch.round(weights * _FIXED_POINT) / _FIXED_POINT


def _to_grey_levels(values: Tensor) -> Tensor:
    # Halves go up, as in Pillow; torch.round would take them to the even neighbour.
    return torch.floor(values + 0.5).clamp(0, 255)
