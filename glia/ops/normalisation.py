"""What the operators that normalise have in common: their checks, and the normalisation in plain torch."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_pixels(pixels: Tensor) -> None:
    """Raise RuntimeError unless pixels is a flat buffer of bytes, uint8 [N]."""
    torch._check(
        pixels.dtype == torch.uint8 and pixels.dim() == 1,
        lambda: f"pixels must be uint8 [N], not {pixels.dtype} {list(pixels.shape)}",
    )


def check_normalisation(mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> None:
    """Raise RuntimeError unless mean and std are three numbers each, std positive, and dtype is a float to return."""
    torch._check(
        dtype in (torch.float16, torch.bfloat16, torch.float32),
        lambda: f"dtype must be float16, bfloat16 or float32, not {dtype}",
    )
    torch._check(
        len(mean) == len(std) == 3 and all(value > 0 for value in std),
        lambda: f"mean and std must be three numbers each, std positive, not {mean}, {std}",
    )


def normalised(view: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> Tensor:
    """`(view - mean) * (1 / std)` in float32, rounded once: grey levels [B, S, S, 3] to dtype [B, 3, S, S]."""
    shift = torch.tensor(mean, dtype=torch.float32, device=view.device)
    scale = torch.tensor([1 / value for value in std], dtype=torch.float32, device=view.device)
    return (
        ((view.to(torch.float32) - shift) * scale).permute(0, 3, 1, 2).to(dtype, memory_format=torch.contiguous_format)
    )
