"""A result is kept whole: every sample, the machine, and nothing that a reader would have to believe."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glia_bench.machine import this_machine
from glia_bench.results import SCHEMA, Measurement, Run, read_run, unsteadiness, write_csv, write_run
from glia_runtime.errors import UsageError
from tests.glia_bench.subjects import recorder, run_of

samples = st.lists(st.floats(-1e12, 1e12, allow_nan=False), min_size=1, max_size=40).map(tuple)


@settings(max_examples=30, deadline=None)
@given(st.lists(samples, min_size=1, max_size=4), st.text(max_size=20))
def test_a_run_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, lists: list[tuple[float, ...]], name: str
) -> None:
    path = tmp_path_factory.mktemp("run") / "run.json"
    items = tuple(
        Measurement(name, f"{index}", "s", "lower", values, {"nested": [1, None, name]})
        for index, values in enumerate(lists)
    )
    run = Run("test", "now", this_machine(), {"quick": True}, items, (name,), (0.1, 0.2))
    write_run(run, path)
    assert read_run(path) == run


def test_the_csv_holds_every_sample_to_the_last_bit(tmp_path: Path) -> None:
    run = run_of(0.1, 1 / 3, 2e-9)
    write_csv(run, tmp_path / "run.csv")
    rows = list(csv.DictReader((tmp_path / "run.csv").read_text().splitlines()))
    assert tuple(float(row["sample"]) for row in rows) == run.measurements[0].samples
    assert [row["index"] for row in rows] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "glia-bench/9"}, "schema"),
        ({"measurements": 3}, "measurements"),
        ({"machine": {}}, "machine.cpu"),
        ({"extra": 1}, "extra"),
    ],
)
def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(run_of(1.0).to_json()), **change}))
    with pytest.raises(UsageError, match=reason) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


def test_a_measurement_without_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(run_of(1.0).to_json().replace('"samples": [1.0]', '"samples": []'))
    with pytest.raises(UsageError, match=r"measurements\[0\].samples is empty"):
        read_run(path)


def test_the_machine_is_recorded() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.versions["numpy"]
    assert "core" in machine.about()
    assert json.loads(run_of(1.0).to_json())["schema"] == SCHEMA


def test_a_few_outliers_make_no_restless_machine_and_a_drift_does() -> None:
    quiet = tuple(1 + 0.01 * (index % 5) for index in range(60))
    interrupted = (*quiet[:10], 9.0, *quiet[10:40], 12.0, *quiet[40:])
    assert not Measurement("a", "m", "s", "lower", interrupted).is_noisy
    slower = (*quiet[:30], *(1.1 * sample for sample in quiet[30:]))
    assert Measurement("a", "m", "s", "lower", slower).is_noisy
    spread = tuple(1 + 0.1 * (index % 5) for index in range(60))
    assert Measurement("a", "m", "s", "lower", spread).is_noisy
    assert unsteadiness(quiet, interrupted) == pytest.approx(unsteadiness(quiet) or 0.0, abs=0.01)
    assert (unsteadiness(quiet, [1.2 * sample for sample in quiet]) or 0.0) > 0.15  # before and after
    often = tuple(2.0 if index % 5 in (1, 3) else 1.0 for index in range(100))  # 40 % take exactly twice as long
    assert unsteadiness(often) == pytest.approx(0.5)
    assert unsteadiness((1.0, 2.0)) is None and unsteadiness((0.0,) * 9) is None


def test_the_spread_of_normal_samples_is_their_coefficient_of_variation() -> None:
    samples = np.random.default_rng(0).normal(10.0, 0.8, 20000).tolist()
    assert unsteadiness(samples) == pytest.approx(0.08, rel=0.03)


def test_a_quantity_is_measured_once() -> None:
    recording, item = recorder(), Measurement("model.onnx (openvino)", "latency", "s", "lower", (1.0,))
    recording.add(item)
    with pytest.raises(UsageError, match=r"model\.onnx \(openvino\), latency: measured twice"):
        recording.add(replace(item, samples=(2.0,)))
    recording.add(replace(item, metric="rate"))
    assert len(recording.finish().measurements) == 2


def test_a_restless_machine_is_called_one() -> None:
    said: list[str] = []
    recording = recorder(said)
    quiet = recording.add(Measurement("a", "quiet", "s", "lower", (1.0, 1.01, 0.99, 1.0)))
    assert not quiet.is_noisy and not said
    recording.add(Measurement("a", "restless", "s", "lower", (1.0, 2.0, 0.5, 1.0)))
    assert len(said) == 1 and "not quiet" in said[0] and "restless" in said[0]
    # Files of many sizes do not take equally long on the quietest machine.
    recording.add(Measurement("a", "files", "s", "lower", (1.0, 2.0, 0.5, 1.0), {"mixed": True}))
    assert len(said) == 1
    run = recording.finish()
    assert said[0] in run.notes
    assert len(run.fixed_work) > 20 and min(run.fixed_work) > 0
