"""What architectures are shown: the same for arrays and Pillow pictures, from edge to edge, drawn from the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from glia_runtime import FragmentSpec, enlarge, sample_views
from glia_runtime.view_spec import CropViews, FragmentViews, ViewSpec
from tests.shapes import noise_image

SPECS = [FragmentViews(), FragmentViews(FragmentSpec(14, 16)), CropViews(), CropViews(grid=1)]
SHAPES = [(224, 224), (225, 301), (347, 241), (60, 90), (1, 3), (1200, 230)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_scoring_sees_the_same_of_an_array_and_of_a_decoded_picture(spec: ViewSpec, shape: tuple[int, int]) -> None:
    image = noise_image(*shape)
    views = spec.sample(image)
    assert [view.shape for view in views] == [spec.shape] * len(spec.names)
    assert {view.dtype for view in views} == {np.dtype(np.uint8)}
    for view, again in zip(views, spec.sample(PillowImage.fromarray(image).convert("RGBX")), strict=True):
        assert np.array_equal(view, again)


def test_glianet_sees_its_two_views() -> None:
    image = noise_image(300, 400)
    for view, expected in zip(FragmentViews().sample(image), sample_views(image), strict=True):
        assert np.array_equal(view, expected)
    assert FragmentViews().looks == 1
    assert FragmentViews().size == CropViews().size == 224


@given(st.integers(224, 9000), st.integers(1, 7))
def test_crops_lie_evenly_from_edge_to_edge(side: int, grid: int) -> None:
    starts = CropViews(grid=grid).starts(side)
    assert len(starts) == grid
    if grid == 1:
        assert starts[0] == (side - 224) // 2
    else:
        assert starts[0] == 0
        assert starts[-1] == side - 224
        assert np.ptp(np.diff(starts)) <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_crops_are_cut_out_of_the_enlarged_picture(shape: tuple[int, int]) -> None:
    (crops,) = CropViews().sample(noise_image(*shape))
    image = enlarge(noise_image(*shape))
    height, width = image.shape[:2]
    for index, crop in enumerate(crops):
        down, across = divmod(index, 5)
        top, left = down * (height - 224) // 4, across * (width - 224) // 4
        assert np.array_equal(crop, image[top : top + 224, left : left + 224])
    assert CropViews().looks == 25
    assert CropViews().quick.looks == 4


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_training_views_follow_the_generator_alone(spec: ViewSpec) -> None:
    image = noise_image(300, 260)
    drawn = [tuple(spec.draw(image, np.random.default_rng(seed)).views.values()) for seed in (1, 1, 2)]
    for view, same, other in zip(*drawn, strict=True):
        assert np.array_equal(view, same)
        assert not np.array_equal(view, other)
        assert view.shape[-3:] == (224, 224, 3)
    # Another picture of this size is cut at the same place and turned the same way.
    inverse = spec.draw(255 - image, np.random.default_rng(1))
    assert tuple(inverse.views) == spec.names
    for view, other in zip(drawn[0], inverse.views.values(), strict=True):
        assert np.abs(255 - view.astype(int) - other).max() <= 1  # bicubic overshoot rounds either way
    last = spec.names[-1]
    alone = spec.draw(image, np.random.default_rng(1), (last,))
    assert list(alone.views) == [last]
    assert alone.mirrored == inverse.mirrored
    assert np.array_equal(alone.views[last], drawn[0][-1])


def test_a_training_crop_is_one_of_the_picture_turned_any_of_four_ways() -> None:
    row, column = np.mgrid[0:300, 0:240].astype(np.uint16)
    image = np.stack([row % 256, column, row // 256], -1).astype(np.uint8)
    seen = set()
    for seed in range(40):
        crop = CropViews().draw(image, np.random.default_rng(seed)).views["crops"]
        assert crop.shape == (1, 224, 224, 3)
        numbers = crop[0].astype(int)
        rows, columns = numbers[:, 0, 0] + 256 * numbers[:, 0, 2], numbers[0, :, 1]
        assert set(np.abs(np.diff(rows))) == set(np.abs(np.diff(columns))) == {1}
        seen.add((rows[0] < rows[-1], columns[0] < columns[-1]))
    assert len(seen) == 4
