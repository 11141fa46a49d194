"""Two processes train what one does."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from glia.data import open_dataset
from glia.data.views import scoring_views
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


# Each process draws dropout's masks for itself, hence none.
MODELS: dict[str, dict[str, Any]] = {
    "glianet": {"backbone": "test_vit", "latent_dim": 16, "heads": 2, "dropout": 0.0},
    "glintiqa": {
        "backbone": "test_vit",
        "blocks": (4, 5),
        "frozen_blocks": 3,
        "cnn": "test_resnet",
        "crops": 1,
        "dropout": 0.0,
    },
}


RATES = {"glianet": 3e-3, "glintiqa": 3e-4}


def run(root: Path, out: Path, architecture: str) -> None:
    """Train for some steps, and without a test part; what torchrun starts twice."""
    if os.environ.get("RANK") == "1":
        vars(run_module)["load_backbone_weights"] = elsewhere
    config = small_run(root, epochs=4, learning_rate=RATES[architecture], batch_size=7, select="best", evaluate_every=2)
    config = replace(config, architecture=architecture, model=MODELS[architecture])
    train(config, out, None, False, Console(stderr=True))
    whole = replace(config, split="all", fit=replace(config.fit, epochs=1, select="last"))
    train(whole, out / "whole", None, False, Console(stderr=True))


@pytest.mark.parametrize("architecture", MODELS)
def test_two_processes_equal_one(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    root = write_rated(tmp_path / "rated", 20)
    run(root, tmp_path / "one", architecture)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, __file__, str(root), str(tmp_path / "two"), architecture]
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
    dataset = open_dataset("csv", root)
    each = [scoring_views(dataset[index], models[0].view_spec) for index in range(len(dataset))]
    views = [torch.stack(column) for column in zip(*each, strict=True)]
    with torch.no_grad():
        first, second = (model(*views) for model in models)
    # Not weight by weight: what the loss cannot see (a bias of the keys) moves by rounding alone, AdamW's steps being
    # of one size. Scores are of order 70 on a scale of 57.
    torch.testing.assert_close(second, first, rtol=0, atol=1e-2)
    assert first.std() > 0.1  # not the mean for everything


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
