"""What a run is started from, and what a resumed one must find again: the backbone's weights, the scores."""

import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from glia.cli import train_app
from glia.data import open_dataset
from glia.evaluation.cli import app as eval_app
from glia.evaluation.metrics import Agreement
from glia.evaluation.seen import seen_in_training
from glia.evaluation.table_runs import TableRuns, print_table, run_split
from glia.evaluation.tables import Experiment, experiments
from glia.models.backbone import create_backbone
from glia.training.distributed import Processes
from glia.training.record import write_record
from glia.training.run import train
from glia_runtime.errors import CheckpointError, UsageError
from tests.glia.rated import small_run, write_rated


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def save_weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    torch.save(create_backbone("test_vit", 224).state_dict(), path)
    return path


def test_a_recipe_is_not_run_with_a_random_backbone(rated: Path, tmp_path: Path) -> None:
    command = ["--config", "table1/koniq", "--dataset", "csv", "--root", str(rated), "--backbone", "test_vit"]
    small = ["--epochs", "1", "--views", "1", "--batch-size", "8", "--heads", "2", "--latent-dim", "16"]
    result = CliRunner().invoke(train_app, [*command, *small, "--out", str(tmp_path / "run")])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "timm's hub gave no weights" in result.stderr and "--backbone-weights FILE" in result.stderr
    assert not (tmp_path / "run" / "run.json").exists()
    weights = ["--backbone-weights", str(save_weights(tmp_path / "vit.pt", 0))]
    result = CliRunner().invoke(train_app, [*command, *small, *weights, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output


def test_nor_is_a_table_of_rated_pictures(rated: Path, tmp_path: Path) -> None:
    experiment = Experiment("row", "csv", "row", small_run(rated), "csv")
    with pytest.raises(CheckpointError, match="--backbone-weights FILE"):
        run_split(experiment, 0, {"csv": rated}, tmp_path, None, quiet())


def test_other_backbone_weights_are_not_resumed_with(rated: Path, tmp_path: Path) -> None:
    weights = save_weights(tmp_path / "vit.pt", 0)
    config = replace(small_run(rated), backbone_weights=str(weights))
    out = train(config, tmp_path / "run", None, False, quiet()).parent
    save_weights(weights, 1)
    with pytest.raises(UsageError, match=r"started from other backbone weights; .* weights from .*vit\.pt"):
        train(config, out, None, True, quiet())
    save_weights(weights, 0)
    assert train(config, out, None, True, quiet()).exists()
    record = json.loads((out / "run.json").read_text())
    del record["backbone"]  # as earlier versions left it
    (out / "run.json").write_text(json.dumps(record))
    assert train(config, out, None, True, quiet()).exists()


def test_scores_that_changed_are_not_resumed_with(rated: Path, tmp_path: Path) -> None:
    root = shutil.copytree(rated.parent, tmp_path / "pictures") / rated.name
    config = small_run(root)
    out = train(config, tmp_path / "run", None, False, quiet()).parent
    whole = root.read_text()
    root.write_text(whole.replace("100.0", "99.0"))
    with pytest.raises(UsageError, match="scores are not those it was started with"):
        train(config, out, None, True, quiet())
    record = json.loads((out / "run.json").read_text())
    del record["labels"]  # as earlier versions left it
    (out / "run.json").write_text(json.dumps(record))
    assert train(config, out, None, True, quiet()).exists()


def test_a_direction_is_given_once(rated: Path, tmp_path: Path) -> None:
    twice = replace(small_run(rated), lower_is_better=True, dataset_options={"higher_is_better": True})
    with pytest.raises(UsageError, match="leave out one of them"):
        train(twice, tmp_path / "run", None, False, quiet())


def test_a_dataset_may_move(rated: Path, tmp_path: Path) -> None:
    before = shutil.copytree(rated.parent, tmp_path / "before") / rated.name
    out = train(small_run(before), tmp_path / "run", None, False, quiet()).parent
    after = before.parent.rename(tmp_path / "after") / rated.name
    assert train(small_run(after), out, None, True, quiet()).exists()
    record = json.loads((out / "run.json").read_text())
    del record["labels"]  # an earlier version's: nothing but the root says that it is the same dataset
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="another root"):
        train(small_run(after), out, None, True, quiet())


def test_a_kept_table_holds_what_earlier_calls_finished(tmp_path: Path) -> None:
    runs = TableRuns(tmp_path)
    paid = Agreement(pictures=10, srcc=0.9, plcc=0.7, krcc=0.0, plcc_fitted=0.91, rmse_fitted=1.0)
    rows = {experiment.row: runs.prepare(experiment) for experiment in experiments(4) if experiment.column == "koniq"}
    bf16 = replace(rows["GLR"].config, fit=replace(rows["GLR"].config.fit, precision="bf16"))
    for experiment, split in ((rows["LGF"], 1), (rows["LGF"], 0), (replace(rows["GLR"], config=bf16), 0)):
        folder = tmp_path / experiment.name / f"split-{split}"
        folder.mkdir(parents=True)
        config = json.loads(json.dumps(asdict(replace(experiment.split(split), root="/where/it/was"))))
        config["fit"].pop("workers")
        write_record(folder, config, {}, Processes.join(), labels="of these pictures")
        figures = replace(paid, srcc=0.9 - split / 10)
        (folder / "tested-koniq.json").write_text(json.dumps(asdict(figures)))
    (tmp_path / rows["LGF"].name / "split-0.bak").mkdir()  # somebody's, and nothing to stop at
    said = quiet()
    print_table(4, ("csiq",), (), runs, quiet(), said)
    table = (tmp_path / "table4.md").read_text()
    assert "| LGF | 0.961 0.969 | 0.937 0.947 |\n|   here, median | - | 0.850 0.910 |" in table
    assert table.count("here, splits") == 1 and "here, splits | - | 2 |" in table
    assert isinstance(said.file, io.StringIO)
    assert "GLR, koniq: left out of the table; " in said.file.getvalue() and "precision" in said.file.getvalue()


def test_evaluation_says_where_a_model_was_trained_on_what_it_scores(rated: Path, tmp_path: Path) -> None:
    model = str(train(replace(small_run(rated), split="1"), tmp_path / "run", None, False, quiet()))
    dataset = open_dataset("csv", rated)
    for tested in (None, "2"):
        line = seen_in_training(model, "csv", dataset, str(rated), tested)
        assert "trained on part of these pictures of csv (split 1)" in line and "--split 1" in line
    assert seen_in_training(model, "csv", dataset, str(rated), "1") == ""
    other = write_rated(tmp_path / "other", 15)
    assert seen_in_training(model, "csv", open_dataset("csv", other), str(other), None) == ""
    assert seen_in_training("bundled", "csv", dataset, str(rated), None) == ""
    command = [model, "--dataset", "csv", "--root", str(rated)]
    result = CliRunner().invoke(eval_app, command)
    assert result.exit_code == 0 and "trained on part of these pictures" in result.stderr
    assert "trained on" not in CliRunner().invoke(eval_app, [*command, "--split", "1"]).stderr
