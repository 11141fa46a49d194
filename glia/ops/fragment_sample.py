"""`torch.ops.glia.fragment_sample`: the detail view of a padded batch.

    fragment_sample(Tensor images, Tensor sizes, Tensor? offsets=None, int grid=7, int fragment=32) -> Tensor

==========  =============================  =====================================================
images      uint8 [B, H, W, 3]             pictures padded to one size; the padding is never read
sizes       int64 [B, 2]                   true height and width, each >= fragment
offsets     int64 [B, 2, grid, grid]       pixels added to the start of each cell, rows then columns
returns     uint8 [B, S, S, 3]             S = grid * fragment
==========  =============================  =====================================================

Cell (i, j) of an image of height H and width W starts at `clip(i * (H // grid) + offset, 0, H - fragment)`,
and likewise along W (GLIANet, Eq. 1-2). The specification is `glia_runtime.fragments.FragmentSpec`; every
form equals its NumPy `fragment_sample` bit for bit. Nothing is drawn at random here: offsets are an input.

RuntimeError is raised for a wrong dtype or shape, and, where reading values costs no device synchronisation
(on the CPU), for sizes outside [fragment, padded size]. On CUDA such sizes give wrong pixels, but nothing
is ever read outside `images`.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

torch.library.define(
    "glia::fragment_sample",
    "(Tensor images, Tensor sizes, Tensor? offsets=None, int grid=7, int fragment=32) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def check_grid(sizes: Tensor, offsets: Tensor | None, grid: int, fragment: int) -> None:
    """Raise RuntimeError unless sizes is int64 [B, 2], offsets int64 [B, 2, grid, grid], counts > 0."""
    torch._check(grid > 0 and fragment > 0, lambda: f"grid and fragment must be positive, not {grid}, {fragment}")
    torch._check(
        sizes.dtype == torch.int64 and sizes.dim() == 2 and sizes.shape[1] == 2,
        lambda: f"sizes must be int64 [B, 2], not {sizes.dtype} {list(sizes.shape)}",
    )
    if offsets is not None:
        expected = (sizes.shape[0], 2, grid, grid)
        torch._check(
            offsets.dtype == torch.int64 and offsets.shape == expected,
            lambda: f"offsets must be int64 {list(expected)}, not {offsets.dtype} {list(offsets.shape)}",
        )
        torch._check(
            offsets.device == sizes.device,
            lambda: f"offsets are on {offsets.device}, sizes on {sizes.device}: move them to one device",
        )


def check_sizes(sizes: Tensor, fragment: int) -> None:
    """Raise RuntimeError when an image is smaller than a fragment. Reads values: waits for a GPU."""
    torch._check(
        bool((sizes >= fragment).all()),
        lambda: f"every side must reach the fragment's {fragment} px (enlarge first), got sizes {sizes.tolist()}",
    )


def gather_fragments(
    pixels: Tensor,
    starts: Tensor,
    row_bytes: Tensor,
    sizes: Tensor,
    offsets: Tensor | None,
    grid: int,
    fragment: int,
) -> Tensor:
    """Copy every fragment of a batch in one gather.

    pixels is uint8 [N]; image b begins at byte starts[b], its rows lie row_bytes[b] apart (both int64 [B]).
    Returns uint8 [B, grid * fragment, grid * fragment, 3].
    """
    batch, size = sizes.shape[0], grid * fragment
    if batch == 0:
        return pixels.new_empty((0, size, size, 3))
    cells = torch.arange(grid, device=sizes.device)
    limits = (sizes - fragment)[:, :, None, None]
    steps = (sizes // grid)[:, :, None, None]
    corners = torch.stack(torch.meshgrid(cells, cells, indexing="ij")) * steps  # [B, 2, grid, grid]
    if offsets is not None:
        corners = corners + offsets
    rows, columns = corners.clamp(min=torch.zeros_like(limits), max=limits).unbind(1)
    # A row of a fragment is `fragment * 3` contiguous bytes, so the gather moves those and not pixels:
    # 0.025 ms an image where indexing [b, row, column] takes 0.62 ms (one core, 1920x1080).
    line = torch.arange(fragment, device=sizes.device)[:, None]  # row within the fragment
    address = (
        starts.view(-1, 1, 1, 1)
        + (rows[:, :, None, :] + line) * row_bytes.view(-1, 1, 1, 1)
        + columns[:, :, None, :] * 3
    )  # [B, cell row, row within the fragment, cell column]
    runs = pixels.unfold(0, fragment * 3, 1)  # a view: runs[k] is the run of bytes that begins at byte k
    return runs.index_select(0, address.flatten()).view(batch, size, size, 3)


def _check(images: Tensor, sizes: Tensor, offsets: Tensor | None, grid: int, fragment: int) -> None:
    check_grid(sizes, offsets, grid, fragment)
    torch._check(
        images.dtype == torch.uint8 and images.dim() == 4 and images.shape[3] == 3,
        lambda: f"images must be uint8 [B, H, W, 3], not {images.dtype} {list(images.shape)}",
    )
    torch._check(
        images.shape[0] == sizes.shape[0],
        lambda: f"{images.shape[0]} images but {sizes.shape[0]} sizes: give one (height, width) per image",
    )
    torch._check(
        images.device == sizes.device,
        lambda: f"images are on {images.device}, sizes on {sizes.device}: move them to one device",
    )


@torch.library.register_fake("glia::fragment_sample")  # type: ignore[untyped-decorator]
def _fake(images: Tensor, sizes: Tensor, offsets: Tensor | None = None, grid: int = 7, fragment: int = 32) -> Tensor:
    _check(images, sizes, offsets, grid, fragment)
    return images.new_empty((images.shape[0], grid * fragment, grid * fragment, 3))


@torch.library.impl("glia::fragment_sample", "CompositeExplicitAutograd")
def _plain(images: Tensor, sizes: Tensor, offsets: Tensor | None = None, grid: int = 7, fragment: int = 32) -> Tensor:
    _check(images, sizes, offsets, grid, fragment)
    check_sizes(sizes, fragment)
    batch, height, width, _ = images.shape
    torch._check(
        bool((sizes <= sizes.new_tensor((height, width))).all()),
        lambda: f"sizes {sizes.tolist()} exceed the padded {height}x{width}",
    )
    starts = torch.arange(batch, device=images.device) * (height * width * 3)
    row_bytes = torch.full_like(starts, width * 3)
    return gather_fragments(images.reshape(-1), starts, row_bytes, sizes, offsets, grid, fragment)


# Without Triton (it comes with torch's CUDA builds on Linux) a GPU takes the plain form.
if find_spec("triton") is not None:

    @torch.library.impl("glia::fragment_sample", "CUDA")
    def _cuda(
        images: Tensor, sizes: Tensor, offsets: Tensor | None = None, grid: int = 7, fragment: int = 32
    ) -> Tensor:
        from glia.ops import fragment_sample_triton

        _check(images, sizes, offsets, grid, fragment)
        return fragment_sample_triton.sample_padded(images, sizes, offsets, grid, fragment)
