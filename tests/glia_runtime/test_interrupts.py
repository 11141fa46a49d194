"""Ctrl-C: one line, exit status 130, and what was scored stays."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.glia_runtime.test_cli import CHOICE, COMMAND, HEADER, infer, lines


def test_ctrl_c(views_artifact: Path, pictures: list[Path]) -> None:
    """Interrupted while it waits for more paths: one line, status 130."""
    process = subprocess.Popen(
        [*COMMAND, "--model", str(views_artifact), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"".join(os.fsencode(path) + b"\n" for path in pictures * 20))
    process.stdin.flush()
    assert process.stdout.readline() == HEADER
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=600) == 130
    assert process.stderr.read().decode().splitlines() == [CHOICE, "glia-infer: interrupted"]
    rest = process.stdout.read()
    assert rest == b"" or rest.endswith(b"\n")
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


@pytest.mark.parametrize(
    "how", ["raise ImportError('initialization failed') from interrupt", "raise ImportError(repr(interrupt))"]
)
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_ctrl_c_while_an_engine_is_imported(
    views_artifact: Path, pictures: list[Path], tmp_path: Path, how: str, device: str
) -> None:
    """A compiled library turns it into an ImportError: no traceback, and no other engine in place of this one."""
    (tmp_path / "onnxruntime.py").write_text(
        f"try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt as interrupt:\n    {how}\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = infer("--model", views_artifact, "--device", device, pictures[0], env={**os.environ, "PYTHONPATH": paths})
    assert (result.returncode, result.stdout, lines(result)) == (130, b"", ["glia-infer: interrupted"])
