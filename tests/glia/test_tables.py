"""The paper's tables: what each needs, runs that are not repeated and go on, and ours beside the paper's."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from glia.data import list_datasets, registry
from glia.evaluation.cli import app
from glia.evaluation.metrics import Agreement
from glia.evaluation.paper import OURS, PAPER
from glia.evaluation.table_report import as_markdown, write_table
from glia.evaluation.table_runs import FOLDERS, TableRuns, find_datasets, print_table, run_split
from glia.evaluation.tables import Experiment, experiments, quick, synthetic_experiments
from glia.models import load_checkpoint
from glia_runtime.errors import DatasetError, MissingExtraError, UsageError


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small pictures, the noisier the worse, as a csv dataset."""
    folder = tmp_path_factory.mktemp("ratings")
    rng = np.random.default_rng(0)
    rows = ["path,score"]
    for index in range(12):
        noise = rng.normal(0, 5 * index, (64, 80, 3))
        Image.fromarray((128 + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{12 - index}")
    (folder / "ratings.csv").write_text("\n".join(rows))
    return folder / "ratings.csv"


def quiet() -> Console:
    return Console(file=io.StringIO())


def small(experiment: Experiment, steps: int = 1) -> Experiment:
    """The experiment on a csv dataset, a step or two of the smallest ViT."""
    made = quick(experiment)
    fit = replace(made.config.fit, steps=steps, batch_size=3, evaluate_every=1)
    return replace(made, config=replace(made.config, dataset="csv", fit=fit), tested="csv")


def of(table: int, row: str, column: str) -> Experiment:
    (found,) = (e for e in experiments(table) if (e.row, e.column) == (row, column))
    return found


def test_the_cells_to_fill_are_ours_and_those_of_the_rivals_in_table_6() -> None:
    ours = {
        1: [OURS],
        2: [OURS],
        3: [f"{percent}% {OURS}" for percent in (20, 40, 60)],
        4: list(PAPER[4].rows),
        5: list(PAPER[5].rows),
        6: [row for row in PAPER[6].rows if row != "LoDa"],
    }
    for number, rows in ours.items():
        cells = {(row, column) for row in rows for column in PAPER[number].columns}
        assert {(e.row, e.column) for e in experiments(number)} == cells
        assert len(experiments(number)) == len(cells)


def test_what_a_cell_trains_and_tests() -> None:
    assert of(4, "GLR", "csiq").config.model["lgf"] is False and of(4, "LGF", "csiq").config.model["glr"] is False
    guided = of(5, "x_d guides x_s", "livec").config.model
    assert (guided["guidance"], guided["main"]) == ("detail", "semantic")
    crossed = of(2, OURS, "flive to livec")
    assert (crossed.config.dataset, crossed.tested, crossed.config.split) == ("flive", "livec", "all")
    assert of(3, f"20% {OURS}", "koniq").config.train_share == 0.2
    assert of(6, "VPT", "kadid").config.architecture == "vpt"
    assert of(1, OURS, "koniq").config.fit.select == "last"


def test_cells_that_train_the_same_share_their_runs() -> None:
    whole = of(1, OURS, "koniq")
    for other in (of(4, "GLR and LGF", "koniq"), of(5, "x_s guides x_d", "koniq"), of(6, OURS, "koniq")):
        assert (other.name, other.config) == (whole.name, whole.config)
    names = [e.name for number in PAPER for e in experiments(number)]
    configs = [str(e.config) for number in PAPER for e in experiments(number)]
    assert len(set(names)) == len(set(configs))


def test_the_next_split_is_another_split_or_another_seed() -> None:
    assert of(1, OURS, "koniq").split(3).split == "3"
    crossed = of(2, OURS, "koniq to livec")
    assert crossed.split(3) == replace(
        crossed.config, fit=replace(crossed.config.fit, seed=crossed.config.fit.seed + 3)
    )
    drawn = synthetic_experiments(6)[0]
    assert [drawn.split(n).fit.seed for n in range(3)] == [drawn.config.fit.seed + n for n in range(3)]


def test_every_table_but_the_one_across_datasets_has_a_synthetic_column() -> None:
    for number in (1, 3, 4, 5, 6):
        drawn = synthetic_experiments(number)
        assert [e.row for e in drawn] == list(dict.fromkeys(e.row for e in experiments(number)))
        assert {e.tested for e in drawn} == {e.config.dataset for e in drawn} == {"synthetic"}
    shares = [e.config.pictures for e in synthetic_experiments(3)]
    whole = synthetic_experiments(1)[0].config.pictures
    assert shares == [whole / 4, whole / 2, whole * 3 / 4]  # 20, 40 and 60 % of all are these shares of 80 %
    with pytest.raises(UsageError, match="from one dataset to another"):
        synthetic_experiments(2)


def test_the_datasets_are_opened_and_found_by_their_usual_names(tmp_path: Path) -> None:
    needed = {name for table in PAPER.values() for column in table.columns for name in column.split(" to ")}
    assert needed == set(FOLDERS) <= set(list_datasets())
    for name in ("LIVE", "KonIQ-10k", "kadid10k", "ChallengeDB_release", "TID2013", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "csiq").write_text("a file")
    found = {name: path.name for name, path in find_datasets(tmp_path).items()}
    assert found == {
        "live": "LIVE",
        "koniq": "KonIQ-10k",
        "kadid": "kadid10k",
        "livec": "ChallengeDB_release",
        "tid2013": "TID2013",
    }
    others = {"LIVE_Challenge": "livec", "LIVE In the Wild": "livec", "FLIVE_Database": "flive"}
    for index, (called, name) in enumerate({**others, "koniq10k_1024x768": "koniq"}.items()):
        (tmp_path / str(index) / called).mkdir(parents=True)
        assert find_datasets(tmp_path / str(index)) == {name: tmp_path / str(index) / called}
    with pytest.raises(UsageError, match="no such folder"):
        find_datasets(tmp_path / "gone")


def test_tokens_are_kept_for_the_rows_whose_model_has_them(tmp_path: Path) -> None:
    runs = TableRuns(tmp_path, cache_tokens=True, compile=True)
    chosen = {(n, e.row): runs.prepare(e).config for n in (4, 5, 6) for e in experiments(n)}
    assert all(config.fit.compile for config in chosen.values())
    assert {row for (_, row), config in chosen.items() if config.cache_tokens} == {
        *PAPER[4].rows,
        *("x_s guides x_s", "x_s guides x_d"),
        OURS,
    }
    assert not runs.prepare(synthetic_experiments(1)[0]).config.cache_tokens  # drawn pictures have none


def test_tokens_are_shared_by_the_splits(ratings: Path, tmp_path: Path) -> None:
    experiment = small(of(1, OURS, "koniq"))
    experiment = replace(experiment, config=replace(experiment.config, cache_tokens=True))
    run_split(experiment, 0, {"csv": ratings}, tmp_path, None, quiet())
    assert list((tmp_path / "tokens").rglob("*.npy"))


ABLATIONS = {e.name: e for number in (4, 5, 6) for e in experiments(number) if e.column == "koniq"}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_row_of_the_ablations_trains(name: str, ratings: Path, tmp_path: Path) -> None:
    result = run_split(small(ABLATIONS[name]), 0, {"csv": ratings}, tmp_path, None, quiet())
    assert result.pictures == 2 and -1 <= result.srcc <= 1  # 20 % of twelve


def test_a_finished_split_is_not_repeated_and_a_stopped_one_goes_on(ratings: Path, tmp_path: Path) -> None:
    experiment, roots = small(of(1, OURS, "koniq"), steps=2), {"csv": ratings}
    first = run_split(experiment, 1, roots, tmp_path, None, quiet())
    folder = tmp_path / experiment.name / "split-1"
    assert json.loads((folder / "run.json").read_text())["config"]["split"] == "1"
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run_split(experiment, 1, roots, tmp_path, None, quiet()) == first
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps
    # as a kill between training and testing leaves it
    (folder / "tested-csv.json").unlink()
    assert run_split(experiment, 1, roots, tmp_path, None, quiet()) == first
    other = replace(
        experiment, config=replace(experiment.config, fit=replace(experiment.config.fit, learning_rate=1.0))
    )
    with pytest.raises(UsageError, match="another learning_rate"):
        run_split(other, 1, roots, tmp_path, None, quiet())


def test_a_finished_split_counts_where_its_scores_are_the_same(ratings: Path, tmp_path: Path) -> None:
    experiment = small(of(1, OURS, "koniq"), steps=2)
    before = shutil.copytree(ratings.parent, tmp_path / "before") / ratings.name
    first = run_split(experiment, 0, {"csv": before}, tmp_path, None, quiet())
    after = before.parent.rename(tmp_path / "after") / ratings.name
    assert run_split(experiment, 0, {"csv": after}, tmp_path, None, quiet()) == first
    head, row, *rest = after.read_text().splitlines()
    name, _, *more = row.split(",")
    after.write_text("\n".join((head, ",".join((name, "4.321", *more)), *rest)))
    with pytest.raises(UsageError, match="scores are not those it was started with"):
        run_split(experiment, 0, {"csv": after}, tmp_path, None, quiet())


def run_two_splits(root: Path, out: Path) -> list[Agreement]:
    """What is killed below."""
    experiment = small(of(1, OURS, "koniq"), steps=4)
    return [run_split(experiment, number, {"csv": root}, out, None, quiet()) for number in range(2)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_table_keeps_what_is_finished_and_goes_on_to_the_same_result(ratings: Path, tmp_path: Path) -> None:
    name = small(of(1, OURS, "koniq")).name
    whole, killed = (tmp_path / folder / name for folder in ("whole", "killed"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(ratings), str(tmp_path / "killed")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (killed / "split-1" / "run.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    _, said = process.communicate()
    tested = [(killed / f"split-{number}" / "tested-csv.json").exists() for number in range(2)]
    assert tested == [True, False], said.decode()
    stamps = {path: path.stat().st_mtime_ns for path in (killed / "split-0").iterdir()}
    # In this order: testing split 0 decides in how many threads split 1 is trained, and they decide the last bit.
    at_once, after = (run_two_splits(ratings, tmp_path / folder) for folder in ("whole", "killed"))
    assert {path: path.stat().st_mtime_ns for path in (killed / "split-0").iterdir()} == stamps
    assert after[1] == at_once[1]
    models = [load_checkpoint(path / "split-1" / "model.pt").state_dict() for path in (whole, killed)]
    for key, value in models[0].items():
        assert torch.equal(value, models[1][key]), key


def test_figures_without_every_picture_are_not_kept(
    ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._READERS, "other", registry._READERS["csv"])
    crossed = replace(small(of(2, OURS, "koniq to livec")), tested="other")
    shutil.copytree(ratings.parent, tmp_path / "ratings")
    roots = {"csv": ratings, "other": tmp_path / "ratings" / "ratings.csv"}
    (tmp_path / "ratings" / "3.png").write_text("no picture")
    spoken = quiet()
    with pytest.raises(DatasetError, match="1 of 12 pictures of ratings cannot be tested"):
        run_split(crossed, 0, roots, tmp_path, None, spoken)
    assert "3.png" in spoken.file.getvalue()  # type: ignore[attr-defined]
    shutil.copy(ratings.parent / "3.png", tmp_path / "ratings")
    assert run_split(crossed, 0, roots, tmp_path, None, quiet()).pictures == 12


def agreement(srcc: float, plcc: float) -> Agreement:
    return Agreement(pictures=10, srcc=srcc, plcc=0.7, krcc=0.0, plcc_fitted=plcc, rmse_fitted=1.0)


def test_ours_stands_below_the_papers_and_what_is_missing_is_a_dash(tmp_path: Path) -> None:
    found = {("LGF", "koniq"): [agreement(0.9, 0.91), agreement(0.8, 0.81), agreement(0.94, 0.95)]}
    lines = as_markdown("Table 4", PAPER[4], PAPER[4].columns, found).splitlines()
    assert lines[2:] == [
        "| SRCC PLCC | csiq | koniq |",
        "| --- | --- | --- |",
        "| GLR | 0.942 0.951 | 0.931 0.939 |",
        "| LGF | 0.961 0.969 | 0.937 0.947 |",
        "|   here, median | - | 0.900 0.910 |",
        "|   here, SRCC in 95 % | - | 0.800..0.940 |",  # of three, each has more than 5 % of the medians
        "|   here, PLCC in 95 % | - | 0.810..0.950 |",
        "|   here, mean | - | 0.880 0.890 |",
        "|   here, PLCC unfitted | - | 0.700 |",
        "|   here, splits | - | 3 |",
        "| GLR and LGF | 0.967 0.975 | 0.940 0.948 |",
    ]
    write_table(tmp_path / "table4", "Table 4", PAPER[4], (*PAPER[4].columns, "synthetic"), found)
    with (tmp_path / "table4.csv").open(newline="") as file:
        rows = {(r["row"], r["column"], r["figure"]): r for r in csv.DictReader(file)}
    assert len(rows) == 3 * 3 * 5
    filled = rows["LGF", "koniq", "SRCC"]
    assert (filled["paper"], filled["splits"], filled["median"]) == ("0.937", "3", "0.9")
    assert 0.8 <= float(filled["median_low"]) <= 0.9 <= float(filled["median_high"]) <= 0.94
    more = rows["LGF", "koniq", "PLCC unfitted"]
    assert (more["paper"], more["median"]) == ("", "0.7") and float(more["mean_low"]) == pytest.approx(0.7)
    empty = rows["LGF", "synthetic", "PLCC"]
    assert (empty["paper"], empty["splits"], empty["median"]) == ("", "0", "")
    once = as_markdown("Table 4", PAPER[4], PAPER[4].columns, {("LGF", "koniq"): [agreement(0.9, 0.91)]})
    assert "| 0.900 0.910 |" in once and "95 %" not in once  # one split has no interval
    # Table 2 prints no PLCC, and leaves cells out
    crossed = as_markdown("Table 2", PAPER[2], PAPER[2].columns, {})
    assert "| LoDa | 0.763 - | 0.805 - | 0.745 - | 0.811 - | - | - |" in crossed


def test_prints_the_papers_figures_and_says_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    out, progress = (Console(file=io.StringIO(), width=160) for _ in range(2))
    runs = TableRuns(tmp_path / "runs", data=tmp_path / "data")
    print_table(2, ("csiq",), (), runs, out, progress)
    said = progress.file.getvalue()  # type: ignore[attr-defined]
    assert "csiq: not found under" in said and "live: not found under" in said and "koniq" not in said
    assert "databaserelease2" in said
    assert "0.953" in out.file.getvalue()  # type: ignore[attr-defined]
    assert not (tmp_path / "runs").exists()


def test_a_package_that_is_not_installed_is_missed_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # `import peft` raises
    runs = TableRuns(tmp_path / "runs", quick=True)
    with pytest.raises(MissingExtraError, match=r"glia\[tune\]"):
        print_table(6, ("synthetic",), ("Linear probe", "Lora"), runs, quiet(), quiet())
    assert not runs.out.exists()


def test_a_path_that_looks_like_markup_is_printed_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "[bold]" / "[" / "a]"
    data.mkdir(parents=True)
    result = CliRunner().invoke(app, ["table2", "--dataset", "csiq", "--data", str(data)])
    assert result.exit_code == 0 and f"csiq: not found under {data}, as csiq" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table4", "--dataset", "live"], "table 4 has no column of 'live'; it has csiq, koniq, and synthetic"),
        (["table6", "--row", "LoDa"], "table 6 has no row 'LoDa' to run; it has Linear probe"),
        (["table1", "--data", "nowhere"], "nowhere: no such folder"),
        (["table2", "--dataset", "synthetic"], "table 2 goes from one dataset to another"),
        (["table4", "--quick", "--precision", "bf16"], "leave out --precision"),
        (["table4", "--quick", "--cache-tokens"], "leave out --precision, --cache-tokens"),
        (["table4", "--quick", "--backbone-weights", "vit.pth"], "and --backbone-weights"),
    ],
)
def test_wrong_options_are_said_on_one_line(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert says in result.stderr and result.stderr.count("\n") == 1


def test_help_names_every_table() -> None:
    listed = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f"table{number}" in listed for number in PAPER)


if __name__ == "__main__":
    run_two_splits(Path(sys.argv[1]), Path(sys.argv[2]))
