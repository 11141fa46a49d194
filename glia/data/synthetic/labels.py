"""The label of a synthetic picture: published full-reference metrics, averaged.

HaarPSI (Reisenhofer et al., 2018) and MDSI (Nafchi et al., 2016) are among the metrics that agree best with
people on KADID-10k and see colour; SSIM (Wang et al., 2004) adds the change of luminance that gradient-based
metrics ignore. All three come from `piq` with its default settings.
"""

import numpy as np
import numpy.typing as npt
import piq
import torch

from glia_runtime.manifest import ScoreScale

Picture = npt.NDArray[np.uint8]

LABEL_SCALE = ScoreScale(minimum=0.0, maximum=100.0, higher_is_better=True, dataset="synthetic")

# MDSI is a deviation: 0 for identical pictures and about 0.6 for the worst of our level 5.
_MDSI_WORST = 0.6


def quality(reference: Picture, distorted: Picture) -> float:
    """100 * mean(HaarPSI, 1 - MDSI / 0.6, SSIM), clipped to 0..100; 100 for identical pictures.

    Both pictures are uint8 [H, W, 3] of the same size.
    """
    x, y = (torch.from_numpy(np.array(p)).permute(2, 0, 1)[None].float() / 255 for p in (distorted, reference))
    haarpsi = piq.haarpsi(x, y, data_range=1.0)
    mdsi = piq.mdsi(x, y, data_range=1.0)
    ssim = piq.ssim(x, y, data_range=1.0)
    mean = (float(haarpsi) + 1 - float(mdsi) / _MDSI_WORST + float(ssim)) / 3
    return float(np.clip(100 * mean, 0, 100))
