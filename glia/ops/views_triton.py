"""The CUDA form of both views: one Triton launch for a batch of raw pictures of different sizes.

A program makes either a tile of the semantic view or a block of the detail view; they share nothing but the launch. The
resize is separable and runs as two chains of products on the matrix units: a tile walks down the rows that it needs,
narrows some of them at a time, rounds those to grey levels as Pillow does, and adds them up. A filter is 4 results
wide, so neighbouring tiles overlap: each pixel is loaded (1 + 3 / TILE)^2 = 1.2 times, once of these from memory if the
cache holds it meanwhile.

Imported only when a CUDA tensor reaches the operator, see `glia.ops.fragment_sample_triton`.
"""

# Kernels have no Python types, and their compile-time constants are upper-case by Triton's convention.
# mypy: disable-error-code="import-untyped,no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803, N806

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from glia.ops.fragment_sample_triton import fragment_source
from glia.ops.resize import LONGEST_SIDE

# Not tuned on a GPU yet. 32 divides 224. The interpreter runs programs one by one in NumPy, where a call costs more
# than its arithmetic: there one program makes a quarter of the detail view.
TILE = 32
BLOCK = 16384 if triton.knobs.runtime.interpret else 1024
_STEP = 256 if triton.knobs.runtime.interpret else 32


@triton.jit
def filter_weights(result, source, size, TARGET: tl.constexpr):
    """Weigh source pixels for result pixels: Pillow's bicubic filter as in `glia.ops.resize`, rows not normalised."""
    distance = (2 * source + 1) * TARGET - (2 * result + 1) * size
    x = tl.abs(distance).to(tl.float32) / (2 * tl.maximum(size, TARGET)).to(tl.float32)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    weights = tl.where(x < 1, near, tl.where(x < 2, far, 0.0))
    return tl.where(source < size, weights, 0.0)


@triton.jit
def first_source(result, size, TARGET: tl.constexpr):
    """Say at or before which source pixel the filter of `result` begins."""
    return tl.maximum(((2 * result + 1) * size - 4 * tl.maximum(size, TARGET) - TARGET) // (2 * TARGET), 0)


@triton.jit
def end_source(result, size, TARGET: tl.constexpr):
    """Say before which source pixel the filter of `result` has ended."""
    return tl.minimum(((2 * result + 1) * size + 4 * tl.maximum(size, TARGET) - TARGET) // (2 * TARGET) + 2, size)


@triton.jit
def fixed_point(weights, total):
    """Normalise, round to Pillow's 22 bits, and split: float16 products of the two parts with grey levels are exact.

    Triton's division may be off by 2 units in the last place, and a weight by one of Pillow's units with it: far less
    than what may change a grey level by more than one.
    """
    rounded = tl.floor(weights / total * 4194304.0 + 0.5) / 4194304.0
    high = rounded.to(tl.float16)
    return high, (rounded - high.to(tl.float32)).to(tl.float16)


@triton.jit
def grey_levels(values):
    """Round to 0..255, halves up."""
    return tl.minimum(tl.maximum(tl.floor(values + 0.5), 0.0), 255.0)


@triton.jit
def semantic_tile(
    out, pixels, length, start, row_bytes, height, width, image, tile, scale,
    SIZE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Make TILE x TILE pixels of the semantic view of one picture."""
    TILES: tl.constexpr = SIZE // TILE
    mean_0, mean_1, mean_2, inverse_0, inverse_1, inverse_2 = scale
    top = tile // TILES * TILE
    left = tile % TILES * TILE
    down = top + tl.arange(0, TILE)
    across = left + tl.arange(0, TILE)
    step = tl.arange(0, STEP)
    first_row = first_source(top, height, SIZE)
    end_row = end_source(top + TILE - 1, height, SIZE)
    first_column = first_source(left, width, SIZE)
    end_column = end_source(left + TILE - 1, width, SIZE)
    # Sums as products with ones, which come out in the shape that divides the weights; in float32, not on the matrix
    # units. (tl.sum would do, but is no kernel of ours: the interpreter cannot call it when Triton was loaded without.)
    ones = tl.full([STEP, STEP], 1.0, tl.float32)
    total_down = tl.full([TILE, STEP], 0.0, tl.float32)
    for row in range(first_row, end_row, STEP):
        weights = filter_weights(down[:, None], (row + step)[None, :], height, SIZE)
        total_down = tl.dot(weights, ones, total_down, input_precision="ieee")
    total_across = tl.full([STEP, TILE], 0.0, tl.float32)
    for column in range(first_column, end_column, STEP):
        weights = filter_weights(across[None, :], (column + step)[:, None], width, SIZE)
        total_across = tl.dot(ones, weights, total_across, input_precision="ieee")
    red = tl.full([TILE, TILE], 0.0, tl.float32)
    green = tl.full([TILE, TILE], 0.0, tl.float32)
    blue = tl.full([TILE, TILE], 0.0, tl.float32)
    for row in range(first_row, end_row, STEP):
        rows = row + step
        narrow_red = tl.full([STEP, TILE], 0.0, tl.float32)
        narrow_green = tl.full([STEP, TILE], 0.0, tl.float32)
        narrow_blue = tl.full([STEP, TILE], 0.0, tl.float32)
        for column in range(first_column, end_column, STEP):
            columns = column + step
            weights = filter_weights(across[None, :], columns[:, None], width, SIZE)
            high, low = fixed_point(weights, total_across)
            address = start + rows.to(tl.int64)[:, None] * row_bytes + columns[None, :] * 3
            inside = (rows < height)[:, None] & (columns < width)[None, :] & (address >= 0) & (address + 2 < length)
            grey = tl.load(pixels + address, mask=inside, other=0).to(tl.float16)
            narrow_red = tl.dot(grey, low, tl.dot(grey, high, narrow_red))
            grey = tl.load(pixels + address + 1, mask=inside, other=0).to(tl.float16)
            narrow_green = tl.dot(grey, low, tl.dot(grey, high, narrow_green))
            grey = tl.load(pixels + address + 2, mask=inside, other=0).to(tl.float16)
            narrow_blue = tl.dot(grey, low, tl.dot(grey, high, narrow_blue))
        high, low = fixed_point(filter_weights(down[:, None], rows[None, :], height, SIZE), total_down)
        grey = grey_levels(narrow_red).to(tl.float16)
        red = tl.dot(low, grey, tl.dot(high, grey, red))
        grey = grey_levels(narrow_green).to(tl.float16)
        green = tl.dot(low, grey, tl.dot(high, grey, green))
        grey = grey_levels(narrow_blue).to(tl.float16)
        blue = tl.dot(low, grey, tl.dot(high, grey, blue))
    plane: tl.constexpr = SIZE * SIZE
    place = out + image * 3 * plane + down[:, None] * SIZE + across[None, :]
    tl.store(place, ((grey_levels(red) - mean_0) * inverse_0).to(out.dtype.element_ty))
    tl.store(place + plane, ((grey_levels(green) - mean_1) * inverse_1).to(out.dtype.element_ty))
    tl.store(place + 2 * plane, ((grey_levels(blue) - mean_2) * inverse_2).to(out.dtype.element_ty))


@triton.jit
def detail_block(
    out, pixels, length, start, row_bytes, height, width, image, block, scale,
    GRID: tl.constexpr, FRAGMENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Make BLOCK pixels of the detail view of one picture."""
    SIZE: tl.constexpr = GRID * FRAGMENT
    mean_0, mean_1, mean_2, inverse_0, inverse_1, inverse_2 = scale
    position = block * BLOCK + tl.arange(0, BLOCK)
    valid = position < SIZE * SIZE
    within = tl.where(valid, position, 0)
    row, column = fragment_source(within // SIZE, within % SIZE, image, height, width, None, GRID, FRAGMENT)
    address = start + row.to(tl.int64) * row_bytes + column * 3
    inside = valid & (address >= 0) & (address + 2 < length)
    place = out + image * 3 * SIZE * SIZE + position
    grey = tl.load(pixels + address, mask=inside, other=0).to(tl.float32)
    tl.store(place, ((grey - mean_0) * inverse_0).to(out.dtype.element_ty), mask=valid)
    grey = tl.load(pixels + address + 1, mask=inside, other=0).to(tl.float32)
    tl.store(place + SIZE * SIZE, ((grey - mean_1) * inverse_1).to(out.dtype.element_ty), mask=valid)
    grey = tl.load(pixels + address + 2, mask=inside, other=0).to(tl.float32)
    tl.store(place + 2 * SIZE * SIZE, ((grey - mean_2) * inverse_2).to(out.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=["length"])
def views_kernel(
    semantic,  # floating [B, 3, S, S]
    detail,  # the same
    pixels,  # uint8, `length` bytes
    length,
    starts,  # int64 [B]: the byte where each picture begins
    row_bytes,  # int64 [B]: between the rows of each picture
    sizes,  # int64 [B, 2]: height, width
    mean_0,
    mean_1,
    mean_2,
    inverse_0,  # of the standard deviations
    inverse_1,
    inverse_2,
    GRID: tl.constexpr,
    FRAGMENT: tl.constexpr,
    TILE: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK: tl.constexpr,
    LONGEST: tl.constexpr,
):
    """Make a tile of the semantic view or a block of the detail view: program (image, tile or block)."""
    SIZE: tl.constexpr = GRID * FRAGMENT
    TILES: tl.constexpr = (SIZE // TILE) * (SIZE // TILE)
    image = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    start = tl.load(starts + image)
    pitch = tl.load(row_bytes + image)
    # Nobody has looked at the sizes; beyond LONGEST the filter's whole numbers would overflow.
    height = tl.minimum(tl.maximum(tl.load(sizes + image * 2), 1), LONGEST).to(tl.int32)
    width = tl.minimum(tl.maximum(tl.load(sizes + image * 2 + 1), 1), LONGEST).to(tl.int32)
    scale = (mean_0, mean_1, mean_2, inverse_0, inverse_1, inverse_2)
    # The long programs first: the short ones fill what these leave idle at the end.
    if part < TILES:
        semantic_tile(
            semantic, pixels, length, start, pitch, height, width, image, part, scale, SIZE, TILE, STEP
        )  # fmt: skip
    else:
        detail_block(
            detail, pixels, length, start, pitch, height, width, image, part - TILES, scale, GRID, FRAGMENT, BLOCK
        )


def launch(
    pixels: Tensor,
    starts: Tensor,
    row_bytes: Tensor,
    sizes: Tensor,
    mean: list[float],
    std: list[float],
    dtype: torch.dtype,
    grid: int,
    fragment: int,
) -> tuple[Tensor, Tensor]:
    """`glia::views`; the caller has checked the arguments. Where torch traces it, the kernel joins the graph."""
    size = grid * fragment
    shape = (sizes.shape[0], 3, size, size)
    semantic, detail = pixels.new_empty(shape, dtype=dtype), pixels.new_empty(shape, dtype=dtype)
    parts = (size // TILE) ** 2 + triton.cdiv(size * size, BLOCK)
    kernel = views_kernel if triton.knobs.runtime.interpret else wrap_triton(views_kernel)
    # Triton launches on the current device. (A tracer's tensors are of subclasses; their GPU need not be here.)
    with torch.cuda.device_of(pixels) if type(pixels) is Tensor else nullcontext():
        kernel[(sizes.shape[0], parts)](
            semantic,
            detail,
            pixels,
            pixels.numel(),
            starts,
            row_bytes,
            sizes,
            *mean,
            *(1 / value for value in std),
            GRID=grid,
            FRAGMENT=fragment,
            TILE=TILE,
            STEP=_STEP,
            BLOCK=BLOCK,
            LONGEST=LONGEST_SIDE,
            enable_fp_fusion=False,
        )
    return semantic, detail
