from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glia_runtime import ImageError, Manifest, Probe, ScoreScale
from glia_runtime import inputs as inputs_module
from glia_runtime.inputs import MAX_BATCH_PIXELS, check_inputs, collate, in_batches, prepare
from glia_runtime.manifest import InputKind
from glia_runtime.view_spec import CropViews
from tests.shapes import noise_image


def manifest(kind: InputKind, crop_views: CropViews | None = None) -> Manifest:
    scale, probe = ScoreScale(0.0, 1.0, True, "none"), Probe((), 0.0)
    return Manifest("none", {}, "", "", "onnx", kind, "fp32", scale, (), probe, crop_views=crop_views)


def test_collate_pads_and_keeps_true_sizes() -> None:
    pictures = [noise_image(224, 300), noise_image(400, 225)]
    batch = collate([(picture,) for picture in pictures], manifest("image"))
    assert batch["images"].shape == (2, 400, 300, 3)
    assert batch["sizes"].tolist() == [[224, 300], [400, 225]]
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        assert np.array_equal(batch["images"][index, :height, :width], picture)
        assert not batch["images"][index, height:].any()
        assert not batch["images"][index, :, width:].any()
    assert check_inputs(batch, manifest("image")) == 2


def test_collate_views() -> None:
    views = [(noise_image(224, 224), noise_image(224, 224)[::-1]) for _ in range(3)]
    batch = collate(views, manifest("views"))
    assert np.array_equal(batch["detail"][2], views[2][1])
    assert check_inputs(batch, manifest("views")) == 3


def test_crops_are_one_input_of_many_squares() -> None:
    crops = manifest("views", CropViews())
    pictures = [prepare(noise_image(300, 230 + index), crops) for index in range(2)]
    batch = collate(pictures, crops)
    assert list(batch) == ["crops"]
    assert batch["crops"].shape == (2, 25, 224, 224, 3)
    assert np.array_equal(batch["crops"][1, 24], noise_image(300, 231)[-224:, -224:])
    assert check_inputs(batch, crops) == 2
    with pytest.raises(ImageError, match=r"crops is uint8 \[2, 24, 224, 224, 3\]; the graph takes uint8 \[2, 25, 224,"):
        check_inputs({"crops": batch["crops"][:, 1:]}, crops)
    # A picture in crops is no picture to pad: only their number counts.
    assert [len(group) for group in in_batches(enumerate(pictures * 10), 20)] == [20]


VIEW = np.zeros((1, 224, 224, 3), np.uint8)
IMAGES = np.zeros((1, 240, 230, 3), np.uint8)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("views", {"semantic": VIEW}),
        ("views", {"semantic": VIEW, "detail": VIEW, "more": VIEW}),
        ("views", {"semantic": VIEW, "detail": VIEW.astype(np.float32)}),
        ("views", {"semantic": VIEW, "detail": VIEW[:, :223]}),
        ("views", {"semantic": VIEW, "detail": np.concatenate([VIEW, VIEW])}),
        ("image", {"images": IMAGES, "sizes": np.array([[240, 230]], np.int32)}),
        ("image", {"images": IMAGES, "sizes": np.array([240, 230])}),
        ("image", {"images": IMAGES, "sizes": np.array([[241, 230]])}),
        ("image", {"images": IMAGES, "sizes": np.array([[240, 231]])}),
        ("image", {"images": IMAGES, "sizes": np.array([[223, 230]])}),
        ("image", {"images": IMAGES[0], "sizes": np.array([[240, 230]])}),
    ],
)
def test_wrong_inputs_are_refused(kind: Any, inputs: dict[str, Any]) -> None:
    with pytest.raises(ImageError):
        check_inputs(inputs, manifest(kind))


SIDES = st.integers(1, 5000)


@given(
    st.lists(st.one_of(st.just("error"), st.tuples(SIDES, SIDES)), max_size=40),
    st.integers(1, 9),
)
def test_batches_keep_order_and_stay_bounded(items: list[Any], max_items: int) -> None:
    # A broadcast array has a shape without having memory.
    pixel = np.zeros(3, np.uint8)
    stream = [
        (index, item if item == "error" else (np.broadcast_to(pixel, (*item, 3)),)) for index, item in enumerate(items)
    ]
    groups = list(in_batches(stream, max_items))
    assert [key for group in groups for key, _ in group] == list(range(len(items)))
    for group in groups:
        shapes = [prepared[0].shape for _, prepared in group if not isinstance(prepared, str)]
        assert 1 <= len(group) <= max_items
        if len(shapes) > 1:
            assert len(shapes) * max(s[0] for s in shapes) * max(s[1] for s in shapes) <= MAX_BATCH_PIXELS


def test_the_budget_is_what_the_module_says() -> None:
    assert inputs_module.MAX_BATCH_PIXELS * 3 < 60e6
