"""The views against direct calls of Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image as PillowImage

from glia_runtime import ImageError, detail_view, enlarge, fragment_sample, sample_views, semantic_view
from glia_runtime.fragments import Image
from glia_runtime.views import pixels
from tests.shapes import AWKWARD_SHAPES, image_shapes, noise_image


def resized(image: Image, height: int, width: int) -> Image:
    """Pillow's bicubic, across first and then down: one axis a call, which every version of Pillow does alike."""
    narrow = PillowImage.fromarray(image).resize((width, image.shape[0]), PillowImage.Resampling.BICUBIC)
    return np.asarray(narrow.resize((width, height), PillowImage.Resampling.BICUBIC))


@pytest.mark.parametrize(
    ("shape", "enlarged"),
    [
        ((1, 1), (224, 224)),
        ((223, 224), (224, 225)),
        ((112, 1000), (224, 2000)),
        ((300, 1), (67200, 224)),
        ((224, 224), (224, 224)),
        ((225, 1000), (225, 1000)),
    ],
)
def test_enlarge(shape: tuple[int, int], enlarged: tuple[int, int]) -> None:
    image = noise_image(*shape)
    assert np.array_equal(enlarge(image), resized(image, *enlarged))


def test_large_enough_pictures_pass_unchanged() -> None:
    image = noise_image(224, 500)
    assert enlarge(image) is image


@settings(max_examples=40)
@given(shape=image_shapes(max_side=260))
def test_views_of_any_shape(shape: tuple[int, int]) -> None:
    image = noise_image(*shape)
    large = enlarge(image)
    assert min(large.shape[:2]) >= 224
    # Aspect is kept as far as whole pixels allow: half a pixel on each side.
    scale = large.shape[0] / shape[0]
    assert abs(large.shape[1] - shape[1] * scale) <= 0.5 + 0.5 * max(1.0, shape[1] / shape[0])
    semantic, detail = sample_views(image)
    assert np.array_equal(semantic, resized(large, 224, 224))
    assert np.array_equal(detail, fragment_sample(large))
    assert semantic.flags.writeable
    assert detail.flags.writeable


@pytest.mark.parametrize("shape", [shape for shape in AWKWARD_SHAPES if min(shape) >= 224])
def test_semantic_view_is_pillows_antialiased_bicubic(shape: tuple[int, int]) -> None:
    image = noise_image(*shape)
    assert np.array_equal(semantic_view(image), resized(image, 224, 224))


@pytest.mark.parametrize("shape", [(300, 400), (20, 3000), (480, 640), (224, 1000), (1000, 224), (3000, 20)])
def test_one_call_gives_the_same_where_all_versions_of_pillow_agree(shape: tuple[int, int]) -> None:
    """On pictures that are wider than tall, or that one axis is enough for."""
    picture = PillowImage.fromarray(enlarge(noise_image(*shape)))
    at_once = picture.resize((224, 224), PillowImage.Resampling.BICUBIC)
    assert np.array_equal(semantic_view(np.asarray(picture)), np.asarray(at_once))


@pytest.mark.parametrize("shape", [(400, 300), (3000, 250), (1000, 230), (1021, 251)])
def test_a_tall_picture_is_resized_across_first_on_every_pillow(shape: tuple[int, int]) -> None:
    """Lying on its side, and resized down first there, such a picture gives the same pixels."""
    image = enlarge(noise_image(*shape))
    lying = PillowImage.fromarray(np.ascontiguousarray(image.transpose(1, 0, 2)))
    down_first = lying.resize((lying.width, 224), PillowImage.Resampling.BICUBIC)
    expected = np.asarray(down_first.resize((224, 224), PillowImage.Resampling.BICUBIC)).transpose(1, 0, 2)
    assert np.array_equal(semantic_view(image), expected)


@pytest.mark.parametrize("shape", [(1021, 2251), (2300, 1343), (500, 3000), (400, 300), (20, 3000)])
def test_a_drafted_semantic_view_is_pillows_with_a_reducing_gap(shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    image = np.stack([rows * 200 // shape[0], columns * 200 // shape[1], (rows + columns) * 255 // sum(shape)], axis=-1)
    image = image.astype(np.uint8)
    semantic, detail = sample_views(image, draft=True)
    large = PillowImage.fromarray(enlarge(image))
    expected = large.resize((224, 224), PillowImage.Resampling.BICUBIC, reducing_gap=2.0)
    # Pillow 13 may resize down first; of so smooth a picture that makes one level.
    assert np.abs(semantic.astype(int) - np.asarray(expected)).max() <= 1
    assert np.array_equal(detail, sample_views(image)[1])


@pytest.mark.parametrize("mode", ["RGB", "RGBX"])
@pytest.mark.parametrize("shape", [(300, 400), (20, 30), (1021, 251)])
def test_views_of_a_pillow_picture(shape: tuple[int, int], mode: str) -> None:
    image = noise_image(*shape)
    picture = PillowImage.fromarray(image)
    if mode == "RGBX":  # the fourth channel, noise here, is nobody's colour
        fourth = np.concatenate([image, image[:, :, :1]], axis=2)
        picture = PillowImage.frombuffer("RGBX", picture.size, fourth.tobytes(), "raw", "RGBX", 0, 1)
    assert np.array_equal(pixels(picture), image)
    for view, expected in zip(sample_views(picture), sample_views(image), strict=True):
        assert np.array_equal(view, expected)


def test_views_accept_arrays_that_are_not_contiguous() -> None:
    image = noise_image(300, 400)
    flipped = image[:, ::-1]
    assert np.array_equal(semantic_view(flipped), semantic_view(flipped.copy()))
    assert np.array_equal(detail_view(flipped), detail_view(flipped.copy()))


def test_too_narrow_to_enlarge() -> None:
    with pytest.raises(ImageError, match=r"20000x1 pixels.*4480000x224.*crop it first"):
        enlarge(np.zeros((1, 20000, 3), np.uint8))
