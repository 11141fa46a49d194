"""GlintIQA trains by the same command as GLIANet: its views, its weights and its authors' settings."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from glia.cli import train_app
from glia.models import create_model, load_checkpoint
from glia.training.fit import FitConfig, _schedule
from glia.training.recipes import NAMED, RECIPES
from glia.training.run import RunConfig, train
from tests.glia.test_training import quiet

TINY = {"backbone": "test_vit", "blocks": (4, 5), "frozen_blocks": 3, "cnn": "test_resnet", "crops": 2}


def test_trains_and_leaves_what_is_frozen_alone(tmp_path: Path) -> None:
    fit = FitConfig(steps=2, batch_size=6, learning_rate=1e-2, loss="l1")
    config = RunConfig("synthetic", "glintiqa", TINY, pictures=2, validation_pictures=2, fit=fit)
    model = load_checkpoint(train(config, tmp_path / "run", None, False, quiet()))
    assert model.architecture == "glintiqa"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["model"]["cnn"] == "test_resnet"
    torch.manual_seed(fit.seed)
    fresh = create_model("glintiqa", **TINY)
    start = fresh.state_dict()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, start[name])}
    assert changed <= {name for name, p in fresh.named_parameters() if p.requires_grad}
    parts = {"vit", "cnn", "embeddings", "local", "project", "stages", "hidden", "head"}
    assert {name.split(".")[0] for name in changed} == parts


def test_options_of_another_architecture_are_refused_in_one_line(tmp_path: Path) -> None:
    arguments = ["--arch", "glintiqa", "--latent-dim", "8", "--out", str(tmp_path), "--pictures", "1"]
    result = CliRunner().invoke(train_app, arguments)
    assert result.exit_code == 2
    assert "glintiqa has no config field latent_dim; its fields: backbone, blocks" in result.output


def test_the_authors_settings_have_a_name() -> None:
    datasets = [name.split("/")[1] for name in RECIPES if name.startswith("table1/")]
    expected = {f"glintiqa/{dataset}{suffix}" for dataset in datasets for suffix in ("", "-authors")}
    assert NAMED.keys() - RECIPES.keys() == expected
    plain, theirs = (NAMED[f"glintiqa/koniq{suffix}"].config.fit for suffix in ("", "-authors"))
    for fit in (plain, theirs):
        assert (fit.epochs, fit.batch_size, fit.learning_rate, fit.weight_decay) == (300, 32, 1e-5, 1e-5)
        assert (fit.loss, fit.views, fit.warm_up) == ("l1", 1, 0.0)
    assert (plain.select, theirs.select) == ("last", "best")
    rates = [_schedule(step, 600, theirs) for step in range(121)]
    assert rates[0] == rates[60] == rates[120] == 1.0
    assert rates[30] == rates[90] == pytest.approx(0.0)
    assert [_schedule(step, 600, plain) for step in (0, 300)] == pytest.approx([1.0, 0.5])
