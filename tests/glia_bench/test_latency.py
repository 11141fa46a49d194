"""LoadGen's scenarios over real backends; what it reports is what is kept."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.latency import PERCENTILES, QUICK, SCENARIOS, measure_latency, measured_percentiles, percentiles
from glia_bench.loadgen import MULTI_STREAM_SAMPLES, Load, Outcome, run_scenario
from glia_bench.results import Measurement, read_run
from glia_bench.roofline import MACHINE, Ceilings
from glia_bench.subjects import Subject
from glia_bench.tables import measurements_table
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import read_manifest
from glia_runtime.scorer import BUNDLED_MODEL
from tests.glia_bench.subjects import recorder, run_of, subject

PAUSE = 0.004


def test_latencies_are_those_of_the_work() -> None:
    pauses = cycle([PAUSE, 2 * PAUSE, 3 * PAUSE])
    outcome = run_scenario(lambda indices: time.sleep(next(pauses)), 3, Load("SingleStream", 30, 0.05))
    ordered = sorted(outcome.latencies)
    assert len(ordered) >= 30 and outcome.report["result_query_count"] == len(ordered)
    # The samples are read from the trace, the percentiles from the report: two logs of one run.
    found = percentiles(outcome.report)
    assert found == {str(percent): ordered[len(ordered) * percent // 100] for percent in PERCENTILES}
    assert PAUSE <= ordered[0] < found["50"] < found["90"] and ordered[-1] == found["99"]
    assert max(outcome.latencies) == pytest.approx(outcome.report["result_max_latency_ns"] / 1e9)


def test_a_percentile_is_shown_where_the_samples_suffice() -> None:
    known = {"percentiles": {"50": 1.0, "90": 2.0, "99": 3.0}}
    shown = {
        count: measured_percentiles(Measurement("a", "latency", "s", "lower", (1.0,) * count, known))
        for count in (63, 64, 661, 662)
    }
    assert [sorted(found) for found in shown.values()] == [["50"], ["50", "90"], ["50", "90"], ["50", "90", "99"]]
    few = Measurement("a", "latency", "s", "lower", tuple(float(number) for number in range(101)))
    assert measured_percentiles(few) == {"50": 50.0, "90": 90.0}
    _, row = measurements_table(replace(run_of(1.0), measurements=(few,)))
    assert row[2:5] == ["50000 ms", "90000 ms", ""]


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


def test_the_engines_rows_name_their_limit(photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu(OnnxRuntimeBackend):
        """So it is said below; nothing runs."""

        def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
            time.sleep(0.001)
            return np.zeros(len(inputs["detail"]))

    class Timer:
        """A GPU's, on none."""

        def start(self) -> None:
            pass

        def stop(self) -> float:
            return 1.0

    monkeypatch.setattr("glia_bench.nvidia.has_events", lambda: True)
    monkeypatch.setattr("glia_bench.nvidia.CudaTimer", Timer)
    recording, bundled = recorder(), subject(BUNDLED_MODEL, OnGpu)
    bundled.backend.device = "cuda"
    # So slow that operations alone are the limit.
    options: dict[str, Any] = {"ceilings": Ceilings("cuda", {"fp32": 1e9}, copy=1e15), "step": lambda step: None}
    effort = replace(QUICK, queries=3, trials=1)
    measure_latency(recording, bundled, photographs, SCENARIOS, effort, max_batch=2, target_seconds=60.0, **options)
    facts = {item.metric: item.facts for item in recording.finish().measurements}
    seconds = facts["SingleStream engine latency"]["flops"] / 1e9
    limits = {metric: row["limit"] for metric, row in facts.items() if "limit" in row}
    assert limits == {
        "SingleStream engine latency": pytest.approx(seconds),
        "engine latency by CUDA events": pytest.approx(seconds),
        "MultiStream engine latency": pytest.approx(MULTI_STREAM_SAMPLES * seconds),
        "Server engine rate": pytest.approx(1 / seconds),
        "Offline engine rate": pytest.approx(1 / seconds),
    }


class Watched(OnnxRuntimeBackend):
    """Keeps the shape of each batch; every third is done at once, the others take 20 ms."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shapes: list[tuple[int, ...]] = []

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        self.shapes.append(next(iter(inputs.values())).shape)
        time.sleep(0.02 * bool(len(self.shapes) % 3))
        return super()._run(inputs)


def stand_in(report: dict[str, Any], *latencies: float) -> Outcome:
    """What LoadGen could have said."""
    times = {f"result_{percent:.2f}_percentile_latency_ns": 1e8 for percent in PERCENTILES}
    return Outcome(latencies, {"result_validity": "VALID", "result_perf_constraints_met": True, **times, **report})


def test_every_scenario_is_warmed_up_on_its_own_shapes(
    image_artifact: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Watched(image_artifact, read_manifest(image_artifact), "cpu")
    warmed: dict[str, set[tuple[int, ...]]] = {}
    targets: list[float] = []

    def scenario(work: object, pictures: int, load: Load) -> Outcome:
        warmed.setdefault(load.scenario, set()).update(backend.shapes)
        backend.shapes.clear()
        targets.append(load.target_seconds)
        return stand_in({}, 0.1)

    monkeypatch.setattr("glia_bench.latency.run_scenario", scenario)
    options: dict[str, Any] = {"max_batch": 3, "target_seconds": None, "ceilings": None, "step": lambda step: None}
    for name in SCENARIOS:
        measure_latency(recorder(), Subject("a", backend), photographs, [name], QUICK, **options)
    single = {(1, *decode(path).shape) for path in photographs}
    assert warmed["SingleStream"] == single and len(single) == len(photographs)
    assert {shape[0] for shape in warmed["MultiStream"]} == {MULTI_STREAM_SAMPLES}
    assert {shape[0] for shape in warmed["Server"]} == {1, 2, 3} and single < warmed["Server"]
    assert {shape[0] for shape in warmed["Offline"]} == {3}
    # Server alone: four times the median of the engine's calls, and not of its fastest.
    assert 0.08 < targets[-2] < 8.0


def test_what_loadgen_calls_invalid_is_said(
    views_artifact: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = " * Only processed 25 queries.\n * Need to process at least 662 queries for early stopping."
    report = {"result_validity": "INVALID", "result_invalid_reason": "", "early_stopping_result": few}
    monkeypatch.setattr("glia_bench.latency.run_scenario", lambda *_: stand_in(report, 0.1))
    options: dict[str, Any] = {"max_batch": 4, "target_seconds": 1.0, "ceilings": None, "step": lambda step: None}
    notes = {}
    for strict in (True, False):
        recording = recorder()
        effort = replace(QUICK, strict=strict)
        measure_latency(recording, subject(views_artifact), photographs, ["MultiStream"], effort, **options)
        notes[strict] = [note for note in recording.finish().notes if "INVALID" in note]
    assert notes == {
        True: [
            "views.onnx: LoadGen calls MultiStream INVALID: Only processed 25 queries. "
            "Need to process at least 662 queries for early stopping."
        ],
        False: [],
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


@pytest.mark.parametrize("valid_at", [1, 3, 6])
def test_a_rate_is_confirmed_downwards(
    valid_at: int, views_artifact: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed: list[float] = []

    def scenario(work: object, pictures: int, load: Load) -> Outcome:
        if load.min_queries > 662:
            confirmed.append(load.expected_rate)
        return stand_in({"result_validity": "VALID" if len(confirmed) == valid_at else "INVALID"}, 0.1)

    monkeypatch.setattr("glia_bench.latency.run_scenario", scenario)
    recording = recorder()
    options: dict[str, Any] = {"max_batch": 4, "target_seconds": 1.0, "ceilings": None, "step": lambda step: None}
    effort = replace(QUICK, strict=True)
    measure_latency(recording, subject(views_artifact), photographs, ["Server"], effort, **options)
    run = recording.finish()
    assert confirmed == pytest.approx([confirmed[0] * 0.85**count for count in range(min(valid_at, 5))])
    if valid_at > 5:
        assert not run.measurements
        (note,) = (note for note in run.notes if "Server" in note)
        assert "has no confirmed rate: 1000.0 ms was met on few queries" in note and "none of the rates" not in note
        return
    rate = run.measurements[0]
    assert rate.samples == (confirmed[-1],)
    assert rate.facts["failed_at"] == confirmed[-2] if valid_at > 1 else rate.facts["failed_at"] > confirmed[0]


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
    ceilings = [item for item in run.measurements if item.facts.get("ceiling")]
    assert {item.subject for item in ceilings} == {MACHINE} and "copy bandwidth" in {item.metric for item in ceilings}
    assert len(table.read_text().splitlines()) == 1 + sum(len(item.samples) for item in run.measurements)


@pytest.mark.parametrize("bound", ["0", "-1"])
def test_a_bound_of_nothing_is_refused(bound: str) -> None:
    done = CliRunner().invoke(app, ["latency", "--quick", "--target-ms", bound])
    assert done.exit_code == 2 and "--target-ms" in done.output


@pytest.mark.parametrize("missing", ["torch", "timm"])
def test_the_command_without_what_limits_take(missing: str, views_artifact: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from glia_bench.cli import app; app()"
    options = ["--scenario", "Offline", "--quick", "-o", str(tmp_path / "run.json")]
    command = [sys.executable, "-c", code, "latency", "--model", str(views_artifact), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run.json")
    assert [item.metric for item in run.measurements] == ["Offline engine rate"]
    assert any("takes PyTorch" in note for note in run.notes)


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
    # One of several is left out, and the result and the status say so.
    both = ["--model", str(broken), "--model", str(views_artifact), "--scenario", "Offline"]
    kept = CliRunner().invoke(app, ["latency", *both, "--quick", "-o", str(tmp_path / "run.json")])
    assert kept.exit_code == 2 and "Offline engine rate" in kept.output
    assert any("left out" in note for note in json.loads((tmp_path / "run.json").read_text())["notes"])
