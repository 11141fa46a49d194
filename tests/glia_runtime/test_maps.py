"""Maps of where a model looked: back at the fragments' places, in colours that keep the order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glia_runtime import FragmentSpec, Scorer, UsageError, fragment_sample, sample_views
from glia_runtime.decode import decode
from glia_runtime.manifest import View
from glia_runtime.maps import OVERLAY_SIDE, colours, lay_back, map_name, overlay, patch_centres
from tests.glia_runtime import artifacts
from tests.glia_runtime.test_cli import csv_rows, infer, lines
from tests.shapes import noise_image

SPEC = FragmentSpec()
sides = st.integers(224, 2000)


@pytest.fixture(scope="module", params=["detail", "semantic"])
def map_view(request: pytest.FixtureRequest) -> View:
    view: View = request.param
    return view


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, map_view: View) -> Path:
    path = tmp_path_factory.mktemp("mapped") / "mapped.onnx"
    artifacts.save_views(path, map_view=map_view)
    return path


@given(height=sides, width=sides)
def test_the_centres_are_where_the_fragments_were_cut(height: int, width: int) -> None:
    """A picture that holds its own coordinates, put through the sampling itself."""
    rows, columns = patch_centres("detail", 14, height, width, SPEC)
    assert (np.diff(rows) > 0).all()
    assert (np.diff(columns) > 0).all()
    for length, centres, axis in ((height, rows, 0), (width, columns, 1)):
        coordinates = np.stack([np.arange(length) >> 8, np.arange(length) & 255, np.zeros(length)], -1)
        strip = coordinates[:, None] if axis == 0 else coordinates[None]
        image = np.broadcast_to(strip, (height, width, 3)).astype(np.uint8)
        mosaic = fragment_sample(image).astype(np.int64)
        line = mosaic[:, 0] if axis == 0 else mosaic[0]
        places = line[:, 0] * 256 + line[:, 1]
        # A patch spans the pixels 16 k .. 16 k + 15; its centre is the edge between the two in its middle.
        np.testing.assert_array_equal(places[7::16] + 1, centres)


def test_semantic_patches_divide_the_picture_evenly() -> None:
    rows, columns = patch_centres("semantic", 14, 280, 560, SPEC)
    np.testing.assert_allclose(rows, np.arange(10, 280, 20))
    np.testing.assert_allclose(columns, np.arange(20, 560, 40))


@given(height=sides, width=sides, row=st.integers(0, 13), column=st.integers(0, 13))
def test_a_share_lies_highest_inside_its_own_patch(height: int, width: int, row: int, column: int) -> None:
    shares = np.zeros((14, 14), np.float32)
    shares[row, column] = 1
    heat = lay_back(shares, "detail", height, width, SPEC, (height, width))
    top, left = np.unravel_index(heat.argmax(), heat.shape)
    rows, columns = SPEC.starts(height, width)
    assert 0 <= top - (rows[row // 2, 0] + 16 * (row % 2)) < 16
    assert 0 <= left - (columns[0, column // 2] + 16 * (column % 2)) < 16
    assert heat.min() == 0


def test_a_ramp_stays_a_ramp() -> None:
    """Shares that rise with their place give heat that rises with the place, on any grid."""
    rows, columns = patch_centres("detail", 14, 500, 900, SPEC)
    shares = (rows[:, None] + 3 * columns[None]).astype(np.float32)
    heat = lay_back(shares, "detail", 500, 900, SPEC, (50, 90))
    down, across = np.arange(5, 500, 10), np.arange(5, 900, 10)
    inside = np.ix_((down > rows[0]) & (down < rows[-1]), (across > columns[0]) & (across < columns[-1]))
    # float32 shares up to 3000
    np.testing.assert_allclose(heat[inside], (down[:, None] + 3 * across[None])[inside], atol=1e-3)


def test_colours_rise_evenly_in_lightness() -> None:
    values = np.linspace(0, 1, 101)
    rgb = colours(values)
    assert rgb.min() >= 0
    assert rgb.max() <= 255
    # Back to OKLab by its published forward matrices.
    encoded = rgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_cone = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lightness = np.cbrt(linear @ np.transpose(to_cone)) @ [0.2104542553, 0.7936177850, -0.0040720468]
    # 0.02 is where the two ends leave sRGB and are clipped.
    np.testing.assert_allclose(lightness, 0.3 + 0.62 * values, atol=0.02)
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(300, 400, (300, 400)), (1, 1, (1, 1)), (3000, 2000, (1024, 683)), (20, 4000, (5, 1024))],
)
def test_an_overlay_has_the_pictures_shape(map_view: View, height: int, width: int, expected: tuple[int, int]) -> None:
    drawn = overlay(noise_image(height, width), np.full((14, 14), 0.005, np.float32), map_view)
    assert drawn.shape == (*expected, 3)
    assert max(drawn.shape) <= OVERLAY_SIDE
    assert drawn.dtype == np.uint8


def test_an_overlay_glows_where_the_model_looked() -> None:
    shares = np.zeros((14, 14), np.float32)
    shares[3, 10] = 1
    drawn = overlay(np.full((280, 280, 3), 90, np.uint8), shares, "semantic").astype(int)
    top, left = np.unravel_index((drawn[..., 0] - drawn[..., 2]).argmax(), drawn.shape[:2])
    assert 60 <= top < 80
    assert 200 <= left < 220


def test_names_are_safe_and_do_not_collide() -> None:
    paths = ["a/x.jpg", "b/x.jpg", "x.jpg", "x.png", "../../x", "-rf", "new\nline.jpg", "schön\udcff.jpg", "y" * 300]
    names = [map_name(path) for path in paths]
    assert len(set(names)) == len(names)
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.")
        assert len(name) < 100
    assert map_name("a/x.jpg") == names[0]


def test_scorer_gives_the_graphs_maps(mapped: Path, map_view: View, pictures: list[Path]) -> None:
    images = [decode(path) for path in pictures]
    maps = Scorer.open(mapped).maps(images)
    for image, shares in zip(images, maps, strict=True):
        view = sample_views(image)[("semantic", "detail").index(map_view)]
        # a mean of 768 float32 values up to 255
        np.testing.assert_allclose(shares, artifacts.expected_map(view), rtol=1e-5)


def test_an_artifact_without_maps_says_how_to_get_one(image_artifact: Path) -> None:
    with pytest.raises(UsageError, match="glia-export MODEL --to onnx --maps"):
        Scorer.open(image_artifact).maps([noise_image(10, 10)])


def test_the_command_draws_each_scored_picture(mapped: Path, pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    done = infer("--model", mapped, *pictures, "missing.png", "--maps", folder)
    assert done.returncode == 1
    assert len(csv_rows(done.stdout)) == len(pictures) + 1
    assert sorted(path.name for path in folder.iterdir()) == sorted(map_name(str(path)) for path in pictures)
    for path in pictures:
        with Image.open(folder / map_name(str(path))) as drawn:
            assert (drawn.height, drawn.width) == decode(path).shape[:2]


def test_a_command_that_cannot_draw_stops_before_scoring(views_artifact: Path, mapped: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for model, folder, reason in (
        (views_artifact, tmp_path / "maps", "glia-export MODEL --to onnx --maps"),
        (mapped, tmp_path / "file", "cannot be made a folder"),
        (mapped, tmp_path / "missing" / "maps", "cannot be made a folder"),
    ):
        done = infer("--model", model, "picture.jpg", "--maps", folder)
        assert (done.returncode, done.stdout) == (2, b"")
        assert len(lines(done)) == 1
        assert reason in lines(done)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
