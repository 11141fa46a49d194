"""Output files of ``glia-infer``: killed, interrupted, out of space, two at once, and gone on with afterwards."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from glia_runtime import ScoreScale
from glia_runtime.journal import Journal, journal_path
from tests.glia_runtime import artifacts
from tests.glia_runtime.test_cli import CHOICE, COMMAND, csv_rows, infer, lines

KILLS = int(os.environ.get("GLIA_KILLS", "5"))
"""Random moments at which a run is killed; ``GLIA_KILLS=20 pytest ...`` takes more, and four times as long."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures of 200 different greys in three folders, two of them damaged, and one name no text encoding has."""
    root = tmp_path_factory.mktemp("pictures")
    for index in range(200):
        path = root / f"{index % 3}" / f"{index * 7919 % 200:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((230, 240, 3), 20 + index, np.uint8)).save(path)
    for broken in ("0/broken.jpg", "2/050.jpg"):
        (root / broken).write_text("no picture")
    shutil.copy(root / "0" / "000.png", root / "1" / os.fsdecode(b"\xff\n.png"))
    return root


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def finish(process: subprocess.Popen[bytes]) -> list[str]:
    _, errors = process.communicate(timeout=600)
    return errors.decode("utf-8", "surrogateescape").splitlines()


def has_rows(part: Path, number: int) -> Callable[[], bool]:
    return lambda: part.exists() and part.read_bytes().count(b"\n") > number


# kill -9


def test_killed_at_random_moments_and_resumed(views_artifact: Path, folder: Path, tmp_path: Path) -> None:
    """The file is that of a run nobody killed, to the byte; from the loading of the model to the last row."""
    command: list[str | Path] = ["--model", views_artifact, "--recursive", folder, "--format", "csv", "--output"]
    whole = tmp_path / "whole"
    process = start(*command, whole)
    wait_for(journal_path(whole).exists)
    begun = time.monotonic()
    finish(process)
    span = time.monotonic() - begun
    chance = random.Random(KILLS)
    output, part = tmp_path / "output", journal_path(tmp_path / "output")
    rows_left = []
    for attempt in range(KILLS):
        process = start(*command, output, "--resume")
        wait_for(part.exists)
        time.sleep(chance.uniform(0, span))
        process.kill()
        finish(process)
        rows_left.append(part.read_bytes().count(b"\n") - 1 if part.exists() else None)
        if attempt % 3 == 0 and part.exists():
            continue  # so that a resumed run is killed, too
        if part.exists():
            assert infer(*command, output, "--resume").returncode == 1
        assert output.read_bytes() == whole.read_bytes()
        assert sorted(tmp_path.iterdir()) == [output, whole]
        output.unlink()
    print(f"{span:.2f} s from the part file to the end; its rows after each kill: {rows_left}")


def test_killed_between_scores(views_artifact: Path, folder: Path, tmp_path: Path) -> None:
    """Every row that was written is kept, and none of those pictures is opened again."""
    output, part = tmp_path / "scores.csv", tmp_path / "scores.csv.part"
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    command: list[str | Path] = ["--model", str(views_artifact), "--recursive", str(copy), "--output", str(output)]
    assert infer(*command).returncode == 1
    whole = output.read_bytes()
    output.unlink()
    process = start(*command)
    wait_for(has_rows(part, 20))
    process.kill()
    finish(process)
    with part.open("ab") as file:
        file.write(b'{"path": "torn')
    journal = Journal(output)
    done = [result.path for result in journal.results() if result.error is None]
    journal.close()
    for path in done:
        Path(path).write_bytes(b"would fail now")
    result = infer(*command, "--resume")
    assert result.returncode == 1
    assert any(line.startswith(f"glia-infer: going on after {len(done)} pictures") for line in lines(result))
    assert output.read_bytes() == whole


def test_a_folder_that_changed_before_it_was_resumed(views_artifact: Path, folder: Path, tmp_path: Path) -> None:
    """What was scored stays, what is new is scored, whatever its place in the order."""
    output, copy = tmp_path / "scores.csv", tmp_path / "copy"
    shutil.copytree(folder, copy)
    command: list[str | Path] = ["--model", str(views_artifact), "-r", str(copy), "-o", str(output)]
    process = start(*command)
    wait_for(has_rows(journal_path(output), 30))
    process.kill()
    finish(process)
    (first, second, *_) = sorted(copy.rglob("0/*.png"))
    first.unlink()
    shutil.copy(second, copy / "0" / "+new.png")
    assert infer(*command, "--resume").returncode == 1
    paths = [row["path"] for row in csv_rows(output.read_bytes())]
    everything = {str(path) for path in copy.rglob("*.*g")}
    assert len(paths) == len(set(paths))
    assert set(paths) == everything | {str(first)}


# Other ends of a run


def test_ctrl_c_says_how_to_go_on(views_artifact: Path, folder: Path, tmp_path: Path) -> None:
    output, part = tmp_path / "scores.csv", tmp_path / "scores.csv.part"
    output.write_text("an older file")
    command: list[str | Path] = ["--model", str(views_artifact), "-r", str(folder), "-o", str(output)]
    process = start(*command)
    wait_for(has_rows(part, 10))
    process.send_signal(signal.SIGINT)
    errors = finish(process)
    assert process.returncode == 130
    rows = part.read_bytes().count(b"\n") - 1
    assert errors[-1] == f"glia-infer: interrupted; {part} keeps {rows} rows; add --resume to go on"
    assert output.read_text() == "an older file"
    again = infer(*command)
    assert again.returncode == 2
    assert lines(again) == [
        f"glia-infer: {part}: holds {rows} rows of an unfinished run; add --resume to go on, or delete it to start anew"
    ]
    assert infer(*command, "--resume").returncode == 1
    assert len(csv_rows(output.read_bytes())) == 203
    for format_ in ("csv", "jsonl", "parquet"):
        assert infer(*command, "--format", format_).returncode == 1
        complete = infer(*command, "--format", format_, "--resume")
        assert complete.returncode == 1
        assert lines(complete) == [
            f"glia-infer: {output}: is complete (pictures that failed: 2); without --resume it is made anew"
        ]


def test_another_model_does_not_go_on(
    views_artifact: Path, image_artifact: Path, pictures: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "scores.csv"
    command: list[str | Path] = [*pictures, "missing.jpg", "--fail-fast", "--output", output]
    assert infer("--model", views_artifact, *command).returncode == 1
    refused = infer("--model", image_artifact, *command, "--resume")
    assert refused.returncode == 2
    (line,) = lines(refused)
    assert "its rows are another model's" in line


def test_two_runs_on_one_file(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    command: list[str | Path] = ["--model", views_artifact, "-", "--output", output]
    first = subprocess.Popen([*COMMAND, *command], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(journal_path(output).exists)
    for more in ([], ["--resume"]):
        second = infer(*command, *more, input=b"")
        assert second.returncode == 2
        assert lines(second) == [
            f"glia-infer: {output}.part: another run is writing it; wait for that run, or choose another --output"
        ]
    _, errors = first.communicate(b"\n".join(map(os.fsencode, pictures)), timeout=600)
    assert (first.returncode, errors.decode().splitlines()) == (0, [CHOICE])
    assert len(csv_rows(output.read_bytes())) == len(pictures)
    assert list(tmp_path.iterdir()) == [output]


def test_a_full_disk(views_artifact: Path, folder: Path, tmp_path: Path) -> None:
    """As a limit on the size of a file, which the system enforces alike: in the middle of a row, then at the end."""
    output, part = tmp_path / "scores.csv", tmp_path / "scores.csv.part"
    command: list[str | Path] = ["--model", str(views_artifact), "-r", str(folder), "-o", str(output)]
    reference = tmp_path / "reference.csv"
    assert infer(*command[:-1], reference).returncode == 1
    journal_bytes = len(infer(*command[:-2], "--format", "jsonl").stdout) + 128  # and its head
    for limit in (5_000, journal_bytes - 10):
        full = infer(
            *command,
            "--resume",
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        assert full.returncode == 2
        assert lines(full)[-1] == (
            f"glia-infer: {part}: cannot be written (File too large); free some space or check the permissions, "
            "then go on with --resume"
        )
        assert part.stat().st_size == limit
    assert infer(*command, "--resume").returncode == 1
    assert output.read_bytes() == reference.read_bytes()


def test_what_a_killed_run_left_when_it_was_almost_done(
    views_artifact: Path, pictures: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "scores.csv"
    left, other = tmp_path / ".0123456789ab-scores.csv", tmp_path / ".0123456789ab-other.csv"
    left.touch()
    other.touch()
    assert infer("--model", views_artifact, *pictures, "-o", output).returncode == 0
    assert sorted(tmp_path.iterdir()) == [other, output]


def test_fail_fast(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    late = tmp_path / "late.png"
    command: list[str | Path] = ["--model", views_artifact, *pictures, late, *pictures[:2], "--fail-fast"]
    result = infer(*command)
    assert result.returncode == 1
    assert [row["path"] for row in csv_rows(result.stdout)] == [str(path) for path in pictures]
    assert lines(result) == [f"glia-infer: {late}: no such file; check the path"]
    output = tmp_path / "scores.csv"
    assert infer(*command, "--output", output).returncode == 1
    assert not output.exists()
    shutil.copy(pictures[0], late)
    assert infer(*command, "--output", output, "--resume").returncode == 0
    assert [row["error"] for row in csv_rows(output.read_bytes())] == [""] * 8


# What is written


def test_sort_top_and_below(folder: Path, tmp_path: Path) -> None:
    """On a scale where less is better, so that quality and score disagree."""
    model = tmp_path / "model.onnx"
    artifacts.rewrite(model, artifacts.save_views(model), score_scale=ScoreScale(0.0, 2.0, False, "none"))
    command: list[str | Path] = ["--model", model, "--recursive", folder]
    rows = csv_rows(infer(*command).stdout)
    scored = [row for row in rows if row["quality"]]
    for row in scored:
        assert float(row["quality"]) == pytest.approx(100 - 50 * float(row["score"]), abs=1e-4)

    def select(*options: str | Path) -> list[dict[str, str]]:
        return csv_rows(infer(*command, *options).stdout)

    worst = sorted(scored, key=lambda row: float(row["quality"]))
    failed = [row for row in rows if row["error"]]
    assert select("--sort", "worst") == worst + failed
    assert select("--top", "3") == worst[:3]
    best = sorted(scored, key=lambda row: -float(row["quality"]))
    assert select("--top", "3", "--sort", "best") == best[:3]
    below = (float(worst[40]["quality"]) + float(worst[41]["quality"])) / 2
    assert select("--below", str(below)) == [row for row in scored if float(row["quality"]) < below]
    output = tmp_path / "scores.csv"
    assert select("--top", "5", "--output", output) == []
    assert csv_rows(output.read_bytes()) == worst[:5]


def test_parquet(views_artifact: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.parquet"
    command: list[str | Path] = ["--model", views_artifact, "--recursive", folder]
    assert infer(*command, "--output", output).returncode == 1
    table = pyarrow.parquet.read_table(output)
    assert table.column_names == ["path", "score", "quality", "width", "height", "error"]
    assert [str(kind) for kind in table.schema.types] == ["string", "float", "float", "int32", "int32", "string"]
    rows = csv_rows(infer(*command).stdout)
    for row, expected in zip(table.to_pylist(), rows, strict=True):
        assert row["path"] == os.fsencode(expected["path"]).decode("utf-8", "backslashreplace")
        assert row["error"] == (expected["error"] or None)
        if row["error"] is None:
            assert np.float32(row["score"]) == np.float32(expected["score"])
            assert np.float32(row["quality"]) == np.float32(expected["quality"])
            assert (row["width"], row["height"]) == (240, 230)


def test_parquet_without_pyarrow(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    """Said before anything is scored."""
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError(\"No module named 'pyarrow'\", name='pyarrow')")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = infer(
        "--model", views_artifact, "-o", tmp_path / "a.parquet", *pictures, env={**os.environ, "PYTHONPATH": paths}
    )
    assert result.returncode == 2
    assert lines(result) == [
        "glia-infer: Parquet output needs pyarrow, which is not installed: pip install 'glia[parquet]'"
    ]


def test_a_pipe_takes_rows_as_they_come(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("--model", views_artifact, *pictures, "--format", "csv", "--output", pipe)
    assert len(csv_rows(pipe.read_bytes())) == len(pictures)
    assert finish(process) == [CHOICE]
    assert list(tmp_path.iterdir()) == [pipe]


def test_folders_patterns_and_what_is_wrong_with_them(views_artifact: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = infer("--model", views_artifact, folder / "*" / "19?.png", tmp_path / "empty", folder / "*.none")
    assert result.returncode == 1
    rows = csv_rows(result.stdout)
    expected = sorted(map(str, folder.glob("*/19?.png")))
    assert [row["path"] for row in rows] == [*expected, str(folder / "*.none")]
    assert [bool(row["error"]) for row in rows] == [False] * len(expected) + [True]
    assert any("no pictures in this folder; --recursive looks" in line for line in lines(result))


def test_info(views_artifact: Path, tmp_path: Path) -> None:
    result = infer("--info", views_artifact)
    assert (result.returncode, result.stderr) == (0, b"")
    said = dict(line.split(": ", 1) for line in result.stdout.decode().splitlines())
    assert said["SHA-256"].endswith("(verified)")
    assert said["target"] == "onnx, opset 18"
    assert said["scores"] == "0 to 1, higher is better (none)"
    assert said["limits"] == "any batch, pictures of any size"
    assert said["onnxruntime fp32"].startswith("passed: over 5 pictures largest difference 1e-07 (bound 0.0001)")
    changed = tmp_path / "changed.onnx"
    artifacts.save_views(changed)
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    refused = infer("--info", changed)
    assert (refused.returncode, refused.stdout) == (2, b"")
    (line,) = lines(refused)
    assert "its SHA-256" in line
