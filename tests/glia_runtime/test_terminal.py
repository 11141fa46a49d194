"""What ``glia-infer`` shows to people: the table, the progress line, an artifact's manifest."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.glia_runtime.test_cli import CHOICE, COMMAND, csv_rows, infer


def test_table_on_request(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / "[bold]\x1b[31m.png"
    odd.write_bytes(pictures[0].read_bytes())
    result = infer("--model", views_artifact, "--format", "table", odd, tmp_path / "missing.png")
    text = result.stdout.decode()
    assert "[bold]\\x1b[31m.png" in text
    assert "\x1b" not in text
    assert "failed" in text
    assert "scores from 0 to 1, higher is better (none)" in text


def shown_on_a_terminal(*arguments: str | Path, status: int, command: Sequence[str] = COMMAND) -> str:
    """All that a run writes to a terminal, escapes of colour taken out."""
    main, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen([*command, *arguments], stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(main, 65536):
            shown += data
    except OSError:  # the terminal closes with the process
        pass
    assert process.wait(timeout=600) == status
    os.close(main)
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode())


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_table_and_progress_on_a_terminal(views_artifact: Path, pictures: list[Path]) -> None:
    shown = shown_on_a_terminal("--model", views_artifact, pictures[0].parent, "missing.jpg", status=1)
    assert re.search(r"scoring \S+ +6/6 [\d.]+/s, 0:00:00 left 1 failed", shown)
    assert re.search(r"picture +score +quality +size", shown)
    assert re.search(r"0\.png +[\d.]+ +[\d.]+ +320x240", shown)
    assert "path,score" not in shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_rows_on_a_terminal_are_progress_enough(views_artifact: Path, pictures: list[Path]) -> None:
    shown = shown_on_a_terminal("--model", views_artifact, *pictures, "--format", "csv", status=0)
    assert "scoring" not in shown
    assert shown.splitlines()[0] == CHOICE
    assert shown.count("\n") == 2 + len(pictures)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_terminal_that_goes_away(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    """Under nohup: neither the progress line nor an error line that cannot be shown stops the run."""
    output = tmp_path / "scores.csv"
    main, terminal = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--model", views_artifact, "-", "--output", output],
        stdin=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(terminal)
    shown = b""
    while b"scoring" not in shown:
        shown += os.read(main, 65536)
    os.close(main)
    process.communicate(b"\n".join(os.fsencode(path) for path in [*pictures, tmp_path / "missing.png"] * 20))
    assert process.returncode == 1
    assert len(csv_rows(output.read_bytes())) == 120


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_an_error_is_one_line_beside_the_progress(views_artifact: Path, tmp_path: Path) -> None:
    name = "x" * 300
    shown = shown_on_a_terminal("--model", views_artifact, name, "-o", tmp_path / "scores.csv", status=1)
    assert f"glia-infer: {name}: " in shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_info_on_a_terminal(views_artifact: Path) -> None:
    shown = shown_on_a_terminal("--info", views_artifact, status=0)
    assert re.search(r"^ *scores +0 to 1, higher is better \(none\)", shown, re.MULTILINE)
    assert re.search(r"SHA-256 +[0-9a-f]{64} \(verified\)", shown)
