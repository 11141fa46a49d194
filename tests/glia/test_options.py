"""Options of readers and architectures as the commands take them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from glia.cli import train_app
from glia.data.registry import option_types
from glia.evaluation.cli import app as eval_app
from glia.models.registry import config_types
from glia.options import read_options
from glia.training.run import RunConfig
from glia_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("owner", "texts", "expected"),
    [
        ("koniq", ["column=MOS_zscore"], {"column": "MOS_zscore"}),
        ("csv", ["minimum=1", "maximum=none"], {"minimum": 1.0, "maximum": None}),
        ("hf", ["image=picture", "higher_is_better=false"], {"image": "picture", "higher_is_better": False}),
        (
            "glintiqa",
            ["crops=3", "blocks=2, 3", "dropout=0.25", "cnn=resnet18"],
            {"crops": 3, "blocks": (2, 3), "dropout": 0.25, "cnn": "resnet18"},
        ),
        ("glianet", ["residual=replace", "lgf=no"], {"residual": "replace", "lgf": False}),
        ("lora", ["rank=4", "rank=16"], {"rank": 16}),
    ],
)
def test_values_are_of_the_types_of_their_fields(owner: str, texts: list[str], expected: dict[str, object]) -> None:
    types = option_types(owner) if owner in ("koniq", "csv", "hf") else config_types(owner)
    found = read_options(owner, texts, types)
    assert found == expected and [type(v) for v in found.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rank", "'rank': write an option of lora as KEY=VALUE"),
        ("rang=4", "lora has no option rang; known: backbone, view, dropout, rank"),
        ("rank=4.5", "rank of lora must be a whole number, not '4.5'"),
        ("alpha=x", "alpha of lora must be a number, not 'x'"),
        ("merged=maybe", "merged of lora must be true or false, not 'maybe'"),
        ("view=both", "view of lora must be one of semantic, detail, not 'both'"),
    ],
)
def test_what_cannot_be_is_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_options("lora", [text], config_types("lora"))


def test_they_reach_the_run_and_the_evaluation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[RunConfig] = []
    monkeypatch.setattr("glia.training.run.train", lambda config, *_, **__: seen.append(config))
    line = ["--out", "run", "--dataset", "csv", "--root", "my.csv", "--dataset-option", "minimum=0"]
    model = ["--arch", "lora", "--model-option", "rank=4", "--model-option", "alpha=8"]
    result = CliRunner().invoke(train_app, [*line, *model])
    assert result.exit_code == 0, result.output
    assert seen[0].dataset_options == {"minimum": 0.0}
    assert (seen[0].model["rank"], seen[0].model["alpha"]) == (4, 8.0)
    recipe = ["--out", "run", "--config", "table6/koniq-lora", "--model-option", "rank=2"]
    assert CliRunner().invoke(train_app, recipe).exit_code == 0 and seen[1].model["rank"] == 2
    (tmp_path / "my.csv").write_text("path,score\nx.png,3\n")
    (tmp_path / "x.png").write_bytes(b"")
    tested = ["bundled", "--dataset", "csv", "--root", str(tmp_path / "my.csv"), "--dataset-option"]
    for option, says in (("minimum=5", "5"), ("scale=5", "no option scale"), ("minimum=nan", "a finite number")):
        result = CliRunner().invoke(eval_app, [*tested, option])
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
    result = CliRunner().invoke(eval_app, [*tested, "higher_is_better=true", "--lower-is-better"])
    assert result.exit_code == 2 and "leave out one of them" in result.stderr
    for application, options in ((train_app, ["--out", "run"]), (eval_app, ["bundled"])):
        result = CliRunner().invoke(application, [*options, "--dataset-option", "column=MOS"])
        assert result.exit_code == 2 and "not for synthetic" in result.stderr
