"""Every form of the operator that is timed makes the same mosaic as the reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import glia.ops
from glia_bench.cli import app
from glia_bench.op import _MEAN, _STD, SIZES, Form, bytes_of, eager_views, fragment_forms, view_forms
from glia_bench.results import read_run
from glia_runtime.fragments import fragment_sample
from glia_runtime.views import sample_views
from tests.shapes import noise_image

MOSAIC = 224 * 224 * 3

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def made_by(form: Form) -> Any:
    """What a form returns: an array, or several."""
    return form()


def test_the_forms_that_are_timed_compute_the_mosaic() -> None:
    image = noise_image(301, 402)
    reference = fragment_sample(image)
    forms = fragment_forms([torch.from_numpy(image)], torch.float32)
    assert len(forms) == 6 and "fragments: in the graph (OpenVINO, float)" in forms
    for name, form in forms.items():
        made = form()
        if "normalised" in name:
            continue  # other numbers on purpose; tests/glia/test_ops.py
        mosaic = np.asarray(made[0] if isinstance(made, list) else made).reshape(reference.shape)
        assert np.array_equal(mosaic, reference), name


def test_the_view_pairs_agree() -> None:
    image = noise_image(301, 402)
    semantic, detail = sample_views(image)
    forms = view_forms([torch.from_numpy(image)], torch.float32)
    in_graph = [f"views: in the graph ({engine})" for engine in ("PyTorch", "ONNX Runtime, float", "OpenVINO, float")]
    normalised = [name for name in forms if "normalised" in name]  # other numbers on purpose; tests/glia/test_ops.py
    assert {*forms} == {"views: Pillow and NumPy (runtime)", *in_graph, *normalised} and len(normalised) == 3
    for name in {*forms} - {*normalised}:
        whole, mosaic = (np.asarray(view, dtype=np.float32).reshape(semantic.shape) for view in made_by(forms[name]))
        assert np.abs(whole - semantic).max() <= (name in in_graph), name  # see glia.ops.resize
        assert np.array_equal(mosaic, detail), name


def test_a_floor_counts_the_bytes_that_the_form_writes() -> None:
    image = noise_image(301, 402)
    mosaic = fragment_sample(image).size
    forms = fragment_forms([torch.from_numpy(image)] * 2, torch.float32)
    written = {name: bytes_of(form()) for name, form in forms.items()}
    assert written["fragments: NumPy reference"] == mosaic
    assert written["fragments: ONNX function (ONNX Runtime, float)"] == 4 * mosaic
    # Those that take a batch make two.
    assert written["fragments: torch.ops.glia.fragment_sample"] == 2 * mosaic
    assert written["fragments: ragged, normalised (PyTorch)"] == 2 * 4 * mosaic


def test_one_launch_makes_what_the_eager_steps_make() -> None:
    images = [torch.from_numpy(noise_image(230, 301)) for _ in range(2)]
    fused = glia.ops.ragged_views(*glia.ops.pack_ragged(images), mean=_MEAN, std=_STD, dtype=torch.float16)
    padded = view_forms(images, torch.float16)["views: padded, normalised (PyTorch)"]()
    assert isinstance(padded, tuple) and all(map(torch.equal, padded, fused))
    eager = eager_views(images, torch.float16)
    semantic, detail = ((ours.float() - theirs.float()).abs().max() for ours, theirs in zip(fused, eager, strict=True))
    # PyTorch neither rounds nor clamps between the passes: on noise, which overshoots everywhere, up to 20 grey levels
    # of 1/57. The fragments differ by float16's rounding. Another picture or another flip would differ by a hundred.
    assert semantic < 20 / 57 and detail < 5e-3


def test_the_command(tmp_path: Path) -> None:
    output = tmp_path / "op.json"
    done = CliRunner().invoke(app, ["op", "--device", "cpu", "--quick", "-o", str(output)])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert {item.facts["size"] for item in run.measurements} == {f"{w}x{h}" for h, w in SIZES["cpu"][:2]}
    # Nothing that really gathers is faster than a copy of the same bytes; a form that did nothing would be.
    assert all(item.facts["limit"] < item.median for item in run.measurements)
    height, width = SIZES["cpu"][0]
    found = {item.subject: item.facts for item in run.measurements if item.metric == f"{width}x{height}"}
    moved = {name: facts["floor_bytes"] for name, facts in found.items()}
    assert moved["fragments: NumPy reference"] == 2 * MOSAIC
    assert moved["fragments: in the graph (OpenVINO, float)"] == (1 + 4) * MOSAIC
    assert moved["views: Pillow and NumPy (runtime)"] == height * width * 3 + 2 * MOSAIC
    assert moved["views: in the graph (ONNX Runtime, float)"] == height * width * 3 + 2 * 4 * MOSAIC
    limits = {name: facts["limit"] for name, facts in found.items()}
    assert limits["fragments: in the graph (OpenVINO, float)"] > limits["fragments: NumPy reference"]
    assert any("the TensorRT plugin (by this command never)" in note for note in run.notes)


@pytest.mark.gpu
@needs_gpu
def test_a_batch_is_measured_on_a_gpu(tmp_path: Path) -> None:
    output = tmp_path / "op.json"
    done = CliRunner().invoke(app, ["op", "--device", "cuda", "--quick", "-o", str(output)])
    assert done.exit_code == 0, done.output
    launch, *forms = read_run(output).measurements
    assert launch.metric == "launch of a kernel"
    assert sum("Triton" in item.subject for item in forms) == 3
    assert all(item.facts["pictures"] == 64 and item.facts["limit"] >= launch.median for item in forms)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    done = CliRunner().invoke(app, ["op", "--device", "cuda", "--quick"])
    assert done.exit_code == 2
    assert "PyTorch sees no GPU here" in done.output and "Traceback" not in done.output
