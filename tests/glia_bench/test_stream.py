"""The pipeline's benchmarks run, and record what they print."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from glia_bench import memory, stream
from tests.glia_runtime import artifacts


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    artifacts.save_views(path)
    return path


def test_stream(model: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.full((300, 400, 3), 9, np.uint8)).save(images / "grey.jpg")
    app = typer.Typer()
    app.command()(stream.main)
    output = tmp_path / "result.json"
    options = ["--images", str(images), "--model", str(model), "--megapixels", "1", "--count", "9", "--repeats", "1"]
    result = CliRunner().invoke(app, [*options, "--output", str(output)])
    assert result.exit_code == 0, result.output
    stored = json.loads(output.read_text())
    assert stored["pictures"] == 9
    assert set(stored["median_pictures_per_second"]) == {"backend", "decode", "pillow", "stream", "draft"}
    assert stored["draft_largest_score_difference"] == pytest.approx(0, abs=1e-6)  # of a picture of one colour


def test_memory(model: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(memory.main)
    output = tmp_path / "result.json"
    result = CliRunner().invoke(app, ["--few", "100", "--many", "300", "--model", str(model), "--output", str(output)])
    assert result.exit_code == 0, result.output
    few, many = json.loads(output.read_text())["runs"]
    assert (few["pictures"], few["failed"]) == (100, 2)
    assert (many["pictures"], many["failed"]) == (300, 6)
    assert few["threads_left"] == few["handles_left"] == many["threads_left"] == many["handles_left"] == 0
