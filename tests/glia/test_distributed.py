"""Two processes train what one does."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glia.models import load_checkpoint

from .rated import write_rated

pytest.importorskip("accelerate")

# Dropout is left out: each process draws masks of its own.
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
import huggingface_hub.constants
from rich.console import Console
from glia.training.run import train
from tests.glia.rated import small_run

huggingface_hub.constants.HF_HUB_OFFLINE = True
config = small_run(Path(sys.argv[1]), batch_size=7, select="best", evaluate_every=2, loss=sys.argv[3])
config = replace(config, model={**config.model, "dropout": 0.0})
train(config, Path(sys.argv[2]), None, False, Console(stderr=True))
"""


def test_two_processes_equal_one(tmp_path: Path) -> None:
    root = write_rated(tmp_path / "rated", 20)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for name, command in (
        ("one", [sys.executable]),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]),
    ):
        arguments = [str(script), str(root), str(tmp_path / name), "correlation"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("one", "two"))
    assert two["training"]["step"] == 4
    first = load_checkpoint(tmp_path / "one" / "model.pt")
    for name, tensor in one["state_dict"].items():
        # 1e-5: sums of float32 in another order, through four steps of 3e-4
        torch.testing.assert_close(two["state_dict"][name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert first.num_trainable() > 0
    assert (tmp_path / "two" / "metrics.csv").read_text().count("\n") == 3
