"""A right export passes and a wrong engine is caught, by the command."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner, Result

from glia.models import create_model, save_checkpoint
from glia_bench.cli import app
from glia_bench.results import read_run
from glia_export import export_checkpoint
from glia_runtime.manifest import read_manifest, sha256_file
from tests.glia_export.conftest import spread_model
from tests.glia_runtime.artifacts import rewrite


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parity") / "model.pt"
    save_checkpoint(spread_model(), path)
    return path


@pytest.fixture(scope="module", params=["views", "image"])
def artifact(request: pytest.FixtureRequest, checkpoint: Path, photographs: list[Path]) -> Path:
    path = checkpoint.with_name(f"{request.param}.onnx")
    export_checkpoint(checkpoint, "onnx", path, input=request.param, images=photographs[0].parent)
    return path


def invoke(checkpoint: Path, photographs: list[Path], *arguments: str) -> Result:
    folder = str(photographs[0].parent)
    return CliRunner().invoke(app, ["parity", "--reference", str(checkpoint), "--images", folder, *arguments])


def test_a_right_artifact_passes(checkpoint: Path, artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    output, html = tmp_path / "parity.json", tmp_path / "parity.html"
    done = invoke(checkpoint, photographs, str(artifact), str(checkpoint), "-o", str(output), "--html", str(html))
    assert done.exit_code == 0, done.output
    run = read_run(output)
    exported, itself = run.measurements
    assert exported.facts["passed"] and exported.facts["largest"] == max(exported.samples)
    assert len(exported.samples) == len(photographs)
    assert exported.facts["srcc"] == pytest.approx(1.0)
    # The checkpoint against itself: the same arithmetic on the same views.
    assert itself.facts["largest"] < 1e-4
    page = html.read_text()
    # the plot stands inside: it needs no other file
    assert page.count("src=") == page.count('src="data:image/svg+xml') == 1


def wrong_engine(artifact: Path, folder: Path) -> Path:
    """The artifact with the weight matrices of its second half negated, under a manifest that vouches for it."""
    model = onnx.load(artifact)
    matrices = [item for item in model.graph.initializer if len(item.dims) == 2 and min(item.dims) >= 32]
    for matrix in matrices[len(matrices) // 2 :]:
        matrix.CopyFrom(numpy_helper.from_array(-np.asarray(numpy_helper.to_array(matrix)), matrix.name))
    path = folder / artifact.name
    onnx.save(model, path)
    rewrite(path, read_manifest(artifact), artifact_sha256=sha256_file(path))
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])  # auto may compute in bf16, whose bound is wider
def test_a_wrong_engine_is_caught(
    backend: str, checkpoint: Path, artifact: Path, photographs: list[Path], tmp_path: Path
) -> None:
    wrong = wrong_engine(artifact, tmp_path)
    done = invoke(checkpoint, photographs, str(artifact), str(wrong), "--backend", backend)
    assert done.exit_code == 1, done.output
    rows = [line for line in done.stdout.splitlines() if artifact.name in line]
    assert "passed" in rows[0] and "MISSED" in rows[1]
    assert "the worst pictures" in done.stderr and ".jpg" in done.stderr


def test_the_bounds_are_options(checkpoint: Path, artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    wrong = str(wrong_engine(artifact, tmp_path))
    assert invoke(checkpoint, photographs, wrong, "--max-difference", "1e3", "--min-srcc", "-1").exit_code == 0
    assert invoke(checkpoint, photographs, wrong, "--max-difference", "1e3", "--min-srcc", "1.1").exit_code == 1
    assert invoke(checkpoint, photographs, str(artifact), "--max-difference", "0").exit_code == 1


def test_two_architectures_in_one_table(checkpoint: Path, photographs: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    other, output = tmp_path / "glintiqa.pt", tmp_path / "parity.json"
    tiny = {"backbone": "test_vit", "blocks": (4, 5), "frozen_blocks": 2, "cnn": "test_resnet", "crops": 2}
    save_checkpoint(create_model("glintiqa", **tiny), other)
    done = invoke(checkpoint, photographs, "--reference", str(other), str(other), str(checkpoint), "-o", str(output))
    assert done.exit_code == 0, done.output
    assert {item.subject.split()[0]: item.facts["largest"] for item in read_run(output).measurements} == {
        "model.pt": pytest.approx(0.0, abs=1e-3),
        "glintiqa.pt": pytest.approx(0.0, abs=1e-5),
    }
    refused = invoke(checkpoint, photographs, str(other))
    assert refused.exit_code == 2
    assert "a glintiqa, and" in refused.output and "name its own checkpoint with another --reference" in refused.output
