"""Another architecture, shown crops in place of two views, through the same exporter, runtime and benchmarks."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from glia.cli import train_app
from glia.models import create_model, save_checkpoint
from glia_bench.cli import app as bench_app
from glia_export import export_checkpoint
from glia_export.cli import app as export_app
from glia_export.engine_options import EngineOptions
from glia_export.graphs import gather_crops
from glia_export.parity import BOUNDS
from glia_runtime import Scorer, UsageError, enlarge, read_manifest
from glia_runtime.cli import app as infer_app
from glia_runtime.info import describe
from glia_runtime.manifest import InputKind, Precision, ScoreScale, Target
from glia_runtime.view_spec import CropViews
from tests.conftest import MadeOnce
from tests.glia_export.conftest import Exported, needs_rtx
from tests.shapes import noise_image

# Backends that compute in the artifact's own precision: `auto` may take OpenVINO's bfloat16.
PLAIN = {"onnx": "onnxruntime", "torchscript": "torchscript", "pt2": "aotinductor"}


@pytest.fixture(scope="module")
def glint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose scores on a scale of 0 to 100 spread."""
    torch.manual_seed(0)
    model = create_model(
        "glintiqa", backbone="test_vit", blocks=(2, 3, 4, 5), frozen_blocks=2, cnn="test_resnet", crops=2
    ).eval()
    with torch.no_grad():
        model.get_parameter("head.weight").mul_(20.0)
    model.set_scale(ScoreScale(0.0, 100.0, True, "test"), mean=50.0, std=20.0)
    path = tmp_path_factory.mktemp("glint") / "model.pt"
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="module")
def made(glint: Path, pictures: Path, made_once: MadeOnce) -> Exported:
    def export(target: Target, kind: InputKind, precision: Precision) -> Path:
        def make(path: Path) -> None:
            export_checkpoint(glint, target, path, precision=precision, input=kind, images=pictures)

        return made_once(f"glint-{kind}-{precision}.{target}", make)

    return export


@pytest.mark.parametrize("grid", [1, 2, 5])
@pytest.mark.parametrize("shape", [(224, 224), (225, 301), (1023, 230), (450, 449)])
def test_crops_in_a_graph_are_the_runtimes(shape: tuple[int, int], grid: int) -> None:
    spec = CropViews(grid)
    images = [enlarge(noise_image(*shape)), enlarge(noise_image(230, 260))]
    padded = np.full((2, max(shape[0], 230), max(shape[1], 260), 3), 77, np.uint8)
    for index, image in enumerate(images):
        padded[index, : image.shape[0], : image.shape[1]] = image
    sizes = torch.tensor([image.shape[:2] for image in images])
    made = gather_crops(torch.from_numpy(padded), sizes, spec)
    for crops, image in zip(made, images, strict=True):
        (expected,) = spec.sample(image)
        assert np.array_equal(crops.numpy(), expected)


@pytest.mark.parametrize(
    ("target", "kind", "precision"),
    [
        ("onnx", "views", "fp32"),
        ("onnx", "image", "fp32"),
        ("onnx", "image", "fp16"),
        ("torchscript", "image", "fp32"),
        pytest.param("pt2", "image", "fp32", marks=pytest.mark.slow),
    ],
)
def test_artifacts_keep_their_bounds(made: Exported, target: Target, kind: InputKind, precision: Precision) -> None:
    path = made(target, kind, precision)
    manifest = read_manifest(path)
    assert manifest.architecture == "glintiqa"
    assert manifest.view_spec == CropViews(2)
    assert manifest.input_names == (("crops",) if kind == "views" else ("images", "sizes"))
    assert dict(describe(path))["input"].endswith("; the mean over 2x2 crops of 224 pixels")
    assert all(row.passed and row.max_abs <= 100 * BOUNDS[row.precision].max_abs for row in manifest.parity)
    assert len({row.backend for row in manifest.parity}) == (2 if target == "onnx" else 1)  # OpenVINO runs it as well
    # Scores that spread, or half of a graph could be missing unseen.
    row = manifest.parity[0]
    assert row.precision == precision and row.max_abs < np.std(manifest.probe.scores) / 5
    scorer = Scorer.open(path, backend=PLAIN[target])
    images = [noise_image(90, 60), noise_image(240, 231), noise_image(500, 300)]
    together = scorer.score(images)
    alone = np.concatenate([scorer.score([image]) for image in images])
    assert np.abs(together - alone).max() < 100 * BOUNDS[precision].max_abs  # padding is not seen
    if target == "onnx":
        assert not onnx.load(path).functions


def test_views_and_whole_pictures_score_alike(made: Exported) -> None:
    ways: tuple[tuple[Target, InputKind], ...] = (("onnx", "views"), ("torchscript", "image"))
    scorers = [Scorer.open(made(target, kind, "fp32"), backend=PLAIN[target]) for target, kind in ways]
    images = [noise_image(90, 60), noise_image(500, 300)]
    first, second = (scorer.score(images) for scorer in scorers)
    assert np.abs(first - second).max() < 1e-2


def test_what_crops_do_not_have_is_refused_in_one_line(glint: Path, made: Exported, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this glintiqa cannot say where it looked; leave out --maps"):
        export_checkpoint(glint, "onnx", tmp_path / "maps.onnx", maps=True)
    with pytest.raises(UsageError, match="draft is for semantic views"):
        Scorer.open(made("onnx", "views", "fp32")).stream([], draft=True)


@needs_rtx
def test_an_engine_is_built_without_a_gpu(glint: Path, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    options = EngineOptions(compute_capabilities=("8.9",))
    manifest = export_checkpoint(glint, "trt-rtx", path, precision="fp16", images=pictures, engine=options)
    assert manifest.limits.max_batch == 2  # four crops each
    assert path.stat().st_size > 1e6
    assert [row.passed for row in manifest.parity] == [True]


def test_the_same_commands_train_export_run_and_compare(pictures: Path, tmp_path: Path) -> None:
    model, artifact = tmp_path / "run" / "model.pt", tmp_path / "glint.onnx"
    train = ["--arch", "glintiqa", "--backbone", "test_vit", "--dataset", "synthetic", "--steps", "2"]
    train += ["--pictures", "2", "--validation-pictures", "1"]
    for option in ("cnn=test_resnet", "blocks=2,3,4,5", "frozen_blocks=2", "crops=2"):
        train += ["--model-option", option]
    for app, arguments in (
        (train_app, [*train, "--batch-size", "4", "--out", str(model.parent)]),
        (export_app, [str(model), "--to", "onnx", "-o", str(artifact), "--images", str(pictures)]),
        (infer_app, ["--model", str(artifact), str(pictures / "0.png"), str(pictures / "5.png")]),
        (bench_app, ["parity", "--reference", str(model), str(artifact), "--images", str(pictures)]),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
