"""The two views of a picture that the model looks at: resized as a whole, and as a mosaic of fragments."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from glia_runtime.errors import ImageError
from glia_runtime.fragments import FragmentSpec, Image, Offsets, check_image, fragment_sample

VIEW_SIZE = FragmentSpec().size
"""Side of both views in pixels (224)."""

MAX_PIXELS = 178_956_970
"""Largest picture, in pixels: where Pillow's own decompression-bomb guard stops (2 * 89,478,485)."""


def enlarged_size(height: int, width: int) -> tuple[int, int]:
    """Height and width after `enlarge`: unchanged when both sides reach 224 pixels."""
    if min(height, width) >= VIEW_SIZE:
        return height, width
    scale = VIEW_SIZE / min(height, width)
    return max(VIEW_SIZE, round(height * scale)), max(VIEW_SIZE, round(width * scale))


def enlarge(image: Image) -> Image:
    """Enlarge `image` (uint8 [H, W, 3]) until both sides reach 224 pixels, aspect kept; larger ones pass
    unchanged.

    Pillow's bicubic filter. Legal from 1x1 on.

    Raises:
        ImageError: not uint8 [H, W, 3], or so narrow that the result would exceed `MAX_PIXELS`.
    """
    image = check_image(image)
    height, width = image.shape[:2]
    new_height, new_width = enlarged_size(height, width)
    if (new_height, new_width) == (height, width):
        return image
    if new_height * new_width > MAX_PIXELS:
        raise ImageError(
            f"the picture is {width}x{height} pixels: enlarging its short side to {VIEW_SIZE} would make "
            f"{new_width}x{new_height}, over {MAX_PIXELS:,} pixels; crop it first"
        )
    return _bicubic(image, new_height, new_width)


def semantic_view(image: Image) -> Image:
    """Pillow's antialiased bicubic resize of an enlarged picture, uint8 [H, W, 3] -> uint8 [224, 224, 3].

    Across first, then down, on every version of Pillow. Aspect is not kept. Raises `ImageError` when `image` is
    not uint8 [H, W, 3].
    """
    return _bicubic(check_image(image), VIEW_SIZE, VIEW_SIZE)


def detail_view(image: Image, offsets: Offsets | None = None) -> Image:
    """Mosaic of an enlarged picture, uint8 [H, W, 3] -> uint8 [224, 224, 3]; as `fragment_sample`."""
    return fragment_sample(image, offsets)


def sample_views(image: Image) -> tuple[Image, Image]:
    """Enlarge `image` where needed and return (semantic, detail), both uint8 [224, 224, 3].

    Raises:
        ImageError: not uint8 [H, W, 3], or too narrow to enlarge.
    """
    image = enlarge(image)
    return semantic_view(image), detail_view(image)


def _bicubic(image: Image, height: int, width: int) -> Image:
    # fromarray wants contiguous rows; a crop or a flip of a larger array is not.
    picture = PillowImage.fromarray(np.ascontiguousarray(image))
    # One axis at a time, across first as Pillow up to 12 does. Asked for both, Pillow 13 begins with the axis that
    # costs less, down for most portraits, and the rounding between the passes makes up to 8 grey levels of that.
    narrow = picture.resize((width, picture.height), PillowImage.Resampling.BICUBIC)
    # np.array copies: np.asarray would give a read-only view, which torch.from_numpy warns about.
    return np.array(narrow.resize((width, height), PillowImage.Resampling.BICUBIC))
