"""The NumPy reference against a sampler written as the paper's equations read, one fragment row at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glia_runtime import FragmentSpec, ImageError, fragment_sample
from glia_runtime.fragments import Image, Offsets
from tests.shapes import AWKWARD_SHAPES, image_shapes, noise_image

SAMPLABLE = [shape for shape in AWKWARD_SHAPES if min(shape) >= 32]


def sample_by_loops(image: Image, offsets: Offsets | None) -> Image:
    """Eq. 1-2 in plain Python: cell (i, j) starts at i * floor(H / 7), j * floor(W / 7)."""
    height, width = image.shape[:2]
    mosaic = np.zeros((224, 224, 3), np.uint8)
    for i in range(7):
        for j in range(7):
            top, left = i * (height // 7), j * (width // 7)
            if offsets is not None:
                top, left = top + int(offsets[0, i, j]), left + int(offsets[1, i, j])
            top, left = min(max(top, 0), height - 32), min(max(left, 0), width - 32)
            for y in range(32):
                mosaic[i * 32 + y, j * 32 : j * 32 + 32] = image[top + y, left : left + 32]
    return mosaic


@pytest.mark.parametrize("shape", SAMPLABLE)
def test_awkward_shapes(shape: tuple[int, int]) -> None:
    image = noise_image(*shape)
    rng = np.random.default_rng(7)
    offsets = FragmentSpec().draw_offsets(*shape, rng)
    assert np.array_equal(fragment_sample(image), sample_by_loops(image, None))
    assert np.array_equal(fragment_sample(image, offsets), sample_by_loops(image, offsets))


@given(shape=image_shapes(min_side=32), offset=st.integers(-1000, 1000))
def test_starts_stay_inside(shape: tuple[int, int], offset: int) -> None:
    spec = FragmentSpec()
    starts = spec.starts(*shape, np.full((2, 7, 7), offset))
    assert starts.min() >= 0
    assert (starts[0] <= shape[0] - 32).all()
    assert (starts[1] <= shape[1] - 32).all()


@given(shape=image_shapes(), seed=st.integers(0, 2**32))
def test_drawn_offsets_keep_a_fragment_in_its_cell(shape: tuple[int, int], seed: int) -> None:
    spec = FragmentSpec()
    offsets = spec.draw_offsets(*shape, np.random.default_rng(seed))
    assert offsets.shape == (2, 7, 7)
    assert offsets.dtype == np.int64
    assert offsets.min() >= 0
    for axis, cell in enumerate(spec.cell(*shape)):
        assert offsets[axis].max() < max(1, cell - 32)


def test_drawn_offsets_reach_every_value() -> None:
    rng = np.random.default_rng(0)
    drawn = {int(value) for _ in range(40) for value in FragmentSpec().draw_offsets(36 * 7, 36 * 7, rng).flat}
    assert drawn == {0, 1, 2, 3}  # 36 - 32 = 4 is excluded, as in FAST-VQA


def test_a_picture_of_224_is_its_own_mosaic() -> None:
    image = noise_image(224, 224)
    assert np.array_equal(fragment_sample(image), image)


def test_other_grids() -> None:
    spec = FragmentSpec(grid=2, fragment=3)
    image = noise_image(10, 7)
    mosaic = fragment_sample(image, spec=spec)
    assert mosaic.shape == (6, 6, 3)
    assert np.array_equal(mosaic[3:, 3:], image[5:8, 3:6])


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((31, 400, 3), np.uint8), "31x400 .* enlarge it first"),
        (np.zeros((224, 224, 3), np.float32), "dtype float32"),
        (np.zeros((224, 224), np.uint8), r"shape \[224, 224\]"),
        (np.zeros((224, 224, 4), np.uint8), r"shape \[224, 224, 4\]"),
        (np.zeros((0, 224, 3), np.uint8), "no pixels"),
        ([[1, 2, 3]], "is a list"),
    ],
)
def test_wrong_images_are_refused(image: Image, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        fragment_sample(image)


@pytest.mark.parametrize("offsets", [np.zeros((2, 7, 6), np.int64), np.zeros((2, 7, 7), np.float64)])
def test_wrong_offsets_are_refused(offsets: Offsets) -> None:
    with pytest.raises(ImageError, match="pass integers of shape"):
        fragment_sample(noise_image(224, 224), offsets)
