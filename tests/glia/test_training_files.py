"""Training on rated files: splits, what is kept, what is said of bad pictures, and the folder that a run leaves."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from glia.cli import train_app
from glia.data import ListedDataset, Sample, Subset, make_splits, open_dataset, registry
from glia.models import create_model, load_checkpoint
from glia.training.fit import FitConfig, fit
from glia.training.log import Log, progress
from glia.training.run import split_dataset, train
from glia.training.tasks import QualityTask
from glia_runtime.errors import GliaError, MissingExtraError, UsageError
from glia_runtime.manifest import ScoreScale
from tests.glia.rated import small_run

TINY = ["--backbone", "test_vit", "--latent-dim", "16", "--heads", "2"]


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_csv_is_trained_on_and_the_last_step_kept(rated: Path, tmp_path: Path) -> None:
    spoken = console()
    made = train(small_run(rated, views=2), tmp_path / "run", None, False, spoken)
    assert sorted(path.name for path in made.parent.iterdir()) == ["metrics.csv", "model.pt", "resume.pt", "run.json"]
    with (made.parent / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    # 16 of 20 pictures, twice an epoch, in batches of 8
    assert [(float(row["step"]), float(row["epoch"])) for row in rows] == [(4, 1), (8, 2)]
    model = load_checkpoint(made)
    assert model.score_scale == ScoreScale(43.0, 100.0, True, "rated")
    facts = torch.load(made, weights_only=True)["training"]
    assert facts["step"] == 8 and facts["selected"] == "last step"
    assert f"SRCC {facts['srcc']:.4f}" in said(spoken) and "last step 8" in said(spoken)
    assert "left 0:00:00" in said(spoken)


def test_the_folder_says_what_was_trained_on_what_by_what(rated: Path, tmp_path: Path) -> None:
    out = train(small_run(rated), tmp_path / "run", None, False, console()).parent
    record = json.loads((out / "run.json").read_text())
    dataset = open_dataset("csv", rated)
    (split,) = make_splits(dataset, 1)
    assert record["split"]["test"] == [str(dataset[index].path) for index in split.test]
    assert len(record["split"]["train"]) == 16 and not set(record["split"]["train"]) & set(record["split"]["test"])
    assert record["config"]["fit"]["epochs"] == 2 and record["versions"]["torch"] == version("torch")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if head.returncode == 0:  # tests may run from a release without history
        assert record["commit"].removesuffix("-dirty") == head.stdout.strip()
    assert record["machine"]["processes"] == 1 and record["started"].endswith("+00:00")


def test_the_best_evaluation_is_kept_when_asked_for_and_called_too_good(rated: Path, tmp_path: Path) -> None:
    spoken = console()
    out = train(small_run(rated, select="best", evaluate_every=1), tmp_path / "run", None, False, spoken).parent
    with (out / "metrics.csv").open() as file:
        figures = [float(row["srcc"]) for row in csv.DictReader(file)]
    assert len(figures) == 4 and (out / "last.pt").exists()
    best, last = (torch.load(out / name, weights_only=True)["training"] for name in ("model.pt", "last.pt"))
    assert best["srcc"] == max(figures) and best["selected"] == "best SRCC of those evaluated"
    assert last["selected"] == "last step"
    assert "too good" in said(spoken)


def test_every_picture_may_be_trained_on(rated: Path, tmp_path: Path) -> None:
    config = replace(small_run(rated), split="all")
    spoken = console()
    out = train(config, tmp_path / "run", None, False, spoken).parent
    assert "20 training samples" in said(spoken) and "tested on none" in said(spoken)
    assert "srcc" not in (out / "metrics.csv").read_text()
    with pytest.raises(UsageError, match="--select last"):
        train(replace(config, fit=replace(config.fit, select="best")), tmp_path / "best", None, False, console())


def test_smaller_shares_are_parts_of_larger_ones_and_share_the_test_part(rated: Path) -> None:
    dataset = open_dataset("csv", rated)
    whole = split_dataset(dataset, "3")
    assert whole == make_splits(dataset, 4)[3]
    parts = [split_dataset(dataset, "3", share) for share in (0.2, 0.4, 0.6)]
    assert [len(part.train) for part in parts] == [4, 8, 12]
    assert all(part.test == whole.test for part in parts)
    assert set(parts[0].train) < set(parts[1].train) < set(parts[2].train) < set(whole.train)
    for split, share, says in (
        ("0", 0.9, "at most 0.8"),
        ("first", 0.8, "not 'first'"),
        ("official", 0.8, "no official"),
        ("official", 0.2, "not of 'official'"),
        ("all", 0.2, "not of 'all'"),
    ):
        with pytest.raises(UsageError, match=says):
            split_dataset(dataset, split, share)


def test_steps_or_epochs_and_known_choices_only() -> None:
    for options, says in (
        ({}, "either steps or epochs"),
        ({"steps": 1, "epochs": 1}, "either steps or epochs"),
        ({"steps": 1, "loss": "mse"}, "correlation"),
        ({"steps": 1, "precision": "int8"}, "bf16"),
        ({"steps": -5, "epochs": 3}, "steps must be at least 0"),
        ({"steps": 1, "batch_size": 0}, "batch_size must be at least 1"),
        ({"steps": 1, "learning_rate": -1.0}, "learning_rate must be 0 or more"),
        ({"steps": 1, "weight_decay": np.inf}, "weight_decay must be 0 or more, and finite"),
        ({"steps": 1, "warm_up": np.nan}, "warm_up in"),
    ):
        with pytest.raises(UsageError, match=says):
            FitConfig(**options)


def test_the_scale_that_a_correlation_leaves_open_is_learnt() -> None:
    task = QualityTask(create_model(backbone="test_vit"), ScoreScale(0, 100, True, "any"), 50.0, 10.0, "correlation")
    predicted = torch.randn(200, generator=torch.Generator().manual_seed(0))
    task.calibrate(predicted, 3 * predicted - 1)
    scores = predicted * task.module.score_std + task.module.score_mean
    torch.testing.assert_close(scores, 50 + 10 * (3 * predicted - 1))
    task.calibrate(predicted, -predicted)  # nothing learnt: the scores must not be turned round
    assert task.module.score_std == pytest.approx(30)


def test_the_scale_is_learnt_from_an_epoch_however_often_a_run_is_evaluated(
    rated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(QualityTask, "calibrate", lambda _, predicted, target: seen.append(len(predicted)))
    config = small_run(rated, loss="correlation", evaluate_every=1)
    out = train(config, tmp_path / "run", None, False, console()).parent
    assert seen == [8, 16, 16, 16]  # 16 pictures an epoch
    state = torch.load(out / "resume.pt", weights_only=True)
    assert state.pop("seen").shape == (2, 16)
    torch.save({**state, "step": 3}, out / "resume.pt")  # as an earlier version left it, a step before the end
    train(config, out, None, True, console())
    assert seen[4:] == [8]


def test_a_loss_that_is_not_finite_names_its_pictures(rated: Path, tmp_path: Path) -> None:
    whole = open_dataset("csv", rated)

    class OneBad(Subset):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return replace(sample, score=np.nan) if index == 5 else sample

    task = QualityTask(create_model(backbone="test_vit", latent_dim=16, heads=2), whole.scale, 0.0, 1.0)
    config = replace(small_run(rated).fit, batch_size=20)
    with pytest.raises(GliaError, match=rf"nan at step 0, .* for {whole[5].path}; look at them; start anew with"):
        fit(task, OneBad(whole, range(20)), Subset(whole, ()), config, tmp_path, console(), {})
    with torch.no_grad():
        task.module.get_parameter("head.bias").fill_(torch.inf)
    with pytest.raises(GliaError, match=r"png and 12 more"):
        fit(task, whole, Subset(whole, ()), config, tmp_path, console(), {})
    assert not list(tmp_path.glob("*.pt"))


def test_bad_pictures_are_named_by_line_before_anything_is_trained(rated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(rated.parent, folder)
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:200])
    (folder / "7.png").write_text("no picture")
    command = [
        "--dataset",
        "csv",
        "--root",
        str(folder / "rated.csv"),
        "--out",
        str(tmp_path / "run"),
        "--check",
        *TINY,
    ]
    result = CliRunner().invoke(train_app, command)
    assert result.exit_code == 2 and not (tmp_path / "run" / "run.json").exists()
    first, second, last = result.stderr.splitlines()
    # the first picture is on line 2
    assert first.startswith(f"line 5: {folder / '3.png'}: ") and second.startswith(f"line 9: {folder / '7.png'}: ")
    assert last.startswith("glia-train: 2 of 20 pictures")


class Unread(ListedDataset):
    """Two pictures that nobody may ask for."""

    def __getitem__(self, index: int) -> Sample:
        raise AssertionError("looked at before what can be refused at once was")


def open_unread(root: Path) -> Unread:
    return Unread("unread", ScoreScale(0, 1, True, "unread"), [Sample(root, score, str(score)) for score in (0.0, 1.0)])


def test_what_can_be_refused_at_once_is_before_any_picture_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._READERS, "unread", (__name__, "open_unread"))
    config = replace(small_run(tmp_path, select="best"), dataset="unread", split="all")
    with pytest.raises(UsageError, match="--select last"):
        train(config, tmp_path / "run", None, False, console(), check=True)


def test_rows_from_before_a_kill_are_dropped_and_repeated(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n2,0.5\n4,0.4\n6,0")
    Log(tmp_path, console(), 2, tensorboard=False).append({"step": 4, "loss": 0.4}, 3600)
    assert (tmp_path / "metrics.csv").read_text().split() == ["step,loss", "2,0.5", "4,0.4"]


def test_a_log_follows_the_steps(rated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glia.training.log._PAUSE", 0.0)
    spoken = console()
    train(small_run(rated, views=2), tmp_path / "run", None, False, spoken)
    shape = r"^step (\d) of 8  loss -?[\d.]+(  SRCC -?[\d.]+)?  [\d.]+ samples/s  left 0:\d\d:\d\d$"
    found = re.findall(shape, said(spoken), re.MULTILINE)
    # evaluated after steps 4 and 8
    assert [(number, bool(srcc)) for number, srcc in found] == [(str(step), step > 4) for step in range(1, 9)]


@pytest.mark.parametrize(("pause", "total", "lines"), [(0.0, 1000, 100), (0.0, 5, 5), (3600.0, 1000, 0)])
def test_a_log_is_not_flooded(pause: float, total: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glia.training.log._PAUSE", pause)
    spoken = console()
    with progress(spoken, "checking", total) as advance:
        for _ in range(total):
            advance()
    assert said(spoken).count("\n") == lines


def test_a_terminal_shows_where_a_run_is() -> None:
    spoken = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with progress(spoken, "step", 4, 1) as advance:
        advance("loss 0.500")
    assert re.search(r"step \S+ +2/4 .*loss 0\.500", said(spoken))


def test_curves_for_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path, console(), 0, tensorboard=True)
    log.append({"step": 2, "loss": 0.5}, 1)
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 0.5)]
    again = Log(tmp_path, console(), 2, tensorboard=True)  # resumed after step 2
    again.append({"step": 4, "loss": 0.25}, 1)
    again.close()
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 0.5), (4, 0.25)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"glia\[tensorboard\]"):
        Log(tmp_path, console(), 0, tensorboard=True)


def test_compiled_steps_train_the_same(rated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    real = torch.compile

    def trace_only(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        compiled.append(function)
        return real(function, backend="eager")  # the C++ that inductor writes takes a minute to build

    monkeypatch.setattr(torch, "compile", trace_only)
    plain, traced = (
        load_checkpoint(train(small_run(rated, epochs=1, compile=choice), tmp_path / name, None, False, console()))
        for name, choice in (("plain", False), ("compiled", True))
    )
    assert len(compiled) == 1
    for (name, a), b in zip(plain.state_dict().items(), traced.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_float16_scales_its_loss_and_resumes(rated: Path, tmp_path: Path) -> None:
    config = small_run(rated, precision="fp16")
    out = train(config, tmp_path / "run", None, False, console()).parent
    state = torch.load(out / "resume.pt", weights_only=True)
    assert state["scaler"]["scale"] > 1
    assert all(torch.isfinite(value).all() for value in state["module"].values())
    assert train(config, out, None, True, console()).exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do it")
def test_float16_is_refused_on_a_cpu(rated: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use bf16"):
        train(small_run(rated, precision="fp16"), tmp_path / "run", None, False, console())
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_dataset_that_changed_is_not_resumed(rated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(rated.parent, folder)
    config = small_run(folder / "rated.csv")
    train(config, tmp_path / "run", None, False, console())
    lines = (folder / "rated.csv").read_text().splitlines(keepends=True)
    (folder / "rated.csv").write_text("".join(lines[:-1]))
    with pytest.raises(UsageError, match="not those it was started with"):
        train(config, tmp_path / "run", None, True, console())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_killed_and_resumed_with_workers_is_the_uninterrupted_run_to_the_bit(rated: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    command = [
        *(sys.executable, "-m", "glia.cli", "--dataset", "csv", "--root", str(rated), "--out", str(out), *TINY),
        *("--epochs", "3", "--batch-size", "4", "--evaluate-every", "2", "--cache", str(tmp_path / "cache")),
        *("--cache-tokens", "--loss", "correlation"),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([*command, "--workers", "2"], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (out / "resume.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert torch.load(out / "resume.pt", weights_only=True)["step"] < 12, "it had finished before it was killed"
    done = subprocess.run(
        [*command, "--resume", "--workers", "1"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    # In a process of its own as well: how many threads add up decides the last bit, and earlier tests may change it.
    at_once = [str(tmp_path / "whole") if part == str(out) else part for part in command]
    subprocess.run(at_once, env=environment, capture_output=True, timeout=300, check=True)
    whole = load_checkpoint(tmp_path / "whole" / "model.pt")
    parts = load_checkpoint(out / "model.pt")
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    with (out / "metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    assert [int(step) for step in steps] == [2, 4, 6, 8, 10, 12]
