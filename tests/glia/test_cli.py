"""The commands as typed: options reach the run, mistakes are one line and status 2."""

from collections.abc import Sized
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glia.cli import train_app
from glia.evaluation.cli import app as eval_app


def test_training_options_reach_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("glia.training.run.train", lambda *args, **_: seen.append(args))
    command = ["--out", str(tmp_path / "run"), "--preset", "loda", "--no-glr", "--guidance", "detail", "--steps", "7"]
    result = CliRunner().invoke(train_app, [*command, "--backbone", "test_vit", "--heads", "2", "--resume"])
    assert result.exit_code == 0, result.output
    (config, out, cache, resume, _) = seen[0]
    assert (out, cache, resume) == (tmp_path / "run", None, True)
    assert config.model["latent_dim"] == 64 and config.model["up"] == "wide" and config.model["heads"] == 2
    assert config.model["glr"] is False and config.model["lgf"] is True and config.model["guidance"] == "detail"
    assert config.fit.steps == 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--backbone", "no_such_vit"], "no_such_vit"),
        (["--backbone", "resnet18"], "not a plain ViT"),
        (["--dataset", "nothing"], "known: "),
        (["--arch", "nothing"], "known: "),
        (["--backbone", "test_vit", "--heads", "5"], "multiple of heads"),
        (["--backbone", "test_vit", "--resume"], "no run to resume"),
        (["--arch", "adapter", "--preset", "loda"], "glianet's adapters"),
        (["--pretrain-backbone", "--arch", "vpt"], "not as vpt's"),
        (["--backbone", "test_vit", "--train-share", "0.2"], "for datasets of files"),
        (["--check"], "leave out --check"),
        (["--pretrain-backbone", "--loss", "l1", "--guidance", "detail"], "guidance, loss: of a model on top"),
        (["--pretrain-backbone", "--preset", "loda"], "latent_dim, heads, up: of a model on top"),
        (["--pretrain-backbone", "--token-drop", "0.5"], "token_drop: of a model on top"),
        (["--dataset", "csv", "--pictures", "8"], "pictures: for drawn pictures, not for csv"),
        (["--learning-rate", "-1"], "learning_rate must be"),
        (["--backbone", "test_vit", "--backbone-weights", "gone.pth"], "gone.pth"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: list[str], says: str) -> None:
    small = [] if "--dataset" in options else ["--pictures", "1", "--validation-pictures", "1"]
    result = CliRunner().invoke(train_app, ["--out", str(tmp_path / "run"), *small, *options])
    assert result.exit_code == 2
    assert says in result.stderr and "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("glia-train: ")


def test_evaluation_mistakes_are_one_line(tmp_path: Path) -> None:
    photos = ["bundled", "--photos", str(tmp_path)]
    for options, says in (
        (
            [*photos, "--dataset", "csv", "--split", "99", "--csv", "out.csv"],
            "--dataset, --split, --csv: not with --photos",
        ),
        (["bundled", "--processes", "2"], "--processes: only with --photos"),
        (["bundled", "--dataset", "csv", "--root", "x.csv", "--part", "train"], "by --split"),
        (["bundled", "--dataset", "csv", "--root", "x.csv", "--pictures", "4"], "csv has its own"),
        ([str(tmp_path / "gone.pt")], "gone.pt"),
        ([str(tmp_path / "gone.onnx"), "--photos", str(tmp_path)], "gone.onnx"),
    ):
        result = CliRunner().invoke(eval_app, options)
        assert result.exit_code == 2 and says in result.stderr
        assert result.stderr.count("\n") == 1 and result.stderr.startswith("glia-eval: ")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(eval_app, [str(tmp_path / "gone.pt"), "--debug"])
    assert result.exit_code == 2 and "Traceback" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        ["bundled", "--pictures", "1"],
        ["--pictures", "1", "bundled"],
        ["--pictures=1", "--debug", "--", "bundled"],
        ["model", "--pictures", "1", "bundled"],
    ],
)
def test_a_first_word_that_is_no_command_is_a_model(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("glia.evaluation.scoring.open_scorer", lambda name: seen.append(name))

    def evaluated(_: object, dataset: Sized, *__: object) -> list[object]:
        seen.append(len(dataset))
        return []

    monkeypatch.setattr("glia.evaluation.report.evaluate_dataset", evaluated)
    result = CliRunner().invoke(eval_app, line)
    assert (result.exit_code, seen) == (0, ["bundled", 6]), result.output


def test_evaluation_help_names_the_commands_and_says_what_a_model_alone_means() -> None:
    runner = CliRunner()
    for line in (["--help"], []):
        printed = runner.invoke(eval_app, line).output
        assert "MODEL|COMMAND" in printed and "\n  model " in printed and "names no command" in printed
    assert "--photos" in runner.invoke(eval_app, ["model", "--help"]).stdout
    assert "--photos" in runner.invoke(eval_app, ["any.pt", "--help"]).stdout
