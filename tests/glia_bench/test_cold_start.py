"""The cold-start benchmark runs and tells a slow command from a fast one."""

import json
import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

from glia_bench import cold_start


def test_measures_and_records(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(cold_start.main)
    output = tmp_path / "result.json"
    result = CliRunner().invoke(app, ["--repeats", "1", "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "glia-infer small.jpg" in result.output
    stored = json.loads(output.read_text())
    # A process that imports ONNX Runtime and then does more cannot take half the time of one that only imports it.
    assert stored["ratio"] > 0.5
    assert all(len(values) == 1 for values in stored["seconds"].values())


def test_sees_a_slow_process() -> None:
    fast = cold_start.seconds([sys.executable, "-c", "pass"])
    slow = cold_start.seconds([sys.executable, "-c", "import time; time.sleep(1.0)"])
    assert slow > 1.0 and slow > fast
