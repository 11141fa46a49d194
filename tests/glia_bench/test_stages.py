"""Every stage is seen, and what is slow shows in the stage where it is slow."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.results import Measurement, read_run
from glia_bench.stages import STAGES, measure_stages, without_orientation
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.decode import decode
from glia_runtime.inputs import Inputs
from tests.glia_bench.subjects import recorder, subject

PAUSE = 0.05


class SleepyBackend(OnnxRuntimeBackend):
    """Takes `PAUSE` seconds longer for every batch."""

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        time.sleep(PAUSE)
        return super()._run(inputs)


def stages_of(
    artifact: Path, photographs: list[Path], backend: type[OnnxRuntimeBackend] = OnnxRuntimeBackend
) -> dict[str, Measurement]:
    recording = recorder()
    measure_stages(recording, subject(artifact, backend), photographs, batch_size=2, step=lambda step: None)
    return {item.metric: item for item in recording.finish().measurements}


def test_the_orientation_is_taken_out_and_nothing_else(photographs: list[Path]) -> None:
    turned = photographs[4].read_bytes()
    upright = without_orientation(turned)
    assert sum(a != b for a, b in zip(turned, upright, strict=True)) == 1
    assert np.array_equal(decode(turned), np.rot90(decode(upright), -1))
    plain = photographs[0].read_bytes()
    assert without_orientation(plain) is plain


def test_every_stage_has_one_sample_a_picture(image_artifact: Path, photographs: list[Path]) -> None:
    found = stages_of(image_artifact, photographs)
    assert [name for name in found if found[name].facts.get("stage")] == list(STAGES)
    assert {len(found[stage].samples) for stage in STAGES} == {len(photographs)}
    assert all(sample >= 0 for stage in STAGES for sample in found[stage].samples)
    assert found["orient"].samples[:4] == (0.0,) * 4  # nothing to turn there
    assert found["decode"].median > found["output"].median  # a row of text against a JPEG


def test_a_slow_backend_shows_as_inference_and_as_waiting(views_artifact: Path, photographs: list[Path]) -> None:
    found = stages_of(views_artifact, photographs, SleepyBackend)
    assert found["inference"].median >= PAUSE / 2  # two pictures share a batch
    # The last picture's batch has to wait for at least one batch before it.
    assert found["queue"].samples[-1] > PAUSE / 2
    assert found["stream, wall time a picture"].median > PAUSE / 2


def test_the_command_draws_one_picture(views_artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    output, html = tmp_path / "stages.json", tmp_path / "stages.html"
    folder = str(photographs[0].parent)
    options = ["--images", folder, "--quick", "-o", str(output), "--html", str(html)]
    done = CliRunner().invoke(app, ["stages", "--model", str(views_artifact), *options])
    assert done.exit_code == 0, done.output
    assert {item.metric for item in read_run(output).measurements} >= set(STAGES)
    assert html.read_text().count("data:image/svg+xml;base64,") == 1
