"""Awkward picture shapes, (height, width) in pixels: one list for every form of every operator."""

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

FRAGMENT = 32
"""Side of a fragment: smaller pictures cannot be sampled without being enlarged first."""

AWKWARD_SHAPES: tuple[tuple[int, int], ...] = (
    (1, 1),
    (1, 224),  # one pixel high
    (300, 1),  # one pixel wide: 224 x 67200 when enlarged
    (31, 33),  # just too small for a fragment, on one side
    (32, 32),  # one fragment and no more: all 49 are the same
    (33, 223),
    (223, 224),  # one row short of the mosaic: cells of 31 pixels, so fragments overlap
    (224, 224),  # the mosaic is the picture
    (225, 1000),
    (230, 230),  # 7 does not divide
    (227, 1009),  # primes
    (1021, 251),
    (480, 640),
    (768, 1024),
    (6000, 4000),
)


def image_shapes(min_side: int = 1, max_side: int = 400) -> st.SearchStrategy[tuple[int, int]]:
    """Draw (height, width), each from `min_side` to `max_side` pixels."""
    side = st.integers(min_side, max_side)
    return st.tuples(side, side)


def noise_image(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Make independent random bytes, uint8 [H, W, 3], the same at every call: no two places look alike."""
    rng = np.random.default_rng((height, width))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
