"""The cold-start benchmark runs whole processes and tells a slow one from a fast one."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.cold_start import run_process
from glia_bench.measure import seconds
from glia_bench.results import read_run


def test_measures_and_records(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    result = CliRunner().invoke(app, ["cold-start", "--quick", "--output", str(output)])
    assert result.exit_code == 0, result.output
    alone, _, whole = read_run(output).measurements
    assert whole.subject == "glia-infer PICTURE"
    # A process that imports ONNX Runtime and then does more cannot take half the time of one that only imports it.
    assert whole.median > 0.5 * alone.median
    assert len(whole.samples) == len(alone.samples) == 3


def test_the_users_model_is_not_the_one_that_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIA_MODEL", "mine.onnx")
    run_process([sys.executable, "-c", "import os; assert 'GLIA_MODEL' not in os.environ"])


def test_sees_a_slow_process() -> None:
    fast = seconds(lambda: run_process([sys.executable, "-c", "pass"]))
    slow = seconds(lambda: run_process([sys.executable, "-c", "import time; time.sleep(1.0)"]))
    assert slow > 1.0 and slow > fast
