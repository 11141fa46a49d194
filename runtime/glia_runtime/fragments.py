"""Fragment sampling: the detail view as a mosaic of full-resolution patches (paper, Eq. 1-2).

This is the reference that every other form (PyTorch, Triton, ONNX, TensorRT) must equal bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glia_runtime.errors import ImageError

Image = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def check_image(image: object, name: str = "image") -> Image:
    """Return `image` if it is a uint8 array [H, W, 3] with at least one pixel, else raise `ImageError`."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"{name} is a {type(image).__name__}; pass a uint8 array [H, W, 3] (glia_runtime.decode)")
    if image.dtype != np.uint8:
        raise ImageError(f"{name} has dtype {image.dtype}; pass uint8 values 0..255 in an array [H, W, 3]")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"{name} has shape {list(image.shape)}; pass RGB pixels in an array [H, W, 3]")
    if image.size == 0:
        raise ImageError(f"{name} has no pixels (shape {list(image.shape)}); pass at least one row and one column")
    return image


@dataclass(frozen=True)
class FragmentSpec:
    """A grid of `grid` x `grid` cells, one `fragment` x `fragment` patch (pixels) taken from each."""

    grid: int = 7
    fragment: int = 32

    @property
    def size(self) -> int:
        """Side of the mosaic in pixels: grid * fragment (224)."""
        return self.grid * self.fragment

    def cell(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of one grid cell in pixels: floor(H / grid), floor(W / grid) (Eq. 1)."""
        return height // self.grid, width // self.grid

    def starts(self, height: int, width: int, offsets: Offsets | None = None) -> Offsets:
        """Top-left corner of every fragment, int64 [2, grid, grid]: rows, then columns (Eq. 2).

        ``start = clip(i * floor(H / grid) + offset, 0, H - fragment)``, and likewise for columns. `offsets`
        is an integer array [2, grid, grid] in pixels; None means zeros, which is how pictures are scored.

        Raises:
            ImageError: a side is shorter than one fragment, or `offsets` has another shape or a non-integer
                dtype.
        """
        if min(height, width) < self.fragment:
            raise ImageError(
                f"a picture of {height}x{width} pixels holds no {self.fragment}x{self.fragment} fragment; "
                "enlarge it first (glia_runtime.views.enlarge)"
            )
        cell_height, cell_width = self.cell(height, width)
        index = np.arange(self.grid, dtype=np.int64)
        rows = np.broadcast_to((index * cell_height)[:, None], (self.grid, self.grid))
        columns = np.broadcast_to((index * cell_width)[None, :], (self.grid, self.grid))
        starts = np.stack([rows, columns])
        if offsets is not None:
            if offsets.shape != starts.shape or offsets.dtype.kind not in "iu":
                raise ImageError(
                    f"offsets have shape {list(offsets.shape)} and dtype {offsets.dtype}; "
                    f"pass integers of shape {list(starts.shape)}"
                )
            starts = starts + offsets.astype(np.int64)
        limits = np.array([height - self.fragment, width - self.fragment], dtype=np.int64)[:, None, None]
        return np.clip(starts, 0, limits)

    def draw_offsets(self, height: int, width: int, rng: np.random.Generator) -> Offsets:
        """Draw training offsets, int64 [2, grid, grid] pixels, uniform in [0, max(1, cell - fragment)) per
        cell and axis.

        The range is FAST-VQA's (Wu et al., 2022): a fragment never leaves its cell.
        """
        cell_height, cell_width = self.cell(height, width)
        shape = (self.grid, self.grid)
        rows = rng.integers(0, max(1, cell_height - self.fragment), size=shape, dtype=np.int64)
        columns = rng.integers(0, max(1, cell_width - self.fragment), size=shape, dtype=np.int64)
        return np.stack([rows, columns])


def fragment_sample(image: Image, offsets: Offsets | None = None, spec: FragmentSpec | None = None) -> Image:
    """Return the fragment mosaic of `image`: uint8 [H, W, 3] -> uint8 [size, size, 3] (Eq. 1-2).

    `offsets` is int64 [2, grid, grid] in pixels, zeros when None; `spec` is `FragmentSpec()` when None.

    Raises:
        ImageError: `image` is not uint8 [H, W, 3], has a side shorter than one fragment, or `offsets` do not
            fit.
    """
    spec = spec or FragmentSpec()
    image = check_image(image)
    rows, columns = spec.starts(image.shape[0], image.shape[1], offsets)
    inside = np.arange(spec.fragment, dtype=np.int64)
    # [grid, grid, fragment, 1] and [grid, grid, 1, fragment] select [grid, grid, fragment, fragment, 3] in
    # one gather.
    patches = image[(rows[:, :, None] + inside)[:, :, :, None], (columns[:, :, None] + inside)[:, :, None, :]]
    return np.ascontiguousarray(patches.transpose(0, 2, 1, 3, 4)).reshape(spec.size, spec.size, 3)
