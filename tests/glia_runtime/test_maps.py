"""Maps of where a model looked: back at the fragments' places, in colours that keep the order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glia_runtime import FragmentSpec, Limits, Scorer, UsageError, fragment_sample, sample_views
from glia_runtime.backends.base import Backend
from glia_runtime.decode import decode
from glia_runtime.errors import ArtifactError, BackendError, ImageError
from glia_runtime.info import info_text
from glia_runtime.manifest import View
from glia_runtime.maps import OVERLAY_SIDE, MapWriter, colours, lay_back, map_name, overlay, patch_centres
from glia_runtime.pipeline import Result
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


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_scorer_gives_the_graphs_maps(mapped: Path, map_view: View, pictures: list[Path], backend: str) -> None:
    images = [decode(path) for path in pictures]
    maps = Scorer.open(mapped, backend=backend).maps([*images[:-1], pictures[-1].read_bytes()])
    for image, shares in zip(images, maps, strict=True):
        view = sample_views(image)[("semantic", "detail").index(map_view)]
        # a mean of 768 float32 values up to 255
        np.testing.assert_allclose(shares, artifacts.expected_map(view), rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no NVIDIA GPU on this machine")
def test_cuda_gives_the_cpus_maps(mapped: Path, pictures: list[Path]) -> None:
    if "CUDAExecutionProvider" not in import_module("onnxruntime").get_available_providers():
        pytest.skip("needs the extra gpu in place of cpu")
    images = [decode(path) for path in pictures]
    maps, expected = (Scorer.open(mapped, device, "onnxruntime").maps(images) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(np.stack(maps), np.stack(expected), rtol=1e-5)  # as above


def test_a_batch_over_the_limit_runs_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "limited.onnx"
    artifacts.rewrite(path, artifacts.save_views(path, map_view="detail"), limits=Limits(max_batch=2))
    images = [noise_image(224 + index, 230) for index in range(5)]
    scorer = Scorer.open(path)
    sizes = []
    run_maps = scorer._backend._run_maps
    scorer._backend._run_maps = lambda inputs: sizes.append(len(inputs["detail"])) or run_maps(inputs)  # type: ignore
    for image, shares in zip(images, scorer.maps(images), strict=True):
        np.testing.assert_allclose(shares, artifacts.expected_map(sample_views(image)[1]), rtol=1e-5)
    assert sizes == [2, 2, 1]


def test_outputs_that_the_manifest_does_not_declare_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    manifest = artifacts.save_views(path, map_view="detail")
    artifacts.rewrite(path, manifest, map_view=None)
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(ArtifactError, match=r"its outputs are \['map', 'score'\], not \['score'\]"):
            Scorer.open(path, backend=backend)
    artifacts.rewrite(path, artifacts.save_views(path), map_view="detail")
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(ArtifactError, match=r"its outputs are \['score'\], not \['map', 'score'\]"):
            Scorer.open(path, backend=backend)


def test_a_backend_without_maps_says_so(mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer.open(mapped, backend="onnxruntime")
    monkeypatch.setattr(type(scorer._backend), "_run_maps", Backend._run_maps)
    with pytest.raises(BackendError, match="onnxruntime gives no maps"):
        scorer.maps([noise_image(224, 224)])


def test_a_picture_that_has_no_map_is_named(mapped: Path) -> None:
    with pytest.raises(ImageError, match="picture 1: "):
        Scorer.open(mapped).maps([noise_image(224, 224), np.zeros((3, 3), np.uint8)])


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


def test_a_finished_file_leaves_no_map_to_draw(mapped: Path, pictures: list[Path], tmp_path: Path) -> None:
    line = ("--model", mapped, pictures[0], "--output", tmp_path / "scores.csv", "--resume")
    assert infer(*line).returncode == 0
    done = infer(*line, "--maps", tmp_path / "maps")
    assert done.returncode == 2 and not (tmp_path / "maps").exists()
    assert b"scores.csv: is complete, so that --maps has nothing to draw" in done.stderr


def test_info_says_that_an_artifact_gives_maps(mapped: Path, map_view: View, views_artifact: Path) -> None:
    assert f"maps: of the {map_view} view\n" in info_text(mapped, terminal=False)
    assert "maps" not in info_text(views_artifact, terminal=False)


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_map_that_cannot_be_drawn_is_one_failure(
    mapped: Path, pictures: list[Path], tmp_path: Path, fail_fast: bool
) -> None:
    """A file that is gone by the time its map is drawn: all three are in memory before the first is."""
    scorer = Scorer.open(mapped)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        path.write_bytes(pictures[0].read_bytes())
    complaints: list[str] = []

    def complain(line: str) -> None:
        complaints.append(line)
        if fail_fast:
            raise InterruptedError

    def stream() -> Iterator[Result]:
        for index, result in enumerate(list(scorer.stream(paths))):
            if index == 1:
                paths[1].unlink()
            yield result

    seen: list[Result] = []
    with pytest.raises(InterruptedError) if fail_fast else nullcontext():
        seen.extend(MapWriter(scorer, tmp_path / "maps").draw(stream(), complain))
    assert complaints == [f"{paths[1]}: no map: no such file; check the path"]
    drawn = [paths[0]] if fail_fast else [paths[0], paths[2]]
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {map_name(str(path)) for path in drawn}
    assert fail_fast or [result.score is not None for result in seen] == [True] * 3


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
