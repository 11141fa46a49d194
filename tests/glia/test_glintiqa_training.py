"""GlintIQA trains by the same command as GLIANet: its views, its weights and its authors' settings."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from glia.cli import train_app
from glia.models import create_model, load_checkpoint
from glia.training.fit import FitConfig, _schedule, fit
from glia.training.recipes import NAMED, RECIPES
from glia.training.tasks import QualityTask
from tests.glia.test_training import NoiseLevels, quiet

TINY = {"backbone": "test_vit", "blocks": (4, 5), "frozen_blocks": 3, "cnn": "test_resnet", "crops": 1}


def test_learns_to_tell_noise_levels_apart_and_leaves_what_is_frozen_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("glintiqa", **TINY)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    task = QualityTask(model, NoiseLevels.scale, 3.0, 1.4, loss="l1")
    config = FitConfig(steps=10, batch_size=20, learning_rate=3e-3, evaluate_every=10)
    best = fit(task, NoiseLevels(), NoiseLevels(), config, tmp_path, quiet(), {})
    assert best["srcc"] > 0.8
    kept = load_checkpoint(tmp_path / "model.pt")
    assert kept.architecture == "glintiqa"
    changed = {name for name, p in kept.named_parameters() if not torch.equal(p, start[name])}
    assert changed <= {name for name, p in model.named_parameters() if p.requires_grad}
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
    for settings in (plain, theirs):
        assert (settings.epochs, settings.batch_size, settings.loss, settings.views) == (300, 32, "l1", 1)
        assert (settings.learning_rate, settings.weight_decay, settings.warm_up) == (1e-5, 1e-5, 0.0)
    assert (plain.select, theirs.select) == ("last", "best")
    rates = [_schedule(step, 600, theirs) for step in range(121)]
    assert rates[0] == rates[60] == rates[120] == 1.0
    assert rates[30] == rates[90] == pytest.approx(0.0)
    assert [_schedule(step, 600, plain) for step in (0, 300)] == pytest.approx([1.0, 0.5])
