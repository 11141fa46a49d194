"""`torch.ops.glia.fragment_sample_ragged`: the normalised detail view of images of different sizes.

The images lie one after another in one flat buffer (`pack_ragged`), so that a batch needs no padding. On CUDA
one Triton launch gathers, converts, normalises and transposes; elsewhere plain torch makes the same numbers.
"""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from glia.ops.fragment_sample import check_grid, check_sizes, gather_fragments
from glia.ops.normalisation import check_normalisation, check_pixels, normalised

torch.library.define(
    "glia::fragment_sample_ragged",
    "(Tensor pixels, Tensor starts, Tensor sizes, Tensor? offsets, float[] mean, float[] std,"
    " ScalarType dtype, int grid=7, int fragment=32) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def pack_ragged(images: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Lay images, each uint8 [H, W, 3], one after another; the result is on the images' device.

    Returns pixels uint8 [N], starts int64 [B] (the byte at which each image begins) and sizes int64 [B, 2]
    (height, width): the first three arguments of `fragment_sample_ragged`. Raises RuntimeError for an empty
    list.
    """
    torch._check(len(images) > 0, lambda: "no images to pack: give at least one")
    device = images[0].device
    lengths = torch.tensor([0] + [image.numel() for image in images[:-1]])
    sizes = torch.tensor([image.shape[:2] for image in images])
    return torch.cat([image.reshape(-1) for image in images]), lengths.cumsum(0).to(device), sizes.to(device)


def fragment_sample_ragged(
    pixels: Tensor,
    starts: Tensor,
    sizes: Tensor,
    offsets: Tensor | None = None,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int = 7,
    fragment: int = 32,
) -> Tensor:
    """Sample, normalise and transpose the fragments of images of different sizes (GLIANet, Eq. 1-2).

    Args:
        pixels: uint8 [N], the images' bytes (RGB, row after row).
        starts: int64 [B], the byte at which each image begins.
        sizes: int64 [B, 2], height and width, each at least `fragment`.
        offsets: int64 [B, 2, grid, grid] added to the start of each cell; None is zero.
        mean: three numbers in grey levels, 0..255.
        std: three positive numbers in grey levels.
        dtype: float16, bfloat16 or float32.
        grid: cells along each side.
        fragment: pixels along each side of a fragment.

    Returns:
        dtype [B, 3, grid * fragment, grid * fragment]: `(x - mean) * (1 / std)`, computed in float32 with
        mean and 1 / std rounded to float32, and rounded once to dtype.

    Raises:
        RuntimeError: a wrong dtype or shape; on the CPU also an image that is too small or reaches past
            `pixels` (on CUDA, where a check would wait for the GPU, what lies outside `pixels` reads as 0).

    """
    sampled: Tensor = torch.ops.glia.fragment_sample_ragged(
        pixels, starts, sizes, offsets, list(mean), list(std), dtype, grid, fragment
    )
    return sampled


def _check(
    pixels: Tensor,
    starts: Tensor,
    sizes: Tensor,
    offsets: Tensor | None,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int,
    fragment: int,
) -> None:
    check_grid(sizes, offsets, grid, fragment)
    check_pixels(pixels)
    torch._check(
        starts.dtype == torch.int64 and starts.dim() == 1 and starts.shape[0] == sizes.shape[0],
        lambda: f"starts must be int64 [{sizes.shape[0]}], one per size, not {starts.dtype} {list(starts.shape)}",
    )
    torch._check(
        pixels.device == starts.device == sizes.device,
        lambda: f"pixels, starts, sizes: on {pixels.device}, {starts.device}, {sizes.device}: move them together",
    )
    check_normalisation(mean, std, dtype)


@torch.library.register_fake("glia::fragment_sample_ragged")  # type: ignore[untyped-decorator]
def _fake(
    pixels: Tensor,
    starts: Tensor,
    sizes: Tensor,
    offsets: Tensor | None,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int = 7,
    fragment: int = 32,
) -> Tensor:
    _check(pixels, starts, sizes, offsets, mean, std, dtype, grid, fragment)
    return pixels.new_empty((sizes.shape[0], 3, grid * fragment, grid * fragment), dtype=dtype)


@torch.library.impl("glia::fragment_sample_ragged", "CompositeExplicitAutograd")
def _plain(
    pixels: Tensor,
    starts: Tensor,
    sizes: Tensor,
    offsets: Tensor | None,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
    grid: int = 7,
    fragment: int = 32,
) -> Tensor:
    _check(pixels, starts, sizes, offsets, mean, std, dtype, grid, fragment)
    check_sizes(sizes, fragment)
    torch._check(
        bool(((starts >= 0) & (starts + sizes.prod(1) * 3 <= pixels.numel())).all()),
        lambda: f"an image reaches outside the {pixels.numel()} bytes: {starts.tolist()}, sizes {sizes.tolist()}",
    )
    mosaic = gather_fragments(pixels.contiguous(), starts, sizes[:, 1] * 3, sizes, offsets, grid, fragment)
    return normalised(mosaic, mean, std, dtype)


# Without Triton (it comes with torch's CUDA builds on Linux) a GPU takes the plain form.
if find_spec("triton") is not None:

    @torch.library.impl("glia::fragment_sample_ragged", "CUDA")
    def _cuda(
        pixels: Tensor,
        starts: Tensor,
        sizes: Tensor,
        offsets: Tensor | None,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype,
        grid: int = 7,
        fragment: int = 32,
    ) -> Tensor:
        from glia.ops import fragment_sample_triton

        _check(pixels, starts, sizes, offsets, mean, std, dtype, grid, fragment)
        return fragment_sample_triton.sample_ragged(pixels, starts, sizes, offsets, mean, std, dtype, grid, fragment)
