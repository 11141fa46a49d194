"""What is OpenVINO's own: padding to few shapes, scores that stay when the next batch runs, one core for all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glia_runtime import Scorer
from glia_runtime.backends import open_backend
from glia_runtime.backends.openvino import _pad_to_grid
from glia_runtime.inputs import collate
from glia_runtime.manifest import read_manifest
from tests.glia_runtime.artifacts import expected_score
from tests.shapes import noise_image


@pytest.mark.parametrize(
    ("height", "width", "padded"), [(224, 224, (256, 256)), (256, 512, (256, 512)), (257, 511, (512, 512))]
)
def test_few_shapes_reach_the_graph(height: int, width: int, padded: tuple[int, int]) -> None:
    images = np.stack([noise_image(height, width)] * 2)
    made = _pad_to_grid(images)
    assert made.shape == (2, *padded, 3) and made.dtype == np.uint8
    assert np.array_equal(made[:, :height, :width], images)


def test_padding_is_not_scored(image_artifact: Path) -> None:
    images = [noise_image(height, width) for height, width in ((224, 224), (257, 511), (300, 256))]
    scores = Scorer.open(image_artifact, backend="openvino").score(images)
    # see test_scorer.CLOSE
    assert scores == pytest.approx([expected_score(image, "image") for image in images], abs=1e-5)


def test_scores_stay_when_the_next_batch_runs(image_artifact: Path) -> None:
    backend, *_ = open_backend(image_artifact, read_manifest(image_artifact), "cpu", "openvino")
    dark, bright = (collate([(np.full((224, 224, 3), grey, np.uint8),)], backend.manifest) for grey in (0, 255))
    first = backend.run(dark)
    assert backend.run(bright) == pytest.approx([1.0]) and first == pytest.approx([0.0])


def test_signals_survive_models_that_come_and_go(views_artifact: Path) -> None:
    """See `core`: with a core for each model the signal of the child's end ended Python itself."""
    program = f"""
import signal, subprocess, sys
from glia_runtime import Scorer
signal.signal(signal.SIGCHLD, lambda *_: None)
first, second = (Scorer.open({str(views_artifact)!r}, backend="openvino") for _ in range(2))
del first
del second
subprocess.run([sys.executable, "-c", ""], check=True)
"""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
