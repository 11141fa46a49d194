"""What the tests of transferred labels share."""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from glia.transfer.transfer import TransferConfig, transfer_labels

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


REFERENCES = [f"I{number:02d}" for number in range(1, 82)]


def score(reference: int, kind: int, level: int) -> float:
    """A made-up rating, different for every reference, type and level: 1.3 to 4.9."""
    return round(5 - 0.5 * level - 0.02 * kind - 0.008 * reference, 4)


def carry(config: TransferConfig, out: Path, resume: bool = False) -> list[str]:
    """Run a transfer and return what it complained of."""
    complaints: list[str] = []
    transfer_labels(config, out, resume, complaints.append, Console(quiet=True))
    return complaints
