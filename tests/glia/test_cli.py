"""The commands as typed: options reach the run, mistakes are one line and status 2."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from glia.cli import eval_app, train_app


def test_training_options_reach_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("glia.training.run.train", lambda *args: seen.append(args))
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
        (["--backbone", "test_vit", "--backbone-weights", "gone.pth"], "gone.pth"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, options: list[str], says: str) -> None:
    small = ["--pictures", "1", "--validation-pictures", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(train_app, [*small, *options])
    assert result.exit_code == 2
    assert says in result.stderr and "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("glia-train: ")


def test_evaluation_mistakes_are_one_line(tmp_path: Path) -> None:
    for options, says in (
        ([str(tmp_path / "gone.pt")], "gone.pt"),
        ([str(tmp_path / "gone.onnx"), "--photos", str(tmp_path)], "gone.onnx"),
    ):
        result = CliRunner().invoke(eval_app, options)
        assert result.exit_code == 2 and says in result.stderr
        assert result.stderr.count("\n") == 1 and result.stderr.startswith("glia-eval: ")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(eval_app, [str(tmp_path / "gone.pt"), "--debug"])
    assert result.exit_code == 2 and "Traceback" in result.stderr
