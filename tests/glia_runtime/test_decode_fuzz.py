"""Damaged files of every format: no crash, no hang, and no pixels that Pillow does not vouch for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.glia_runtime import decode_fuzz

FILES = 300
"""As many as take a few seconds; `python -m tests.glia_runtime.decode_fuzz 10000` is the long form."""


def test_damaged_files() -> None:
    """In a process of its own, which a crash or a hang would end."""
    command = [sys.executable, "-m", "tests.glia_runtime.decode_fuzz", str(FILES)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The mutations are neither all fatal nor all harmless.
    assert "decoded by both" in done.stdout
    assert "refused by both" in done.stdout


def test_undamaged_files_decode() -> None:
    files = decode_fuzz.seeds()
    assert len(files) >= 26
    assert [decode_fuzz.check(data) for data in files] == ["decoded by both"] * len(files)
