"""The benchmarks for GPUs run on the CPU at tiny sizes; on a GPU they hold the aims, as far as those are not timed."""

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from glia.models import create_model
from glia_bench import gpu_model, gpu_operator
from glia_bench.device import copy_bandwidth, matrix_peak, seconds

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine")


def test_operator_on_the_cpu() -> None:
    result = gpu_operator.measure("cpu", 2, {"small": (230, 301)}, 1)
    row = result["operator"]["small"]
    # Each byte once, and two views of float16.
    assert row["bytes"] == 2 * 230 * 301 * 3 + 2 * 2 * 3 * 224 * 224 * 2
    assert row["share_of_floor"] == pytest.approx(row["floor_seconds"] / row["seconds"])
    # Both forms make the same views, but for PyTorch's resize, which does not clamp between its passes: 20 grey levels
    # of 1/57 on noise. Another picture or another flip would differ by a hundred.
    assert row["largest_difference"]["semantic"] < 20 / 57 and row["largest_difference"]["detail"] < 5e-3
    assert result["machine"]["device"] == "cpu" and result["launch_latency_seconds"] > 0


def test_the_model_on_the_cpu() -> None:
    torch.manual_seed(0)
    model = create_model("glianet", backbone="test_vit").eval()
    result = gpu_model.measure(model, "cpu", (1, 2), ("eager fp32", "eager fp16", "torchscript fp16"), 1)
    rows = result["forms"]
    assert list(rows) == ["eager fp32", "eager fp16", "torchscript fp16"]
    assert rows["eager fp32"]["largest_difference"] == 0
    # The parity bound of fp16, of a scale of 0 to 1.
    assert all(0 <= row["largest_difference"] <= 1e-2 for row in rows.values())
    for row in rows.values():
        figures = row["batch 2"]
        expected = figures["pictures_per_second"] * result["flop_per_picture"] / result["matrix_peak_flops"]
        assert figures["share_of_peak"] == pytest.approx(expected)
    # Of the products alone: both views pass the backbone's blocks once.
    blocks = model.get_submodule("backbone.blocks")
    weights = sum(parameter.numel() for parameter in blocks.parameters() if parameter.dim() == 2)
    assert result["flop_per_picture"] > 2 * 2 * 197 * weights


def test_the_yardsticks_measure() -> None:
    assert copy_bandwidth("cpu", 1 << 20) > 0 and matrix_peak("cpu", torch.float32, 64) > 0
    calls = []
    seconds(lambda: calls.append(1), "cpu", 5)
    assert len(calls) == 8


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("module", [gpu_operator, gpu_model])
def test_the_commands_on_a_gpu(module: object, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(module.main)  # type: ignore[attr-defined]
    done = CliRunner().invoke(app, ["--repeats", "2", "--output", str(tmp_path / "result.json")])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["machine"]["gpu"]
    for row in result.get("forms", {}).values():
        assert row["largest_difference"] <= 1e-2 * result["score_range"]
