"""The benchmark of the backends runs, on a model that is quickly made, and its figures fit together."""

import json
from pathlib import Path

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from glia.models import create_model, save_checkpoint
from glia_bench import backends
from glia_runtime.backends.base import usable_cpus


def test_measures_and_records(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(backends.main)
    output = tmp_path / "result.json"
    checkpoint = tmp_path / "probe.pt"
    torch.manual_seed(0)
    save_checkpoint(create_model("linear-probe", backbone="test_vit"), checkpoint)  # PyTorch compiles it soonest
    arguments = [str(checkpoint), "--batch", "2", "--runs", "1", "--images", "images", "--output", str(output)]
    threads = torch.get_num_threads()
    try:
        result = CliRunner().invoke(app, arguments)
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    stored = json.loads(output.read_text())
    assert stored["machine"]["threads"] == usable_cpus()
    rows = stored["backends"]
    assert {"eager PyTorch", "onnxruntime", "openvino", "torchscript"} <= set(rows)
    assert rows["eager PyTorch"]["times_eager"] == 1
    for name, row in rows.items():
        assert name in result.output and len(row["seconds"]) == 1
        assert row["pictures_per_second"] == pytest.approx(2 / row["seconds"][0])
        assert row["gflops"] == pytest.approx(row["pictures_per_second"] * stored["model"]["flops_per_picture"] * 1e-9)
        if name != "eager PyTorch":
            assert row["parity"]["images"] == 8
            # Of random weights bf16 may lose the order; the benchmark shows that, and times it all the same.
            assert row["parity"]["passed"] or name == "openvino:bf16"
    assert all(rate > 0 for rates in stored["matrix_peaks_gflops"].values() for rate in rates.values())


def test_counts_operations() -> None:
    """Of a transformer's products, two for each weight and token, and of its attention."""
    model = create_model("glianet", backbone="test_vit", latent_dim=8, heads=2).eval()
    vit = model.get_submodule("backbone")
    layers = [module for name, module in vit.named_modules() if isinstance(module, nn.Linear) and "blocks" in name]
    tokens, dim = 14 * 14 + 1, layers[0].in_features
    depth = len({name.split(".")[1] for name, _ in vit.named_parameters() if name.startswith("blocks.")})
    linear = 2 * tokens * sum(layer.in_features * layer.out_features for layer in layers)
    attention = depth * 2 * 2 * tokens * tokens * dim
    patches = 2 * 14 * 14 * (3 * 16 * 16) * dim
    both_streams = 2 * (linear + attention + patches)
    # The adapters, made thin here, and the head come on top.
    assert both_streams < backends.flops_of(model) < 1.5 * both_streams
