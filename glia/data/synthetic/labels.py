"""The label of a synthetic picture: five published full-reference metrics, averaged.

What one metric says of a picture is partly about itself; the mean of several that look at different things is nearer to
what all of them see. SSIM (Wang et al., 2004) sees structure and luminance, VIF (Sheikh and Bovik, 2006, in the pixel
domain) how much of the detail is left, GMSD (Xue et al., 2014) how unevenly edges are hurt; HaarPSI (Reisenhofer et
al., 2018) and MDSI (Nafchi et al., 2016), among those that agree best with people on KADID-10k, see colour as well.

All are as `piq` has them by default. GMSD, HaarPSI and MDSI are called there; SSIM and VIF, whose square windows take
two thirds of the time of all five, are computed here with separable ones, and a label takes half as long.
"""

import numpy as np
import numpy.typing as npt
import piq
import torch
from piq.functional import rgb2yiq
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d
from torch.signal.windows import gaussian

from glia_runtime.manifest import ScoreScale

Picture = npt.NDArray[np.uint8]

LABEL_SCALE = ScoreScale(minimum=0.0, maximum=100.0, higher_is_better=True, dataset="synthetic")

SMALLEST_SIDE = 41
"""Of a picture that can be labelled: what VIF's windows at four scales need."""

# These two are deviations: 0 for identical pictures, and about this for the worst of our level 5.
_MDSI_WORST = 0.6
_GMSD_WORST = 0.35
# SSIM's constants, for values 0 to 1.
_C1, _C2 = 0.01**2, 0.03**2
# VIF's: variance of the eye's noise in grey levels, and below which a variance counts as none.
_EYE_NOISE, _FLAT = 2.0, 1e-8


def quality(reference: Picture, distorted: Picture) -> float:
    """100 * mean(SSIM, VIF, HaarPSI, 1 - MDSI / 0.6, 1 - GMSD / 0.35), clipped to 0..100; 100 for identical pictures.

    Both pictures are uint8 [H, W, 3] of the same size.

    Raises:
        ValueError: a side below `SMALLEST_SIDE`.
    """
    if min(reference.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(f"a picture of {reference.shape[1]}x{reference.shape[0]} is too small to be labelled")
    with torch.inference_mode():
        x, y = (torch.from_numpy(np.array(p)).permute(2, 0, 1)[None].float() / 255 for p in (distorted, reference))
        kept = [ssim(x, y), vif(x, y), float(piq.haarpsi(x, y, data_range=1.0))]
        mdsi, gmsd = float(piq.mdsi(x, y, data_range=1.0)), float(piq.gmsd(x, y, data_range=1.0))
    return float(np.clip(100 * np.mean([*kept, 1 - mdsi / _MDSI_WORST, 1 - gmsd / _GMSD_WORST]), 0, 100))


def ssim(x: Tensor, y: Tensor) -> float:
    """SSIM of two pictures, float [1, 3, H, W] of values 0 to 1, shrunk to about 256 pixels; mean over channels."""
    factor = max(1, round(min(x.shape[-2:]) / 256))
    mean_x, mean_y, var_x, var_y, cov = _local(avg_pool2d(x, factor), avg_pool2d(y, factor), _window(11, 1.5))
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return float((luminance * (2 * cov + _C2) / (var_x + var_y + _C2)).mean())


def vif(x: Tensor, y: Tensor) -> float:
    """VIF of `x` against its reference `y`, float [1, 3, H, W] of values 0 to 1: their luma at four scales."""
    x, y = (255 * rgb2yiq(picture)[:, :1] for picture in (x, y))
    left = whole = 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        window = _window(size, size / 5)
        if scale:
            x, y = (_filtered(picture, window)[..., ::2, ::2] for picture in (x, y))
        _, _, var_x, var_y, cov = _local(x, y, window)
        var_x, var_y = var_x.relu(), var_y.relu()
        gain = cov / (var_y + _FLAT)
        # Where either is flat, or they run against each other, nothing of the reference is left.
        useful = (var_x >= _FLAT) & (var_y >= _FLAT) & (gain >= 0)
        gain = torch.where(useful, gain, 0)
        noise = torch.where(useful, var_x - gain * cov, var_x).clamp_min(_FLAT)
        var_y = torch.where(var_y >= _FLAT, var_y, 0)
        left += float(torch.log10(1 + gain**2 * var_y / (noise + _EYE_NOISE)).sum())
        whole += float(torch.log10(1 + var_y / _EYE_NOISE).sum())
    return (left + _FLAT) / (whole + _FLAT)


def _window(size: int, sigma: float) -> Tensor:
    """Half of a Gaussian window, which is the product of two: float [size], of sum 1."""
    weights = gaussian(size, std=sigma)
    return weights / weights.sum()


def _local(x: Tensor, y: Tensor, window: Tensor) -> tuple[Tensor, ...]:
    """Means, variances and the covariance of two pictures [1, C, H, W] in a window around each place."""
    mean_x, mean_y, xx, yy, xy = _filtered(torch.cat([x, y, x * x, y * y, x * y], 1), window).chunk(5, 1)
    return mean_x, mean_y, xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y


def _filtered(planes: Tensor, window: Tensor) -> Tensor:
    """Each plane of [1, C, H, W] averaged over a window, rows and then columns; without the border."""
    channels = planes.shape[1]
    planes = planes.contiguous(memory_format=torch.channels_last)  # three times as fast
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        planes = conv2d(planes, window.view(shape).repeat(channels, 1, 1, 1), groups=channels)
    return planes
