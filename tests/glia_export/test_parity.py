"""The comparison itself: what passes, what does not, and on which pictures."""

import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

import glia_export.parity
from glia_export.parity import (
    BOUNDS,
    built_in_pictures,
    compare,
    describe,
    pictures_in,
    reference_scores,
)
from glia_runtime.decode import decode
from glia_runtime.errors import UsageError
from glia_runtime.fragments import Image
from glia_runtime.manifest import Limits
from glia_runtime.probe import probe_images
from glia_runtime.view_spec import CropViews, FragmentViews
from glia_runtime.views import sample_views
from tests.glia_export.conftest import spread_model

SPREAD = np.linspace(10, 90, 30, dtype=np.float32)
CLOSE = 50 + np.linspace(0, 1e-3, 30, dtype=np.float32)


def test_equal_scores_pass() -> None:
    row = compare("onnxruntime", "fp32", SPREAD, SPREAD, 100.0)
    assert row.passed and row.max_abs == row.mean_abs == 0 and row.srcc == pytest.approx(1)
    assert row.images == 30 and row.bound_max_abs == pytest.approx(0.01) and row.bound_srcc == BOUNDS["fp32"].srcc


@pytest.mark.parametrize(
    ("precision", "inside", "outside"), [("fp32", 0.009, 0.011), ("fp16", 0.9, 1.1), ("fp16-weights", 0.9, 1.1)]
)
def test_the_largest_difference_decides(precision: str, inside: float, outside: float) -> None:
    for off, passes in ((inside, True), (outside, False)):
        moved = SPREAD.copy()
        moved[0] -= off
        assert compare("b", precision, moved, SPREAD, 100.0).passed == passes  # type: ignore[arg-type]


def test_the_mean_difference_decides_in_bf16() -> None:
    # Each score off by 2 % of the range is inside the bound of the largest difference, and too much on average.
    for off, passes in ((0.9, True), (1.1, False), (2.0, False)):
        row = compare("openvino", "bf16", SPREAD + np.float32(off), SPREAD, 100.0)
        assert row.passed == passes and row.max_abs < row.bound_max_abs and row.srcc == pytest.approx(1)
        assert row.bound_mean_abs == pytest.approx(1.0)
    one_off = SPREAD.copy()
    one_off[-1] += 4.1
    row = compare("openvino", "bf16", one_off, SPREAD, 100.0)
    assert not row.passed and row.mean_abs < 0.2


def test_the_order_is_held_in_bf16_by_what_is_usual() -> None:
    # A standard deviation of 5 % of the range is five times the mean difference allowed.
    reference = 50 + 8 * np.sin(np.arange(200)).astype(np.float32)
    noisy = reference + np.random.default_rng(0).normal(0, 0.9, 200).astype(np.float32)
    row = compare("openvino", "bf16", noisy, reference, 100.0)
    assert row.bound_srcc == 0.998 and row.srcc is not None and row.srcc < 0.998
    assert row.mean_abs < 1.0 and row.max_abs < 4.0 and not row.passed


def test_the_order_decides_where_scores_spread() -> None:
    # Neighbours swapped: each within fp16's bound of 1 of 100, the order is not kept.
    reference = np.repeat(np.arange(20, 80, 4, dtype=np.float32), 2) + np.tile([0, 0.3], 15).astype(np.float32)
    swapped = reference.reshape(-1, 2)[:, ::-1].ravel()
    row = compare("b", "fp16", swapped, reference, 100.0)
    assert row.max_abs < row.bound_max_abs
    assert row.srcc is not None and row.srcc < BOUNDS["fp16"].srcc
    assert not row.passed


def test_no_order_is_demanded_of_scores_that_hardly_differ() -> None:
    row = compare("b", "fp16", CLOSE[::-1].copy(), CLOSE, 100.0)
    assert row.bound_srcc is None and row.passed and row.srcc == pytest.approx(-1)
    # The same in fp32, on a scale where they do spread.
    assert not compare("b", "fp32", CLOSE[::-1].copy(), CLOSE, 1e-2).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_fail(value: float) -> None:
    broken = SPREAD.copy()
    broken[3] = value
    row = compare("b", "fp16", broken, SPREAD, 100.0)
    assert not row.passed and np.isfinite(row.max_abs) and row.srcc is None
    assert "largest difference" in describe(row)


def test_constant_scores_have_no_correlation() -> None:
    constant = np.full(5, 50, np.float32)
    row = compare("b", "fp32", constant, constant, 100.0)
    assert row.srcc is None and row.plcc is None and row.passed and "undefined" in describe(row)


def test_built_in_pictures() -> None:
    made, again = built_in_pictures(FragmentViews()), built_in_pictures(FragmentViews())
    images = list(made.images())
    assert len(images) == len(made.views) == 32
    crops = built_in_pictures(CropViews(2))
    assert [view[0].shape for view in crops.views] == [(4, 224, 224, 3)] * 11
    assert all(np.array_equal(a, b) for a, b in zip(images, crops.images(), strict=False))
    assert all(np.array_equal(a, b) for a, b in zip(images, again.images(), strict=True))
    for picture, probe in zip(images, probe_images(), strict=False):
        assert np.array_equal(picture, probe)
    shapes = {image.shape[:2] for image in images}
    assert len(shapes) > 20
    assert any(min(shape) < 224 for shape in shapes)
    assert any(height > 1.3 * width for height, width in shapes)
    assert any(width > 1.3 * height for height, width in shapes)


def test_a_folder_of_pictures(pictures: Path) -> None:
    said: list[str] = []
    found = pictures_in(pictures, FragmentViews(), Limits(), said.append)
    assert found.about == f"6 pictures in {pictures}"
    (line,) = said
    assert line.startswith(f"{pictures}: skipped 1 of 7 pictures, the first: {pictures / 'broken.png'}: ")
    for image, views, path in zip(found.images(), found.views, sorted(pictures.glob("?.png")), strict=True):
        assert np.array_equal(image, decode(path))
        for view, expected in zip(views, sample_views(image), strict=True):
            assert np.array_equal(view, expected)


def test_a_folder_without_a_readable_picture(pictures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for folder, reason in ((tmp_path, "holds no picture"), (tmp_path / "none", "not a folder")):
        with pytest.raises(UsageError, match=reason):
            pictures_in(folder, FragmentViews(), Limits(), said.append)
    assert said == []
    shutil.copy(pictures / "broken.png", tmp_path)
    with pytest.raises(UsageError, match="no readable picture"):
        pictures_in(tmp_path, FragmentViews(), Limits(), said.append)
    assert len(said) == 1 and "skipped 1 of 1" in said[0]


def test_pictures_beyond_the_artifacts_limits_are_skipped(pictures: Path) -> None:
    said: list[str] = []
    found = pictures_in(pictures, FragmentViews(), Limits(max_height=320, max_width=400), said.append)
    assert [image.shape[:2] for image in found.images()] == [(224, 224), (240, 320), (60, 90), (300, 301)]
    assert len(said) == 1 and f"skipped 3 of 7 pictures, the first: {pictures / '2.png'}: 230x400 pixels" in said[0]


def test_a_large_folder_is_sampled_evenly(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glia_export.parity, "_FEWEST_PICTURES", 1)
    said: list[str] = []
    found = pictures_in(pictures, FragmentViews(), Limits(), said.append, most=3)
    assert found.sources == tuple(pictures / name for name in ("0.png", "3.png"))
    assert said[0] == f"{pictures}: taking 3 of its 7 pictures, spread evenly over their names"
    assert len(said) == 2 and "skipped 1 of 3" in said[1]  # the last is broken.png


def test_fewer_pictures_where_each_is_many_crops(pictures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    for number in range(9):
        shutil.copy(pictures / "0.png", tmp_path / f"{number}.png")
    assert len(pictures_in(tmp_path, CropViews(2), Limits(), said.append, most=8 * 4).views) == 8
    assert said[0].startswith(f"{tmp_path}: taking 8 of its 9 pictures")
    assert len(pictures_in(tmp_path, FragmentViews(), Limits(), print, most=8 * 4).views) == 9


def test_one_whole_picture_at_a_time_is_in_memory(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[weakref.ref[Image]] = []

    def noted(path: Path) -> Image:
        assert all(picture() is None for picture in decoded)
        image = decode(path)
        decoded.append(weakref.ref(image))
        return image

    monkeypatch.setattr(glia_export.parity, "decode", noted)
    found = pictures_in(pictures, FragmentViews(), Limits(), print)
    assert len(decoded) == 6
    for image in found.images():
        assert image is decoded[-1]()
        del image
    assert len(decoded) == 12


def test_the_reference_sees_both_views(pictures: Path) -> None:
    model = spread_model()
    scores = reference_scores(model, pictures_in(pictures, FragmentViews(), Limits(), print).views)
    assert scores.dtype == np.float32 and scores.shape == (6,)
    # The model of these tests is worth comparing with: its scores spread, over the limit in fp16, too.
    assert np.std(scores) > 5
