"""The sweep runs every combination in a process of its own, which sees the cores it was given."""

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.latency import QUICK as LATENCY
from glia_bench.latency import measure_latency
from glia_bench.measure import in_fresh_process, peak_memory_bytes
from glia_bench.results import read_run
from glia_bench.roofline import measure_roofline
from glia_bench.subjects import Spec
from glia_bench.throughput import QUICK, Point, Setting, measure_setting, measure_throughput
from glia_runtime.backends.base import usable_cpus
from glia_runtime.errors import BackendError, GliaError, UsageError
from glia_runtime.manifest import Limits, read_manifest
from tests.glia_bench.subjects import recorder, subject
from tests.glia_runtime.artifacts import rewrite


def hold(megabytes: int) -> int:
    block = bytearray(megabytes << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    return peak_memory_bytes()


def refuse() -> None:
    raise UsageError("model.onnx: no such thing")


def die() -> None:
    os._exit(1)


def test_peak_memory_is_that_of_one_process() -> None:
    large = in_fresh_process(hold, 200)
    small = in_fresh_process(hold, 1)  # after the large one, and does not see it
    assert large - small > 150 << 20


def test_a_process_may_use_the_cores_it_is_given() -> None:
    before = os.sched_getaffinity(0)
    assert in_fresh_process(usable_cpus, cores=1) == 1
    assert in_fresh_process(usable_cpus, cores=len(before)) == usable_cpus()
    assert os.sched_getaffinity(0) == before  # of this process nothing was taken


def test_errors_come_back_from_the_process() -> None:
    with pytest.raises(GliaError, match=r"model\.onnx: no such thing"):
        in_fresh_process(refuse)
    with pytest.raises(BackendError, match="process died"):
        in_fresh_process(die)


@pytest.mark.parametrize("kind", ["views", "image"])
def test_a_batch_takes_the_files_over_and_over(
    kind: str, photographs: list[Path], request: pytest.FixtureRequest
) -> None:
    artifact = request.getfixturevalue(f"{kind}_artifact")
    inputs = subject(artifact).batch(photographs, 7)
    assert {len(array) for array in inputs.values()} == {7}
    point = measure_setting(Setting(Spec(str(artifact), "cpu"), 7, 1), photographs, QUICK)
    assert len(point.seconds) >= QUICK.repeats and point.memory_bytes > 1 << 20


def test_more_cores_than_there_are_are_refused(views_artifact: Path) -> None:
    wanted = str(usable_cpus() + 14)
    done = CliRunner().invoke(app, ["throughput", "--model", str(views_artifact), "--quick", "--cores", wanted])
    assert done.exit_code == 2 and f"--cores {wanted}: this process may use {usable_cpus()}" in done.output


def test_a_batch_over_the_artifacts_limit_says_so(
    views_artifact: Path, photographs: list[Path], tmp_path: Path
) -> None:
    small = tmp_path / "small.onnx"
    small.write_bytes(views_artifact.read_bytes())
    rewrite(small, read_manifest(views_artifact), limits=Limits(max_batch=2))
    measured, recording = subject(small), recorder()
    assert (measured.at_once(1), measured.at_once(8)) == (1, 2)
    options: dict[str, Any] = {"quick": True, "step": lambda step: None}
    measure_roofline(recording, [measured], photographs, [1, 4], None, **options)
    run = recording.finish()
    assert [item.metric for item in run.measurements] == ["engine rate, batch 1", "engine rate, batch 4 in parts of 2"]
    measure_latency(
        recording,
        measured,
        photographs,
        ["Offline"],
        LATENCY,
        max_batch=8,
        target_seconds=1,
        ceilings=None,
        step=lambda step: None,
    )
    run = recording.finish()
    assert run.measurements[-1].facts["batch"] == 2 and any("takes 2 pictures at once" in note for note in run.notes)


def test_a_setting_that_fails_is_a_failed_part(
    views_artifact: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh(function: object, setting: Setting, *_: object, **__: object) -> Point:
        if setting.batch == 1:
            raise BackendError("the measuring process died")
        return Point((1.0, 2.0), 1 << 20, None, 12.0)

    monkeypatch.setattr("glia_bench.throughput.in_fresh_process", fresh)
    recording, specs = recorder(), {Spec(str(views_artifact)): subject(views_artifact)}
    measure_throughput(recording, specs, photographs, [1, 2], [1], QUICK, None, lambda step: None)
    run = recording.finish()
    assert recording.has_failed and any("batch 1, 1 cores failed: the measuring" in note for note in run.notes)
    rate, memory, energy = run.measurements
    assert (rate.metric, rate.samples) == ("rate, batch 2, 1 cores", (2.0, 1.0))
    assert (memory.metric, memory.samples) == ("peak memory, batch 2, 1 cores", (1 << 20,))
    assert (energy.metric, energy.samples) == ("energy a picture, batch 2, 1 cores", (3.0,))  # two runs of two


def test_the_command_sweeps(views_artifact: Path, image_artifact: Path, tmp_path: Path) -> None:
    models = ["--model", str(views_artifact), "--model", str(image_artifact), "--model", str(tmp_path / "none.onnx")]
    output, html = tmp_path / "run.json", tmp_path / "run.html"
    options = ["--batch", "1", "--batch", "3", "--cores", "1", "--quick", "-o", str(output), "--html", str(html)]
    done = CliRunner().invoke(app, ["throughput", *models, *options])
    assert done.exit_code == 2, done.output  # none.onnx is a part that failed
    run = read_run(output)
    rates = [item for item in run.measurements if item.unit == "images/s"]
    assert [(item.facts["input"], item.facts["batch"]) for item in rates] == [
        ("views", 1),
        ("views", 3),
        ("image", 1),
        ("image", 3),
    ]
    assert all(min(item.samples) > 0 for item in rates)
    assert sum(item.metric.startswith("peak memory") for item in run.measurements) == 4
    assert any("none.onnx" in note for note in run.notes)
    assert html.read_text().count("data:image/svg+xml;base64,") == 1
