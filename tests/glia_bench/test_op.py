"""Every form of the operator that is timed makes the same mosaic as the reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.op import SIZES, _fragment_forms, _view_forms
from glia_bench.results import read_run
from glia_runtime.fragments import fragment_sample
from glia_runtime.views import sample_views
from tests.shapes import noise_image

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def test_the_forms_that_are_timed_compute_the_mosaic() -> None:
    image = noise_image(301, 402)
    reference = fragment_sample(image)
    forms = _fragment_forms(image)
    assert len(forms) >= 5
    for name, form in forms.items():
        made = form()
        if "normalised" in name:
            continue  # other numbers on purpose; tests/glia/test_ops.py
        mosaic = np.asarray(made[0] if isinstance(made, list) else made).reshape(reference.shape)
        assert np.array_equal(mosaic, reference), name


def test_the_view_pairs_agree() -> None:
    image = noise_image(301, 402)
    semantic, detail = sample_views(image)
    pillow, graph = (form() for form in _view_forms(image).values())
    assert isinstance(pillow, tuple) and isinstance(graph, tuple)
    assert np.array_equal(pillow[0], semantic) and np.array_equal(pillow[1], detail)
    assert np.abs(graph[0][0].numpy() - semantic).max() <= 1  # see glia_export.resize
    assert np.array_equal(graph[1][0].numpy(), detail)


def test_the_command(tmp_path: Path) -> None:
    output = tmp_path / "op.json"
    done = CliRunner().invoke(app, ["op", "--quick", "-o", str(output)])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert {item.facts["size"] for item in run.measurements} == {f"{w}x{h}" for h, w in SIZES[:2]}
    # Nothing that really gathers is faster than a copy of the same bytes; a form that did nothing would be.
    assert all(item.facts["limit"] < item.median for item in run.measurements)


@pytest.mark.gpu
@needs_gpu
def test_the_triton_kernel_is_timed_on_a_gpu() -> None:
    forms = _fragment_forms(noise_image(301, 402))
    (name,) = [name for name in forms if "Triton" in name]
    forms[name]()
