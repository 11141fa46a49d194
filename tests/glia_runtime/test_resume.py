"""What a run leaves of an older file, of another run and of its own rows, and how ``--resume`` goes on from there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from glia_runtime.journal import Journal, Way, journal_path
from glia_runtime.pipeline import Result
from tests.glia_runtime.test_cli import COMMAND, csv_rows, infer, lines
from tests.glia_runtime.test_output import finish, has_rows, start, wait_for


def test_an_older_file_is_not_taken_for_the_result(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    """When the run ended before its first row: by an error, or by a kill before numpy was there."""
    output, part = tmp_path / "scores.csv", tmp_path / "scores.csv.part"
    command: list[str | Path] = ["--model", views_artifact, *pictures, "--output", output]
    killed = COMMAND[-1].replace(
        "import app;",
        "import app; import os, sys; "
        "sys.meta_path.insert(0, type('Kill', (), {'find_spec': staticmethod("
        "lambda name, *rest: os.kill(os.getpid(), 9) if name == 'numpy' else None)}));",
    )
    for early in ([*COMMAND, "missing.jpg", *command, "--fail-fast"], [*COMMAND[:-1], killed, *command]):
        output.write_text("yesterday")
        assert subprocess.run(early, capture_output=True, check=False).returncode in (1, -signal.SIGKILL)
        assert (output.read_text(), part.exists()) == ("yesterday", True)
        assert infer(*command, "--resume").returncode == 0
        assert len(csv_rows(output.read_bytes())) == len(pictures)
        assert not part.exists()
    output.write_text("yesterday")
    refused = infer(*command, "--resume")
    assert refused.returncode == 2
    assert lines(refused) == [
        f"glia-infer: {output}: is no csv file of glia-infer's; without --resume it is replaced, "
        "or choose another --output"
    ]


def test_failed_pictures_are_tried_again(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    """The file is that of a run which met them whole, or failing again."""
    late, gone, stop = tmp_path / "late.png", tmp_path / "gone.png", tmp_path / "stop.png"
    output = tmp_path / "scores.csv"
    command: list[str | Path] = [
        "--model",
        views_artifact,
        late,
        pictures[0],
        gone,
        stop,
        *(pictures * 6),
        "-o",
        output,
    ]
    first = subprocess.Popen([*COMMAND, *command, "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(has_rows(journal_path(output), 4))
    first.kill()
    first.communicate()
    shutil.copy(pictures[0], late)
    shutil.copy(pictures[0], stop)
    resumed = infer(*command, "--resume")
    assert resumed.returncode == 1
    assert "trying 3 again that failed" in lines(resumed)[0]
    resumed_bytes = output.read_bytes()
    assert infer(*command).returncode == 1
    assert output.read_bytes() == resumed_bytes


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_finished_file_is_compared_with_what_is_named(
    views_artifact: Path, pictures: list[Path], tmp_path: Path, suffix: str
) -> None:
    folder, output = tmp_path / "folder", tmp_path / f"scores{suffix}"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        shutil.copy(picture, folder / os.fsdecode(b"%d\xff,\r.png" % number))
    command: list[str | Path] = ["--model", views_artifact, folder, "--output", output, "--resume"]
    for said in ([], [f"glia-infer: {output}: is complete; without --resume it is made anew"]):
        done = infer(*command)
        assert (done.returncode, lines(done)) == (0, said)
    before = output.read_bytes()
    new = folder / "+new.png"
    shutil.copy(pictures[0], new)
    for more, first, number in (([], new, 6), (["missing.jpg"], "missing.jpg", 7), ([new, new], new, 8)):
        named = infer(*command[:2], *more, *command[2:])
        assert named.returncode == 2
        assert lines(named) == [
            f"glia-infer: {output}: is finished without {number - 5} of the {number} pictures named, {first} first; "
            "nothing is added to a finished file: name another --output for those, or leave out --resume to score all "
            "anew"
        ]
    new.unlink()
    (folder / os.fsdecode(b"0\xff,\r.png")).unlink()
    fewer = infer(*command)
    assert fewer.returncode == 0
    assert lines(fewer)[-1] == "glia-infer: 1 kept rows are of pictures that this run does not name"
    assert output.read_bytes() == before


def test_what_cannot_work_does_not_pass_for_complete(
    views_artifact: Path, image_artifact: Path, pictures: list[Path], tmp_path: Path
) -> None:
    for suffix in (".csv", ".txt"):
        output = tmp_path / f"scores{suffix}"
        assert infer("--model", views_artifact, *pictures, "--output", output).returncode == 0
        cases: list[tuple[list[str | Path], str]] = [
            (["--model", tmp_path / "none.onnx"], "none.onnx: no such artifact"),
            (["--model", views_artifact, "--backend", "abacus"], "backend 'abacus' runs no onnx artifacts"),
            (["--model", image_artifact, "--draft"], "draft is for artifacts exported with --input views"),
            (
                ["--model", views_artifact, "--top", "3"],
                "cannot be told from what was never scored" if suffix == ".csv" else "is a table",
            ),
        ]
        for options, reason in cases:
            refused = infer(*options, *pictures, "--output", output, "--resume")
            assert refused.returncode == 2
            assert reason in lines(refused)[-1]


def test_another_backend_does_not_go_on(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    command: list[str | Path] = ["--model", views_artifact, *pictures, "missing.jpg", "--fail-fast", "-o", output]
    assert infer(*command, "--backend", "openvino").returncode == 1
    refused = infer(*command, "--resume")
    assert refused.returncode == 2
    assert "go on with --backend openvino --device cpu, or delete the file" in lines(refused)[-1]
    assert infer(*command, "--resume", "--backend", "openvino", "--device", "cpu").returncode == 1


def test_drafted_rows_are_not_mixed_with_others(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    command: list[str | Path] = ["--model", views_artifact, *pictures, "missing.jpg", "--fail-fast", "-o", output]
    assert infer(*command, "--draft").returncode == 1
    refused = infer(*command, "--resume")
    assert refused.returncode == 2
    assert "go on with --backend onnxruntime --device cpu --draft, or delete the file" in lines(refused)[-1]
    go_on = ["--resume", "--backend", "onnxruntime", "--device", "cpu", "--draft"]
    assert infer(*command, *go_on).returncode == 1
    assert infer(*command, *go_on[:-1]).returncode == 2
    exact = tmp_path / "exact.csv"
    assert infer(*command[:-1], exact).returncode == 1
    refused = infer(*command[:-1], exact, "--resume", "--draft")
    assert "go on with --backend onnxruntime --device cpu and without --draft, or delete" in lines(refused)[-1]


def test_kept_rows_of_pictures_that_are_not_named(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    command: list[str | Path] = ["--model", views_artifact, "--output", output]
    assert infer(*command, pictures[0], pictures[1], "missing.jpg", "--fail-fast").returncode == 1
    other = infer(*command, "--resume", pictures[1], pictures[2])
    assert other.returncode == 0
    assert "glia-infer: 1 kept rows are of pictures that this run does not name" in lines(other)
    assert [row["path"] for row in csv_rows(output.read_bytes())] == list(map(str, pictures[:3]))


def test_a_disk_that_is_full_at_the_end(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    """A table is as wide as its longest name, so that it outgrows the journal; what was scored stays."""
    output, part = tmp_path / "scores.txt", tmp_path / "scores.txt.part"
    name = tmp_path / ("x" * 200 + ".png")
    shutil.copy(pictures[0], name)
    (tmp_path / "a").symlink_to(pictures[0])
    command: list[str | Path] = ["--model", views_artifact, name.name, *["a"] * 60, "-o", output]
    full = infer(*command, cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6800, 6800)))
    assert full.returncode == 2
    assert lines(full) == [
        f"glia-infer: {output}: cannot be written (File too large); free some space or choose another place"
    ]
    assert part.read_bytes().count(b"\n") == 62
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", part.name, name.name]
    assert infer(*command, "--resume", cwd=tmp_path).returncode == 0
    assert output.read_text().count(" a ") == 60


@pytest.mark.parametrize("kind", ["picture", "journal"])
def test_what_was_hardly_meant_is_not_replaced(
    views_artifact: Path, pictures: list[Path], tmp_path: Path, kind: str
) -> None:
    output = tmp_path / "output"
    if kind == "picture":
        shutil.copy(pictures[0], output)
    else:
        journal = Journal(tmp_path / "other")
        journal.begin("a" * 64, Way("onnxruntime", "cpu", False))
        journal.append(Result("a", 0.5, None))
        journal.close()
        journal.path.rename(output)
    before = output.read_bytes()
    result = infer("--model", views_artifact, *pictures, "--output", output)
    assert result.returncode == 2
    assert "which --output would replace; choose another --output" in lines(result)[0]
    assert output.read_bytes() == before
    assert list(tmp_path.iterdir()) == [output]


def test_closed_standard_streams_are_not_written_into(
    views_artifact: Path, pictures: list[Path], tmp_path: Path
) -> None:
    """No file of the run takes descriptor 0, 1 or 2, where a library would write its own lines."""
    output = tmp_path / "scores.csv"
    shell = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh"]
    code = COMMAND[-1].replace(
        "import app;",
        "import app; import os; from glia_runtime.journal import Journal; begin = Journal.begin; "
        "Journal.begin = lambda *rest: (os.write(2, b'a library'), os.write(1, b'says'), begin(*rest))[-1];",
    )
    command: list[str | Path] = [
        *shell,
        *COMMAND[:-1],
        code,
        "--model",
        views_artifact,
        *pictures,
        "missing.jpg",
        "--output",
        output,
    ]
    assert subprocess.run(command, check=False).returncode == 1
    assert infer("--model", views_artifact, *pictures, "missing.jpg").stdout == output.read_bytes()


def test_a_pipe_whose_reader_dies(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("--model", views_artifact, *(pictures * 200), "--format", "csv", "--output", pipe)
    with pipe.open("rb") as file:
        file.readline()
    errors = finish(process)
    assert process.returncode == 2
    assert errors[-1] == f"glia-infer: {pipe}: cannot be written (Broken pipe); choose another place"
