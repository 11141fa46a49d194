"""The command, as typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glia_export.cli import app
from glia_export.parity import MOST_PICTURES
from glia_export.targets import TARGETS, TargetInfo

COMMAND = Path(sys.executable).with_name("glia-export")


def test_help_teaches() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    for words in ("--to", "--precision", "--input", "--list", "model.onnx", "parity report", "Exit status"):
        assert words in " ".join(done.stdout.split())  # lines are wrapped
    for words in ("fp16-weights", f"{MOST_PICTURES} at most"):
        assert words in " ".join(done.stdout.split())


def test_list() -> None:
    done = CliRunner().invoke(app, ["--list"])
    assert done.exit_code == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert list(lines) == ["onnx", "torchscript", "trt", "trt-rtx", "pt2"]
    assert lines["onnx"].endswith("available") and lines["torchscript"].endswith("available")
    assert lines["pt2"].endswith("available")
    for name in ("trt", "trt-rtx"):
        assert lines[name].endswith(("available", "tensorrt_rtx not installed: pip install 'glia[trt-rtx]'"))


@pytest.mark.parametrize(
    ("packages", "instead", "reason"),
    [
        (("torch", "no_such_package"), None, "no_such_package not installed: pip install 'glia[export]'"),
        (("torch", "tensorrt_rtx"), None, "tensorrt_rtx not installed: pip install 'glia[trt-rtx]'"),
        (("onnx", "tensorrt_rtx"), None, "onnx, tensorrt_rtx not installed: pip install 'glia[export,trt-rtx]'"),
        (("torch", "tensorrt_rtx"), "tensorrt", None),
        (("onnx", "tensorrt_rtx"), "tensorrt", "onnx, tensorrt_rtx not installed: pip install 'glia[export,trt-rtx]'"),
    ],
)
def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], instead: str | None, reason: str | None
) -> None:
    monkeypatch.setattr("glia_export.targets.is_installed", lambda name: name in ("torch", "tensorrt"))
    info = TargetInfo("trt", ".engine", "", packages, ("fp32",), instead)
    assert info.unavailable == reason


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    lines = CliRunner().invoke(app, ["--list"]).stdout.splitlines()
    assert lines[-1].endswith(": no C++ compiler no-such-compiler: install g++, or name one in $CXX")


def test_the_targets_are_those_that_can_be_typed() -> None:
    from glia_export.cli import To

    assert [info.name for info in TARGETS] == [to.value for to in To]


def test_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0 and done.stdout.startswith("glia ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "MODEL is missing; for example"),
        (["model.pt"], "--to is missing; for example"),
        (["model.pt", "--to", "pt2"], "model.pt: no such file"),
        (["model.pt", "--to", "onnx", "--device", "cuda"], "--to onnx compiles for no device: leave out --device"),
        (["model.pt", "--to", "onnx"], "model.pt: no such file"),
        (["model.pt", "--to", "torchscript", "--precision", "bf16"], "fp32, fp16 only; for bf16 export --to trt"),
        (
            ["model.pt", "--to", "onnx", "--precision", "bf16"],
            "fp16-weights only; for bf16 export --to trt",
        ),
        (["model.pt", "--to", "onnx", "--max-batch", "8"], "--to onnx makes no engine: leave out"),
        (["model.pt", "--to", "onnx", "--plugin"], "--plugin is for --to trt with --input image"),
        (["model.pt", "--to", "onnx", "-o", "missing/m.onnx"], "missing/m.onnx: "),
    ],
)
def test_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and done.stdout == ""
    *steps, line = done.stderr.splitlines()
    assert words in line and len(steps) <= 1
    assert all(line.startswith("glia-export: ") for line in (*steps, line))
    assert list(tmp_path.iterdir()) == []


def test_an_export_as_typed(tmp_path: Path, checkpoint: Path, pictures: Path) -> None:
    """The default name, steps on stderr, the report on stdout; and warnings of libraries nowhere."""
    done = subprocess.run(
        [COMMAND, checkpoint, "--to", "torchscript", "--input", "views", "--images", pictures],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"model.ts", "model.ts.json"}
    assert done.stdout.startswith("model.ts  ") and "largest difference" in done.stdout
    assert "glia-infer --model model.ts" in done.stdout
    assert all(line.startswith("glia-export: ") for line in done.stderr.splitlines()), done.stderr
    assert done.stderr.count("skipped 1 of 7 pictures") == 1
    shown = subprocess.run(
        [COMMAND.with_name("glia-infer"), "--model", "model.ts", *sorted(pictures.glob("?.png"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0 and len(shown.stdout.splitlines()) == 7, shown.stderr
