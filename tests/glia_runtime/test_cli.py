"""``glia-infer`` as a user runs it: a process, its two streams and its exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glia_runtime import Probe, sample_views, write_manifest
from glia_runtime.decode import decode
from tests.glia_runtime import artifacts
from tests.glia_runtime.artifacts import expected_score
from tests.shapes import noise_image

COMMAND = [sys.executable, "-c", "from glia_runtime.cli import app; app(prog_name='glia-infer')"]

HEADER = b"path,score,quality,width,height,error\n"
CHOICE = "glia-infer: onnxruntime on cpu: the fastest here whose parity row passes"


def infer(*arguments: str | bytes | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    options = {"capture_output": True, "timeout": 600, **options}
    return subprocess.run([*COMMAND, *arguments], check=False, **options)


def csv_rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))


def lines(result: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What is on standard error but for the line that says what `auto` took."""
    found = result.stderr.decode("utf-8", "surrogateescape").splitlines()
    return [line for line in found if line != CHOICE]


def test_csv_when_piped(views_artifact: Path, pictures: list[Path]) -> None:
    result = infer("--model", views_artifact, *pictures)
    assert result.returncode == 0
    assert lines(result) == []
    rows = csv_rows(result.stdout)
    assert list(rows[0]) == ["path", "score", "quality", "width", "height", "error"]
    assert [row["path"] for row in rows] == [str(path) for path in pictures]
    scores = [float(row["score"]) for row in rows]
    # see test_scorer.CLOSE
    expected = [expected_score(decode(path), "views") for path in pictures]
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=0)
    assert {row["error"] for row in rows} == {""}
    np.testing.assert_allclose([float(row["quality"]) for row in rows], 100 * np.array(scores), rtol=1e-5)
    sizes = [decode(path).shape[1::-1] for path in pictures]
    assert [(int(row["width"]), int(row["height"])) for row in rows] == sizes


def test_one_line_for_each_problem(image_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    missing = tmp_path / "missing.jpg"
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    arguments = [pictures[0], missing, text, pipe, pictures[1]]
    result = infer("--model", image_artifact, "--format", "jsonl", *arguments)
    assert result.returncode == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [list(row) for row in rows] == [["path", "score", "error", "quality", "width", "height"]] * 5
    assert [row["path"] for row in rows] == [str(path) for path in arguments]
    assert [row["score"] is None for row in rows] == [False, True, True, True, False]
    assert [row["error"] is None for row in rows] == [True, False, False, False, True]
    assert lines(result) == [f"glia-infer: {row['error']}" for row in rows if row["error"]]
    assert lines(result)[0] == f"glia-infer: {missing}: no such file; check the path"


def test_json_scores_are_exact(views_artifact: Path, pictures: list[Path]) -> None:
    from glia_runtime import Scorer

    result = infer("--model", views_artifact, "--format", "jsonl", *pictures)
    written = [np.float32(json.loads(line)["score"]) for line in result.stdout.splitlines()]
    assert written == [np.float32(item.score) for item in Scorer.open(views_artifact).stream(pictures)]


# Where paths come from


@pytest.mark.parametrize("format_", ["csv", "jsonl", "table"])
def test_names_with_newlines_and_bytes_that_are_no_text(
    views_artifact: Path, pictures: list[Path], tmp_path: Path, format_: str
) -> None:
    names = [b'new\nline, "quoted".png', b"byte\xff.png", "schön.png".encode(), b"-dash.png"]
    folder = os.fsencode(tmp_path)
    for name in names:
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(pictures[0].read_bytes())
    paths = [folder + b"/" + name for name in (*names, b"missing\xff\n.png")]
    result = infer("--model", views_artifact, "--format", format_, *paths)
    assert result.returncode == 1
    assert len(lines(result)) == 1
    if format_ == "csv":
        assert [os.fsencode(row["path"]) for row in csv_rows(result.stdout)] == paths
    if format_ == "jsonl":
        rows = [json.loads(line) for line in result.stdout.decode("utf-8").splitlines()]
        assert [os.fsencode(row["path"]) for row in rows] == paths
        assert "schön" in result.stdout.decode()


def test_output_does_not_depend_on_the_locale(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "schön.png"
    path.write_bytes(pictures[0].read_bytes())
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = infer("--model", views_artifact, path, tmp_path / "schön.jpg", env=environment)
    assert result.returncode == 1
    assert "schön.png".encode() in result.stdout
    assert b"Traceback" not in result.stderr


# Where scores go


@pytest.mark.parametrize(("suffix", "start"), [(".csv", b"path,"), (".jsonl", b"{"), (".txt", b"  picture")])
def test_output_file_by_suffix(
    views_artifact: Path, pictures: list[Path], tmp_path: Path, suffix: str, start: bytes
) -> None:
    output = tmp_path / f"scores{suffix}"
    result = infer("--model", views_artifact, "--output", output, *pictures)
    assert (result.returncode, result.stdout, lines(result)) == (0, b"", [])
    assert output.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [output]


def test_output_is_written_when_some_pictures_fail(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "scores"
    result = infer("--model", views_artifact, "-o", output, pictures[0], "missing.jpg")
    assert result.returncode == 1
    assert len(csv_rows(output.read_bytes())) == 2


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("scores.xlsx", "no format goes with .xlsx"),
        ("missing/scores.csv", "does not exist; create it first"),
        (".", "is a directory"),
        ("x" * 252 + ".csv", "File name too long"),
        ("x" * 251, "File name too long"),
        ("x" * 243, "File name too long"),
        ("/dev/full", "No space left on device"),
    ],
)
def test_output_that_cannot_be_written(
    views_artifact: Path, pictures: list[Path], tmp_path: Path, output: str, reason: str
) -> None:
    for resume in ([], ["--resume"])[: 1 if output.startswith("/dev") else 2]:
        result = infer("--model", views_artifact, "--output", output, *resume, pictures[0], cwd=tmp_path)
        assert result.returncode == 2
        assert len(lines(result)) == 1
        assert reason in lines(result)[0]
        assert list(tmp_path.iterdir()) == []


def test_standard_output_that_is_full_or_closed(views_artifact: Path, pictures: list[Path]) -> None:
    with Path("/dev/full").open("wb") as full:
        result = infer("--model", views_artifact, pictures[0], capture_output=False, stdout=full, stderr=-1)
    assert result.returncode == 2
    assert lines(result) == [
        "glia-infer: standard output cannot be written (No space left on device); free some space or use --output FILE"
    ]
    shell = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *COMMAND, "--model", views_artifact, pictures[0]],
        capture_output=True,
        check=False,
    )
    assert shell.returncode == 2
    assert lines(shell) == ["glia-infer: standard output is closed; open it or use --output FILE"]


def test_standard_error_that_is_closed(views_artifact: Path, pictures: list[Path]) -> None:
    shell = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *COMMAND, "--model", views_artifact, pictures[0], "missing.jpg"],
        capture_output=True,
        check=False,
    )
    assert shell.returncode == 1
    assert len(csv_rows(shell.stdout)) == 2


def test_a_reader_that_stops_reading(views_artifact: Path, pictures: list[Path]) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--model", views_artifact, *(pictures * 200)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == HEADER
    process.stdout.close()
    assert process.wait(timeout=600) == 141
    assert process.stderr.read().decode().splitlines() == [CHOICE]
    process.stderr.close()


# Models


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no pictures given; name some files, or - to read paths from stdin"),
        (["--batch-size", "0", "a"], "Invalid value for '--batch-size'"),
        (["--format", "xml", "a"], "Invalid value for '--format': 'xml' is not one of"),
        (["--top", "0", "a"], "Invalid value for '--top'"),
        (["--nothing"], "No such option: --nothing"),
        (["--output"], "Option '--output' requires an argument"),
        (["--resume", "a"], "--resume needs --output FILE"),
        (["--resume", "--output", "/dev/null", "a"], "--resume needs --output FILE"),
        (["--format", "parquet", "a"], "parquet ends with an index of its parts, so it needs --output FILE"),
        (["--device", "tpu", "a"], "device 'tpu' cannot run onnx artifacts; choose one of: auto, cpu, cuda"),
        (["--info", "none.onnx", "a"], "--info takes no pictures"),
        (["--below", "nan", "a"], "--below is no number"),
        (["--null", "a"], "--null is for the list that - reads from stdin"),
    ],
)
def test_usage_errors(views_artifact: Path, arguments: list[str], reason: str) -> None:
    result = infer("--model", views_artifact, *arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    (line,) = lines(result)
    assert line.startswith(f"glia-infer: {reason}")


def test_options_without_effect_are_refused(views_artifact: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    none = "would do nothing"
    for arguments, reason in (
        (["--info", "none.onnx"], "none.onnx: no such artifact"),
        (
            ["--info", views_artifact, "--self-test", "--model", "none", "-o", output],
            f"--model, --output, --self-test {none}",
        ),
        (["--info", views_artifact, "--backend", "auto"], f"--backend {none}"),
        (
            ["--self-test", "--model", views_artifact, "-o", output, "--top", "3", "--resume"],
            f"--output, --resume, --top {none}",
        ),
        (["--self-test", "--model", views_artifact, "--fail-fast", "-r"], f"--recursive, --fail-fast {none}"),
    ):
        result = infer(*arguments)
        assert (result.returncode, result.stdout) == (2, b"")
        (line,) = lines(result)
        assert reason in line
    assert not output.exists()


def test_model_errors(tmp_path: Path, pictures: list[Path]) -> None:
    path = tmp_path / "model.onnx"
    steps: list[tuple[Callable[[], object], str]] = [
        (lambda: None, "no such artifact"),
        (lambda: path.write_bytes(b"graph"), "its manifest model.onnx.json is missing"),
        (lambda: path.with_name("model.onnx.json").write_text("{"), "not valid JSON"),
        (lambda: write_manifest(artifacts.manifest_for(path, "views"), path), "cannot load it"),
        (lambda: path.write_bytes(b"other"), "its SHA-256"),
    ]
    for prepare, reason in steps:
        prepare()
        result = infer("--model", path, pictures[0])
        assert result.returncode == 2
        assert result.stdout == b""
        assert len(lines(result)) == 1, lines(result)
        assert reason in lines(result)[0]


def test_debug_shows_the_traceback(tmp_path: Path, pictures: list[Path]) -> None:
    result = infer("--debug", "--model", tmp_path / "none.onnx", pictures[0])
    assert result.returncode == 2
    assert b"Traceback" in result.stderr
    assert lines(result)[-1].startswith("glia-infer: ")


def test_auto_says_what_it_took(views_artifact: Path, pictures: list[Path]) -> None:
    assert infer("--model", views_artifact, pictures[0]).stderr.decode().splitlines() == [CHOICE]
    for backend in ("onnxruntime", "openvino"):
        named = infer("--model", views_artifact, "--backend", backend, pictures[0])
        assert (named.returncode, named.stderr, len(csv_rows(named.stdout))) == (0, b"", 1)
    unknown = infer("--model", views_artifact, "--backend", "abacus", pictures[0])
    assert unknown.returncode == 2
    assert lines(unknown) == [
        "glia-infer: backend 'abacus' runs no onnx artifacts; choose one of: auto, onnxruntime, openvino:bf16, openvino"
    ]


def test_model_from_the_environment(views_artifact: Path, pictures: list[Path]) -> None:
    environment = {**os.environ, "GLIA_MODEL": str(views_artifact)}
    result = infer(pictures[0], env=environment)
    assert (result.returncode, lines(result)) == (0, [])


def test_the_bundled_model_announces_itself(pictures: list[Path]) -> None:
    from glia_runtime.scorer import BUNDLED_MODEL

    result = infer(pictures[0])
    assert "using the bundled demonstration model" in lines(result)[0]
    assert len(lines(result)) == (1 if BUNDLED_MODEL.exists() else 2)
    assert result.returncode == (0 if BUNDLED_MODEL.exists() else 2)


def test_self_test(views_artifact: Path, tmp_path: Path) -> None:
    result = infer("--self-test", "--model", views_artifact)
    assert (result.returncode, result.stdout) == (0, b"")
    assert "self-test passed: largest difference" in lines(result)[0]
    path = tmp_path / "model.onnx"
    manifest = artifacts.save_views(path)
    artifacts.rewrite(path, manifest, probe=Probe((0.9,) * 5, 1e-4))
    failed = infer("--self-test", "--model", path)
    assert failed.returncode == 2
    assert "the self-test failed" in lines(failed)[0]


def test_version_and_help() -> None:
    assert infer("--version").stdout.decode() == f"glia {version('glia')}\n"
    text = infer("--help").stdout.decode()
    for words in (
        "Usage: glia-infer [OPTIONS] [IMAGES...]\n",
        "--model FILE ",
        "--format [csv|jsonl|parquet|table]\n",
        "-o, --output OUTPUT ",
        "--batch-size INTEGER ",
        "--below T ",
        "--self-test ",
        "Exit status: 0",
        "| glia-infer -0 -  ",
    ):
        assert words in text


def test_batch_size_does_not_change_scores(image_artifact: Path, pictures: list[Path]) -> None:
    one = infer("--model", image_artifact, "--batch-size", "1", *pictures)
    many = infer("--model", image_artifact, "--batch-size", "64", *pictures)
    assert one.returncode == many.returncode == 0
    np.testing.assert_allclose(
        [float(row["score"]) for row in csv_rows(one.stdout)],
        [float(row["score"]) for row in csv_rows(many.stdout)],
        atol=1e-5,  # see test_scorer.CLOSE
        rtol=0,
    )


def test_drafted_views_and_workers(views_artifact: Path, image_artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(noise_image(1000, 1100)).save(path)
    done = infer("--model", views_artifact, path, "--draft", "--workers", "1")
    (row,) = csv_rows(done.stdout)
    semantic, detail = sample_views(decode(path), draft=True)
    wanted = (semantic.mean(dtype=np.float64) + detail.mean(dtype=np.float64)) / 510
    assert float(row["score"]) == pytest.approx(wanted, abs=1e-6)  # the mean itself; exact views differ by more
    assert float(row["score"]) != pytest.approx(expected_score(decode(path), "views"), abs=1e-6)
    refused = infer("--model", image_artifact, path, "--draft")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert lines(refused)[-1].endswith("draft is for artifacts exported with --input views; leave it out")


# Interruption


def test_pictures_of_every_uncommon_kind(views_artifact: Path, tmp_path: Path) -> None:
    """The list of the issue: all scored, nothing on stderr."""
    base = Image.fromarray(np.arange(60 * 80 * 3, dtype=np.uint32).reshape(60, 80, 3).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    base.save(tmp_path / "exif.jpg", exif=exif)
    base.convert("CMYK").save(tmp_path / "cmyk.jpg")
    base.convert("P").save(tmp_path / "palette.png", transparency=bytes(range(256)))
    base.convert("L").save(tmp_path / "grey.png")
    base.convert("RGBA").save(tmp_path / "alpha.webp")
    base.save(tmp_path / "animated.gif", save_all=True, append_images=[base.rotate(90)])
    Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13).save(tmp_path / "16bit.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "1x1.png")
    Image.new("RGB", (20000, 8)).save(tmp_path / "wide.png")
    Image.new("1", (10000, 9000)).save(tmp_path / "between-the-limits.png")
    result = infer("--model", views_artifact, *sorted(tmp_path.iterdir()))
    assert (result.returncode, lines(result)) == (0, [])
    assert all(row["score"] for row in csv_rows(result.stdout))
