"""`torch.ops.glia.views`: both normalised views of raw pictures of different sizes.

    views(Tensor pixels, Tensor starts, Tensor row_bytes, Tensor sizes, float[] mean, float[] std, ScalarType dtype,
          int grid=7, int fragment=32) -> (Tensor semantic, Tensor detail)

On CUDA one Triton launch makes them, which torch.export and AOTInductor take into what they compile; elsewhere plain
torch does, slower. `ragged_views` and `padded_views` are the two ways to call it.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from glia.ops.fragment_sample import check_grid, check_sizes, gather_fragments
from glia.ops.normalisation import check_normalisation, check_pixels, normalised
from glia.ops.resize import LONGEST_SIDE, bicubic_resize


def ragged_views(
    pixels: Tensor,
    starts: Tensor,
    sizes: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int = 7,
    fragment: int = 32,
) -> tuple[Tensor, Tensor]:
    """Make both views of pictures that lie one after another, as `pack_ragged` lays them.

    Args:
        pixels: uint8 [N], the pictures' bytes (RGB, row after row).
        starts: int64 [B], the byte at which each picture begins.
        sizes: int64 [B, 2], height and width, each from `fragment` to `LONGEST_SIDE` pixels. The runtime enlarges
            pictures with a side under `grid * fragment` first; here they are resized as they are.
        mean: three numbers in grey levels, 0..255.
        std: three positive numbers in grey levels.
        dtype: float16, bfloat16 or float32.
        grid: cells along each side of the detail view.
        fragment: pixels along each side of a fragment; `grid * fragment` is the side of the views.

    Returns:
        The semantic view (Pillow's antialiased bicubic resize, within one grey level) and the detail view (fragments
        at full resolution, Eq. 1-2, offsets zero), dtype [B, 3, S, S] each: `(x - mean) * (1 / std)` of whole grey
        levels, computed in float32 and rounded once.

    Raises:
        RuntimeError: a wrong dtype, shape or device; on the CPU also a size out of range or a picture that reaches
            past `pixels` (on CUDA, where a check would wait for the GPU, what lies outside `pixels` reads as 0).
    """
    row_bytes = sizes[:, 1] * 3
    views: tuple[Tensor, Tensor] = torch.ops.glia.views(
        pixels, starts, row_bytes, sizes, list(mean), list(std), dtype, grid, fragment
    )
    return views


def padded_views(
    images: Tensor,
    sizes: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int = 7,
    fragment: int = 32,
) -> tuple[Tensor, Tensor]:
    """Make both views of pictures padded into one batch, uint8 [B, H, W, 3]; else as `ragged_views`."""
    torch._check(images.dim() == 4 and images.shape[3] == 3, lambda: f"images must be [B, H, W, 3], not {images.shape}")
    batch, height, width, _ = images.shape
    starts = torch.arange(batch, device=sizes.device) * (height * width * 3)
    row_bytes = torch.full_like(starts, width * 3)
    views: tuple[Tensor, Tensor] = torch.ops.glia.views(
        images.reshape(-1), starts, row_bytes, sizes, list(mean), list(std), dtype, grid, fragment
    )
    return views


def _check(
    pixels: Tensor,
    starts: Tensor,
    row_bytes: Tensor,
    sizes: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int,
    fragment: int,
) -> None:
    check_grid(sizes, None, grid, fragment)
    torch._check(
        grid * fragment % 32 == 0, lambda: f"views of {grid} * {fragment} pixels a side: must be a multiple of 32"
    )
    check_pixels(pixels)
    for tensor in (starts, row_bytes):
        torch._check(
            tensor.dtype == torch.int64 and tensor.dim() == 1 and tensor.shape[0] == sizes.shape[0],
            lambda: f"starts and row_bytes must be int64 [{sizes.shape[0]}], one per size, not {list(tensor.shape)}",  # noqa: B023
        )
        torch._check(
            tensor.device == pixels.device == sizes.device,
            lambda: f"pixels, starts, sizes: on {pixels.device}, {tensor.device}, {sizes.device}: move them together",  # noqa: B023
        )
    check_normalisation(mean, std, dtype)


def _plain(
    pixels: Tensor,
    starts: Tensor,
    row_bytes: Tensor,
    sizes: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int = 7,
    fragment: int = 32,
) -> tuple[Tensor, Tensor]:
    _check(pixels, starts, row_bytes, sizes, mean, std, dtype, grid, fragment)
    check_sizes(sizes, fragment)
    torch._check(
        bool((sizes <= LONGEST_SIDE).all()), lambda: f"a side is longer than {LONGEST_SIDE} pixels: {sizes.tolist()}"
    )
    ends = starts + (sizes[:, 0] - 1) * row_bytes + sizes[:, 1] * 3
    torch._check(
        bool(((starts >= 0) & (row_bytes >= sizes[:, 1] * 3) & (ends <= pixels.numel())).all()),
        lambda: f"a picture reaches outside the {pixels.numel()} bytes: {starts.tolist()}, sizes {sizes.tolist()}",
    )
    pixels, size = pixels.contiguous(), grid * fragment
    resized = [pixels.new_empty((0, size, size, 3), dtype=torch.float32)]
    for start, pitch, (height, width) in zip(starts.tolist(), row_bytes.tolist(), sizes.tolist(), strict=True):
        picture = pixels.as_strided((1, height, width, 3), (0, pitch, 3, 1), start)
        resized.append(bicubic_resize(picture, torch.tensor([[height, width]], device=pixels.device), size))
    mosaic = gather_fragments(pixels, starts, row_bytes, sizes, None, grid, fragment)
    return normalised(torch.cat(resized), mean, std, dtype), normalised(mosaic, mean, std, dtype)


def _launched(
    pixels: Tensor,
    starts: Tensor,
    row_bytes: Tensor,
    sizes: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int = 7,
    fragment: int = 32,
) -> tuple[Tensor, Tensor]:
    _check(pixels, starts, row_bytes, sizes, mean, std, dtype, grid, fragment)
    # Without Triton (it comes with torch's CUDA builds on Linux) a GPU takes the plain form.
    if find_spec("triton") is None:
        return _plain(pixels, starts, row_bytes, sizes, mean, std, dtype, grid, fragment)
    from glia.ops import views_triton

    arguments = (pixels.contiguous(), starts.contiguous(), row_bytes.contiguous(), sizes.contiguous())
    return views_triton.launch(*arguments, list(mean), list(std), dtype, grid, fragment)


# triton_op, so that compilers see the kernel inside; the CPU's form is opaque to them.
_operator: Any = torch.library.triton_op("glia::views", _launched, mutates_args=())
_operator.register_kernel("cpu")(_plain)
