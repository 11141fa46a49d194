"""What the tests of transferred labels share."""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

BACKBONE = "test_resnet"  # timm's, of half a megabyte


def blob(seed: int, height: int = 64, width: int = 80) -> np.ndarray:
    """A smooth random picture, unlike those of other seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save_weights(path: Path) -> Path:
    """Write a state dict of `BACKBONE` as timm's hub has them, with the classifier."""
    torch.manual_seed(1)
    save_file(timm.create_model(BACKBONE).state_dict(), path)
    return path
