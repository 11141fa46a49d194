"""The two views of a picture that the model looks at: resized as a whole, and as a mosaic of fragments.

A picture is an array, or a Pillow picture of mode RGB or RGBX as `glia_runtime.decode.decode_picture` makes it:
of a large photograph both views can be taken without copying its pixels into an array first.
"""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from glia_runtime.errors import ImageError
from glia_runtime.fragments import FragmentSpec, Image, Offsets, check_image, fragment_sample

VIEW_SIZE = FragmentSpec().size
"""Side of both views in pixels (224)."""

MAX_PIXELS = 178_956_970
"""Largest picture, in pixels: where Pillow's own decompression-bomb guard stops (2 * 89,478,485)."""

_STRIP_BYTES = 1 << 16
"""What `pixels` copies at a time. From 128 KiB on, malloc maps new pages for each piece: four times slower."""


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
    if min(image.shape[:2]) >= VIEW_SIZE:
        return image
    return pixels(enlarged(as_picture(image)))


def semantic_view(image: Image) -> Image:
    """Pillow's antialiased bicubic resize of an enlarged picture, uint8 [H, W, 3] -> uint8 [224, 224, 3].

    Across first, then down, on every version of Pillow. Aspect is not kept. Raises `ImageError` when `image` is
    not uint8 [H, W, 3].
    """
    return pixels(_bicubic(as_picture(image), VIEW_SIZE, VIEW_SIZE))


def detail_view(image: Image, offsets: Offsets | None = None) -> Image:
    """Mosaic of an enlarged picture, uint8 [H, W, 3] -> uint8 [224, 224, 3]; as `fragment_sample`."""
    return fragment_sample(image, offsets)


def sample_views(
    image: Image | PillowImage.Image, *, draft: bool = False, spec: FragmentSpec | None = None
) -> tuple[Image, Image]:
    """Enlarge `image` where needed and return (semantic, detail), both uint8 [224, 224, 3].

    `spec` says what the detail view consists of, `FragmentSpec()` when None.

    With `draft`, a side of 896 pixels or more is first averaged over whole blocks of pixels, to no less than twice
    224, and then resized to the semantic view: 9 ms instead of 54 for 12 MP, and other pixels.

    Raises:
        ImageError: neither uint8 [H, W, 3] nor a Pillow picture, or too narrow to enlarge.
    """
    picture = enlarged(as_picture(image))
    semantic = _drafted(picture) if draft else _bicubic(picture, VIEW_SIZE, VIEW_SIZE)
    return pixels(semantic), pixels(_mosaic(picture, spec or FragmentSpec()))


def pixels(picture: PillowImage.Image) -> Image:
    """The colours of a Pillow picture of mode RGB or RGBX as an array of one's own, uint8 [H, W, 3]."""
    width, height = picture.size
    image = np.empty((height, width, 3), dtype=np.uint8)
    step = max(1, _STRIP_BYTES // (4 * width))
    for top in range(0, height, step):
        strip = picture.crop((0, top, width, min(height, top + step)))
        image[top : top + step] = np.frombuffer(strip.tobytes("raw", "RGB"), np.uint8).reshape(-1, width, 3)
    return image


def as_picture(image: Image | PillowImage.Image) -> PillowImage.Image:
    """A picture as Pillow has it; raises `ImageError` when it is an array and not uint8 [H, W, 3]."""
    if isinstance(image, PillowImage.Image):
        return image
    # fromarray wants contiguous rows; a crop or a flip of a larger array is not.
    return PillowImage.fromarray(np.ascontiguousarray(check_image(image)))


def enlarged(picture: PillowImage.Image) -> PillowImage.Image:
    """As `enlarge`, of a Pillow picture."""
    width, height = picture.size
    new_height, new_width = enlarged_size(height, width)
    if (new_height, new_width) == (height, width):
        return picture
    if new_height * new_width > MAX_PIXELS:
        raise ImageError(
            f"the picture is {width}x{height} pixels: enlarging its short side to {VIEW_SIZE} would make "
            f"{new_width}x{new_height}, over {MAX_PIXELS:,} pixels; crop it first"
        )
    return _bicubic(picture, new_height, new_width)


def _bicubic(picture: PillowImage.Image, height: int, width: int) -> PillowImage.Image:
    # One axis at a time, across first as Pillow up to 12 does. Asked for both, Pillow 13 begins with the axis that
    # costs less, down for most portraits, and the rounding between the passes makes up to 8 grey levels of that.
    narrow = picture.resize((width, picture.height), PillowImage.Resampling.BICUBIC)
    return narrow.resize((width, height), PillowImage.Resampling.BICUBIC)


def _drafted(picture: PillowImage.Image) -> PillowImage.Image:
    # What Pillow's resize(..., reducing_gap=2) does, one axis at a time.
    across, down = (max(1, side // (2 * VIEW_SIZE)) for side in picture.size)
    width, height = picture.width / across, picture.height / down
    reduced = picture.reduce((across, down))  # the last row and column may stand for less than a whole block
    narrow = reduced.resize((VIEW_SIZE, reduced.height), PillowImage.Resampling.BICUBIC, (0, 0, width, reduced.height))
    return narrow.resize((VIEW_SIZE, VIEW_SIZE), PillowImage.Resampling.BICUBIC, (0, 0, VIEW_SIZE, height))


def _mosaic(picture: PillowImage.Image, spec: FragmentSpec) -> PillowImage.Image:
    """`fragment_sample` without offsets, of a Pillow picture."""
    rows, columns = spec.starts(picture.height, picture.width)
    mosaic = PillowImage.new(picture.mode, (spec.size, spec.size))
    for i, j in np.ndindex(spec.grid, spec.grid):
        top, left = int(rows[i, j]), int(columns[i, j])
        fragment = picture.crop((left, top, left + spec.fragment, top + spec.fragment))
        mosaic.paste(fragment, (j * spec.fragment, i * spec.fragment))
    return mosaic
