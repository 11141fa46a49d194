"""The stream is measured beside its stages, on what it was asked for, and says what draft costs in scores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.plots import run_plot
from glia_bench.results import read_run
from glia_bench.roofline import MACHINE, Ceilings
from glia_bench.stream import BACKEND, DECODE, DRAFT, PILLOW, STREAM, measure_stream, resized
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.errors import ImageError
from glia_runtime.inputs import Inputs
from glia_runtime.scorer import BUNDLED_MODEL
from tests.glia_bench.subjects import recorder, subject


def test_the_command(views_artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.full((300, 400, 3), 9, np.uint8)).save(folder / "grey.jpg")
    output, html = tmp_path / "stream.json", tmp_path / "stream.html"
    options = ["--images", str(folder), "--megapixels", "1", "--count", "9", "--quick"]
    files = ["--output", str(output), "--html", str(html)]
    done = CliRunner().invoke(app, ["stream", "--model", str(views_artifact), *options, *files])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert (run.settings["count"], run.settings["images"], run.settings["megapixels"]) == (9, "1 of images", 1.0)
    found = {item.metric: item for item in run.measurements}
    rates = [item.metric for item in run.measurements if item.unit == "images/s"]
    assert rates == [BACKEND, DECODE, PILLOW, STREAM, DRAFT]
    assert "copy bandwidth" in {item.metric for item in run.measurements if item.subject == MACHINE}
    for name in (STREAM, DRAFT):
        for alone in (BACKEND, DECODE):
            for ratio, whole, part in zip(
                *(found[metric].samples for metric in (f"{name} / {alone}", name, alone)), strict=True
            ):
                assert ratio == pytest.approx(whole / part)
    assert found["draft, largest score difference"].median == pytest.approx(0, abs=1e-6)  # a picture of one colour
    assert f"{STREAM} / {DECODE}" in done.stdout
    # Every rate is a bar of its own, all of one subject; the machine's limits are none.
    assert html.read_text().count("data:image/svg+xml;base64,") == 1
    models = tuple(item for item in run.measurements if item.subject != MACHINE)
    assert run_plot(run) == run_plot(replace(run, measurements=models))


def test_the_graph_alone_names_its_limit(photographs: list[Path]) -> None:
    recording = recorder()
    ceilings = Ceilings("cpu", {"fp32": 1e9}, copy=1e15)  # so slow that operations alone are the limit
    measure_stream(recording, subject(BUNDLED_MODEL), photographs[:2], repeats=1, ceilings=ceilings)
    limits = {item.metric: item.facts for item in recording.finish().measurements if "limit" in item.facts}
    assert list(limits) == [BACKEND]
    assert limits[BACKEND]["limit"] == pytest.approx(1e9 / limits[BACKEND]["flops"])


def test_draft_is_left_out_where_the_graph_makes_the_views(image_artifact: Path, photographs: list[Path]) -> None:
    recording = recorder()
    measure_stream(recording, subject(image_artifact), photographs, repeats=1, ceilings=None)
    assert not [item for item in recording.finish().measurements if "draft" in item.metric]


def test_the_backend_is_given_as_many_pictures_as_the_stream(views_artifact: Path, photographs: list[Path]) -> None:
    seen: list[int] = []

    class Counting(OnnxRuntimeBackend):
        def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
            seen.append(len(next(iter(inputs.values()))))
            return super()._run(inputs)

    measure_stream(recorder(), subject(views_artifact, Counting), photographs * 4, repeats=1, ceilings=None)
    # In batches of 8 of 20 pictures: alone, warm-up and round; the stream and draft likewise, and both once for scores.
    assert seen == [8, 8, 4] * 8


def test_a_picture_that_fails_is_no_fast_picture(views_artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photographs[0].read_bytes()[:100])
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        measure_stream(recorder(), subject(views_artifact), [photographs[0], broken], repeats=1, ceilings=None)


def test_pictures_are_resized_in_their_own_shape(photographs: list[Path]) -> None:
    with resized(photographs[:1], 0.5) as (path,), Image.open(photographs[0]) as small, Image.open(path) as large:
        assert large.width * large.height == pytest.approx(0.5e6, rel=0.01)
        assert large.width / large.height == pytest.approx(small.width / small.height, rel=0.01)
    assert not path.exists()
    with resized(photographs, None) as same:
        assert same == photographs
