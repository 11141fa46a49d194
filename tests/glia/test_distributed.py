"""Two processes train what one does."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from glia.models import load_checkpoint
from glia.training import run as run_module
from glia.training.run import train
from tests.glia.rated import small_run, write_rated

pytest.importorskip("accelerate")


def elsewhere(backbone: nn.Module, name: str, source: Path | None, *, random_will_do: bool) -> str:
    """Weights that the first process has not: as if it alone had reached timm's hub."""
    assert random_will_do  # nobody but the first one stops the run
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(0.5)
    return f"other weights of {name}, not of {source}"


def run(root: Path, out: Path) -> None:
    """Train for some steps, and without a test part; what torchrun starts twice."""
    if os.environ.get("RANK") == "1":
        vars(run_module)["load_backbone_weights"] = elsewhere
    config = small_run(root, epochs=4, learning_rate=3e-3, batch_size=7, select="best", evaluate_every=2)
    # Each process draws dropout's masks for itself.
    config = replace(config, model={**config.model, "dropout": 0.0})
    train(config, out, None, False, Console(stderr=True))
    whole = replace(config, split="all", fit=replace(config.fit, epochs=1, select="last"))
    train(whole, out / "whole", None, False, Console(stderr=True))


def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    root = write_rated(tmp_path / "rated", 20)
    run(root, tmp_path / "one")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, __file__, str(root), str(tmp_path / "two")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [list(csv.DictReader((tmp_path / name / "metrics.csv").read_text().splitlines())) for name in ("one", "two")]
    for one, two in zip(*rows, strict=True):
        assert one["step"] == two["step"]
        # The batch's loss, and the figures over all pictures, whoever held them; float32 sums in another order.
        for name in ("loss", "srcc", "plcc"):
            assert float(two[name]) == pytest.approx(float(one[name]), abs=1e-4), name
    assert "srcc" not in (tmp_path / "two" / "whole" / "metrics.csv").read_text()
    models = [load_checkpoint(tmp_path / name / "last.pt") for name in ("one", "two")]
    views = torch.randint(0, 256, (2, 8, 224, 224, 3), dtype=torch.uint8)
    with torch.no_grad():
        first, second = (model(*views) for model in models)
    # Not weight by weight: what the loss cannot see (a bias of the keys) moves by rounding alone, AdamW's steps being
    # of one size. Scores are of order 70 on a scale of 57.
    torch.testing.assert_close(second, first, rtol=0, atol=1e-2)
    assert first.std() > 0.1  # not the mean for everything


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
