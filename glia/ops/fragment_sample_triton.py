"""The CUDA form of fragment sampling: one Triton kernel for padded and for ragged batches.

Imported only when a CUDA tensor reaches an operator, because Triton comes with torch's Linux CUDA builds
alone. Under TRITON_INTERPRET=1 the same source runs on the CPU, and `triton.compile` makes PTX of it
without a GPU.
"""

# Kernels have no Python types, and their compile-time constants are upper-case by Triton's convention.
# mypy: disable-error-code="import-untyped,no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803, N806

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

# One program makes this many mosaic pixels: 49 programs an image. Not tuned on a GPU yet. The interpreter
# runs programs one by one in NumPy, where a call costs more than its arithmetic: there one program, of the
# next power of two above the mosaic's 50176 pixels, makes the whole image.
BLOCK = 65536 if triton.knobs.runtime.interpret else 1024


@triton.jit
def fragment_source(row, column, image, height, width, offsets, GRID: tl.constexpr, FRAGMENT: tl.constexpr):
    """Say which pixel (row, column) of the `image`-th image a mosaic pixel shows (GLIANet, Eq. 1-2)."""
    cell_row = row // FRAGMENT
    cell_column = column // FRAGMENT
    top = cell_row * (height // GRID)
    left = cell_column * (width // GRID)
    if offsets is not None:
        cell = image * 2 * GRID * GRID + cell_row * GRID + cell_column
        top += tl.load(offsets + cell)
        left += tl.load(offsets + cell + GRID * GRID)
    top = tl.minimum(tl.maximum(top, 0), height - FRAGMENT)
    left = tl.minimum(tl.maximum(left, 0), width - FRAGMENT)
    return top + row % FRAGMENT, left + column % FRAGMENT


# Numbers that change with every batch: compiled once, not once more for each that 16 happens to divide.
@triton.jit(do_not_specialize=["length", "image_bytes", "row_bytes"])
def fragment_sample_kernel(
    out,  # uint8 [B, S, S, 3] when MEAN is None, else floating [B, 3, S, S]
    pixels,  # uint8, `length` bytes
    length,
    starts,  # int64 [B]: the byte where each packed image begins; None for a padded batch
    sizes,  # int64 [B, 2]: height, width
    offsets,  # int64 [B, 2, GRID, GRID] or None
    image_bytes,  # between the images of a padded batch
    row_bytes,  # between the rows of a padded batch
    MEAN: tl.constexpr,  # three grey levels, or None
    INVERSE_STD: tl.constexpr,
    GRID: tl.constexpr,
    FRAGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Make BLOCK mosaic pixels of one image: program (image, block)."""
    SIZE: tl.constexpr = GRID * FRAGMENT
    # int64, as everything made from it: a batch of 60 pictures of 12 megapixels passes 2 GiB.
    image = tl.program_id(0).to(tl.int64)
    position = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = position < SIZE * SIZE
    # Past the end the index function works on pixel 0: its own loads then need no mask.
    inside = tl.where(valid, position, 0)
    height = tl.load(sizes + image * 2)
    width = tl.load(sizes + image * 2 + 1)
    row, column = fragment_source(inside // SIZE, inside % SIZE, image, height, width, offsets, GRID, FRAGMENT)
    if starts is None:
        address = image * image_bytes + row * row_bytes + column * 3
    else:
        address = tl.load(starts + image) + (row * width + column) * 3
    # Sizes are not checked on a GPU (the host would wait for it); a wrong one must not read foreign memory.
    readable = valid & (address >= 0) & (address + 2 < length)
    for channel in tl.static_range(3):
        value = tl.load(pixels + address + channel, mask=readable, other=0)
        if MEAN is None:
            tl.store(out + (image * SIZE * SIZE + position) * 3 + channel, value, mask=valid)
        else:
            normalised = (value.to(tl.float32) - MEAN[channel]) * INVERSE_STD[channel]
            plane = (image * 3 + channel) * SIZE * SIZE
            tl.store(out + plane + position, normalised.to(out.dtype.element_ty), mask=valid)


def _launch(
    out: Tensor,
    pixels: Tensor,
    starts: Tensor | None,
    sizes: Tensor,
    offsets: Tensor | None,
    image_bytes: int,
    row_bytes: int,
    mean: tuple[float, ...] | None,
    inverse_std: tuple[float, ...] | None,
    grid: int,
    fragment: int,
) -> Tensor:
    if out.numel() == 0:
        return out
    blocks = triton.cdiv((grid * fragment) ** 2, BLOCK)
    with torch.cuda.device_of(pixels):  # Triton launches on the current device
        fragment_sample_kernel[(out.shape[0], blocks)](
            out,
            pixels,
            pixels.numel(),
            None if starts is None else starts.contiguous(),
            sizes.contiguous(),
            None if offsets is None else offsets.contiguous(),
            image_bytes,
            row_bytes,
            MEAN=mean,
            INVERSE_STD=inverse_std,
            GRID=grid,
            FRAGMENT=fragment,
            BLOCK=BLOCK,
            enable_fp_fusion=False,  # keep the subtraction and the product apart, as the plain form does
        )
    return out


def sample_padded(images: Tensor, sizes: Tensor, offsets: Tensor | None, grid: int, fragment: int) -> Tensor:
    """`glia::fragment_sample` for uint8 [B, H, W, 3]; the caller has checked the arguments."""
    images = images.contiguous()
    batch, height, width, _ = images.shape
    out = images.new_empty((batch, grid * fragment, grid * fragment, 3))
    return _launch(out, images, None, sizes, offsets, height * width * 3, width * 3, None, None, grid, fragment)


def sample_ragged(
    pixels: Tensor,
    starts: Tensor,
    sizes: Tensor,
    offsets: Tensor | None,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int,
    fragment: int,
) -> Tensor:
    """`glia::fragment_sample_ragged`; the caller has checked the arguments."""
    out = pixels.new_empty((sizes.shape[0], 3, grid * fragment, grid * fragment), dtype=dtype)
    inverse_std = tuple(1 / value for value in std)
    return _launch(out, pixels.contiguous(), starts, sizes, offsets, 0, 0, tuple(mean), inverse_std, grid, fragment)
