"""LoadGen's scenarios over real backends; what it reports is what is kept."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.latency import PERCENTILES, QUICK, SCENARIOS, measure_latency, percentiles
from glia_bench.loadgen import MULTI_STREAM_SAMPLES, Load, Outcome, Scenario, run_scenario
from glia_bench.results import Measurement, read_run
from glia_bench.roofline import Ceilings
from glia_runtime.errors import ImageError
from glia_runtime.scorer import BUNDLED_MODEL
from tests.glia_bench.subjects import recorder, subject

PAUSE = 0.004


def test_latencies_are_those_of_the_work() -> None:
    outcome = run_scenario(lambda indices: time.sleep(PAUSE), 3, Load("SingleStream", 30, 0.05))
    assert len(outcome.latencies) >= 30
    assert outcome.report["result_query_count"] == len(outcome.latencies)
    assert min(outcome.latencies) >= PAUSE
    # The samples are read from the trace, the percentiles from the report: two logs of one run.
    for key, value in percentiles(outcome.report).items():
        exact = np.percentile(outcome.latencies, float(key), method="higher")
        assert value == pytest.approx(exact, rel=1e-6) or value in outcome.latencies
    assert max(outcome.latencies) == pytest.approx(outcome.report["result_max_latency_ns"] / 1e9)


def test_a_multi_stream_query_is_one_batch_of_eight() -> None:
    batches: list[list[int]] = []
    outcome = run_scenario(batches.append, 5, Load("MultiStream", 4, 0.01))
    assert {len(batch) for batch in batches} == {MULTI_STREAM_SAMPLES}
    assert len(batches) == len(outcome.latencies) >= 4
    assert {index for batch in batches for index in batch} <= set(range(5))


def test_offline_cuts_one_query_into_batches() -> None:
    batches: list[list[int]] = []
    outcome = run_scenario(batches.append, 5, Load("Offline", 1, 0.1, max_batch=4, expected_rate=300))
    assert sum(map(len, batches)) == len(outcome.latencies) >= 30
    assert max(map(len, batches)) == 4


def test_server_batches_what_waits_and_knows_when_it_is_too_slow() -> None:
    batches: list[list[int]] = []

    def work(indices: list[int]) -> None:
        batches.append(indices)
        time.sleep(PAUSE)

    easy = run_scenario(work, 5, Load("Server", 20, 0.2, max_batch=8, expected_rate=20, target_seconds=1.0))
    assert easy.meets_target
    batches.clear()
    # Five times as many queries as one at a time can be worked on: they wait, and then go together.
    hard = run_scenario(work, 5, Load("Server", 100, 0.1, 8, expected_rate=5 / PAUSE, target_seconds=PAUSE / 4))
    assert not hard.meets_target and not hard.valid
    assert 1 < max(map(len, batches)) <= 8
    assert sum(map(len, batches)) == len(hard.latencies)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_failure_in_the_work_reaches_the_caller(scenario: str) -> None:
    def broken(indices: list[int]) -> None:
        raise ImageError("broken.jpg: is broken")

    with pytest.raises(ImageError, match="is broken"):
        run_scenario(broken, 3, Load(scenario, 3, 0.01, 2, 50.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["views", "image"])
def test_every_scenario_over_every_kind_of_graph(
    kind: str, photographs: list[Path], request: pytest.FixtureRequest
) -> None:
    measured = subject(request.getfixturevalue(f"{kind}_artifact"))
    recording = recorder()
    measure_latency(
        recording,
        measured,
        photographs,
        SCENARIOS,
        QUICK,
        max_batch=4,
        target_seconds=1.0,
        ceilings=None,
        step=lambda step: None,
    )
    by_metric: dict[str, Measurement] = {item.metric: item for item in recording.finish().measurements}
    assert {f"SingleStream {scope} latency" for scope in ("host", "engine", "file")} <= set(by_metric)
    assert {"MultiStream engine latency", "Server engine rate", "Offline engine rate"} <= set(by_metric)
    # The whole cannot be faster than either part at its fastest.
    whole = by_metric["SingleStream file latency"].median
    assert whole > min(by_metric["SingleStream host latency"].samples)
    assert whole > min(by_metric["SingleStream engine latency"].samples)
    assert by_metric["Server engine rate"].median > 0  # a second is ample for a graph of microseconds
    assert by_metric["Server engine rate"].facts["trials"]


def test_the_engines_rows_name_their_limit(photographs: list[Path]) -> None:
    recording = recorder()
    # So slow that operations alone are the limit.
    options: dict[str, Any] = {"ceilings": Ceilings("cpu", {"fp32": 1e9}, copy=1e15), "step": lambda step: None}
    scenarios: list[Scenario] = ["SingleStream", "MultiStream", "Offline"]
    bundled = subject(BUNDLED_MODEL)
    measure_latency(recording, bundled, photographs, scenarios, QUICK, max_batch=4, target_seconds=None, **options)
    facts = {item.metric: item.facts for item in recording.finish().measurements}
    seconds = facts["SingleStream engine latency"]["flops"] / 1e9
    limits = {metric: row["limit"] for metric, row in facts.items() if "limit" in row}
    assert limits == {
        "SingleStream engine latency": pytest.approx(seconds),
        "MultiStream engine latency": pytest.approx(MULTI_STREAM_SAMPLES * seconds),
        "Offline engine rate": pytest.approx(1 / seconds),
    }


def test_the_servers_rate_is_valid_to_loadgen(views_artifact: Path, photographs: list[Path]) -> None:
    recording = recorder()
    effort = replace(QUICK, strict=True)
    options: dict[str, Any] = {"max_batch": 4, "target_seconds": 1.0, "ceilings": None, "step": lambda step: None}
    measure_latency(recording, subject(views_artifact), photographs, ["Server"], effort, **options)
    rate, latency = recording.finish().measurements
    # Whatever the short runs found, the last one was long enough for LoadGen to judge.
    assert rate.facts["trials"][-1]["loadgen"] == "VALID"
    assert rate.median == rate.facts["trials"][-1]["rate"] and len(latency.samples) > 459


def test_the_search_ends_where_no_rate_meets_the_bound(views_artifact: Path, photographs: list[Path]) -> None:
    recording = recorder()
    effort = replace(QUICK, trials=100)
    options: dict[str, Any] = {"max_batch": 4, "target_seconds": 1e-9, "ceilings": None, "step": lambda step: None}
    measure_latency(recording, subject(views_artifact), photographs, ["Server"], effort, **options)
    run = recording.finish()
    assert not run.measurements
    (note,) = (note for note in run.notes if "at none of the rates tried" in note)
    rates = note.split("tried (")[1].split(" images/s")[0].split(", ")
    assert len(rates) == 4  # 0.6, 0.3, 0.15 and 0.075 of what the engine can do


def test_a_rate_that_loadgen_calls_invalid_is_not_confirmed_and_no_row(
    views_artifact: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def scenario(work: object, pictures: int, load: Load) -> Outcome:
        report = {"result_validity": "INVALID", "result_perf_constraints_met": True}
        return Outcome((0.1,), {**report, **{f"result_{p:.2f}_percentile_latency_ns": 1e8 for p in PERCENTILES}})

    monkeypatch.setattr("glia_bench.latency.run_scenario", scenario)
    recording = recorder()
    options: dict[str, Any] = {"max_batch": 4, "target_seconds": 1.0, "ceilings": None, "step": lambda step: None}
    effort = replace(QUICK, strict=True)
    measure_latency(recording, subject(views_artifact), photographs, ["Server"], effort, **options)
    run = recording.finish()
    assert not run.measurements
    (note,) = (note for note in run.notes if "Server" in note)
    assert "has no confirmed rate: 1000.0 ms was met on few queries" in note and "none of the rates" not in note


def test_the_command(views_artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    output, table = tmp_path / "run.json", tmp_path / "run.csv"
    options = ["--images", str(photographs[0].parent), "--scenario", "SingleStream", "--quick"]
    done = CliRunner().invoke(
        app, ["latency", "--model", str(views_artifact), *options, "-o", str(output), "--csv", str(table)]
    )
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert run.settings["quick"] is True
    assert "SingleStream engine latency" in done.output
    assert len(table.read_text().splitlines()) == 1 + sum(len(item.samples) for item in run.measurements)


def test_an_artifact_that_cannot_run_here_is_refused_in_one_line(views_artifact: Path, tmp_path: Path) -> None:
    broken = tmp_path / "views.onnx"
    content = bytearray(views_artifact.read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    manifest = views_artifact.with_name("views.onnx.json")
    (tmp_path / "views.onnx.json").write_bytes(manifest.read_bytes())
    done = CliRunner().invoke(app, ["latency", "--model", str(broken), "--quick"])
    assert done.exit_code == 2
    assert "SHA-256" in done.output and "Traceback" not in done.output
    # One of several is left out, and the result says so.
    both = ["--model", str(broken), "--model", str(views_artifact), "--scenario", "Offline"]
    kept = CliRunner().invoke(app, ["latency", *both, "--quick", "-o", str(tmp_path / "run.json")])
    assert kept.exit_code == 0, kept.output
    assert any("left out" in note for note in json.loads((tmp_path / "run.json").read_text())["notes"])
