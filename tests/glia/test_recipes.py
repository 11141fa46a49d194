"""The recipes are the paper's protocol, and the command line reaches each of them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from glia.cli import train_app
from glia.models.glianet import GLIANetConfig
from glia.training.recipes import RECIPES
from glia.training.run import RunConfig


def test_there_is_a_recipe_for_every_row_of_ours() -> None:
    tables = [name.split("/")[0] for name in RECIPES]
    assert {table: tables.count(table) for table in sorted(set(tables))} == {
        "table1": 8,
        "table2": 5,  # six cells: flive is trained once and tested twice
        "table3": 6,
        "table4": 6,
        "table5": 8,
        "table6": 12,  # LoDa's own row is not ours to train
    }
    for name, recipe in RECIPES.items():
        assert recipe.name == name and f"--config {name} " in recipe.command
        assert recipe.about and recipe.paper
        if recipe.config.architecture == "glianet":
            GLIANetConfig(**recipe.config.model)


def test_the_settings_are_lodas() -> None:
    views = {"live": 5, "livec": 5, "tid2013": 10, "kadid": 3, "koniq": 3, "spaq": 3, "flive": 1, "csiq": 5}
    for recipe in RECIPES.values():
        fit = recipe.config.fit
        assert (fit.epochs, fit.steps, fit.batch_size, fit.seed) == (10, 0, 128, 3407)
        assert (fit.weight_decay, fit.warm_up, fit.beta2) == (1e-2, 0.0, 0.999)
        assert fit.learning_rate == 3e-4 or recipe.config.architecture in ("linear-probe", "full-fine-tune")
        assert (fit.loss, fit.select, fit.precision) == ("correlation", "last", "fp32")
        assert fit.views == views[recipe.config.dataset]


def test_the_tables_differ_where_the_paper_does() -> None:
    config = {name: recipe.config for name, recipe in RECIPES.items()}
    assert config["table2/koniq"].split == "all" and RECIPES["table2/flive"].paper.keys() == {"koniq", "livec"}
    assert config["table3/livec-40"].train_share == 0.4
    assert (config["table4/csiq-lgf-only"].model["lgf"], config["table4/csiq-lgf-only"].model["glr"]) == (True, False)
    assert (config["table4/koniq-glr-only"].model["lgf"], config["table4/koniq-glr-only"].model["glr"]) == (False, True)
    mixed = config["table5/livec-detail-semantic"].model
    assert (mixed["guidance"], mixed["main"]) == ("detail", "semantic")
    assert RECIPES["table1/koniq"].paper_line == "koniq SRCC 0.940 PLCC 0.948"


def _chosen(monkeypatch: pytest.MonkeyPatch, *options: str) -> RunConfig:
    seen: list[RunConfig] = []
    monkeypatch.setattr("glia.training.run.train", lambda config, *_, **__: seen.append(config))
    result = CliRunner().invoke(train_app, ["--out", "run", *options])
    assert result.exit_code == 0, result.output
    return seen[0]


def test_a_named_config_is_the_recipe_and_options_override_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = _chosen(monkeypatch, "--config", "table4/koniq-lgf-only", "--root", str(tmp_path))
    recipe = RECIPES["table4/koniq-lgf-only"].config
    assert plain.root == str(tmp_path) and plain.model == recipe.model and plain.fit == recipe.fit
    changed = _chosen(
        monkeypatch,
        *("--config", "table4/koniq-lgf-only", "--epochs", "2", "--split", "7", "--precision", "bf16"),
        *("--backbone", "test_vit", "--cache-tokens", "--views", "1", "--seed", "0"),
    )
    assert (changed.fit.epochs, changed.fit.views, changed.fit.seed, changed.fit.precision) == (2, 1, 0, "bf16")
    assert changed.split == "7" and changed.cache_tokens and changed.fit.batch_size == 128
    assert changed.model["backbone"] == "test_vit" and changed.model["glr"] is False
    other = _chosen(monkeypatch, "--config", "table6/koniq-lora", "--backbone", "test_vit")
    assert (other.architecture, other.model["backbone"], other.model["rank"]) == ("lora", "test_vit", 8)
    wider = _chosen(monkeypatch, "--config", "table4/koniq-lgf-only", "--preset", "loda", "--heads", "2")
    assert wider.model == {**recipe.model, "latent_dim": 64, "heads": 2, "up": "wide"}
    stepped = _chosen(monkeypatch, "--config", "table1/live", "--steps", "9")
    assert (stepped.fit.steps, stepped.fit.epochs) == (9, 0)


def test_defaults_follow_the_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _chosen(monkeypatch)
    assert (drawn.dataset, drawn.fit.steps, drawn.fit.select, drawn.fit.evaluate_every) == (
        "synthetic",
        5000,
        "best",
        500,
    )
    own = _chosen(monkeypatch, "--dataset", "csv", "--root", "my.csv", "--lower-is-better")
    assert (own.fit.epochs, own.fit.steps, own.fit.select, own.fit.evaluate_every) == (30, 0, "last", 0)
    assert own.lower_is_better and own.model["latent_dim"] == 192


def test_the_list_of_configs_shows_them_all() -> None:
    printed = CliRunner().invoke(train_app, ["--list-configs"]).output
    assert all(f"{name}\n" in printed for name in RECIPES)
    assert "the paper: csiq SRCC 0.942 PLCC 0.951" in printed
    for options, says in (
        (["--config", "table9/x"], "--list-configs"),
        (["--steps", "1", "--epochs", "1"], "give one of them"),
    ):
        result = CliRunner().invoke(train_app, ["--out", "run", *options])
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
