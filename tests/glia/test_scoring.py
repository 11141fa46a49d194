"""A checkpoint as a scorer: fed with views on the CPU, with whole pictures on a GPU."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from glia.evaluation import scoring
from glia.evaluation.scoring import EagerBackend, open_scorer
from glia.models import QualityModel, create_model, save_checkpoint
from glia_export.parity import BOUNDS, reference_scores
from glia_runtime.errors import BackendError
from glia_runtime.fragments import Image
from glia_runtime.scorer import Scorer
from glia_runtime.views import sample_views
from tests.glia.test_glintiqa import TINY
from tests.glia_export.conftest import spread_model
from tests.shapes import noise_image

NO_GPU = not torch.cuda.is_available()
# One to enlarge, and the others wide and tall, so that a batch has padding on both sides.
PICTURES = [noise_image(*shape) for shape in ((60, 90), (224, 500), (470, 230), (301, 300))]


@pytest.fixture(scope="module")
def model() -> QualityModel:
    return spread_model()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, model: QualityModel) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(model, path)
    return path


def check(scores: np.ndarray, model: QualityModel, images: list[Image]) -> None:
    """Compare with the model fed by the runtime's views: a few pixels of a resize may round to the next grey level."""
    expected = reference_scores(model, [sample_views(image) for image in images])
    bound = BOUNDS["fp32"].max_abs * model.score_scale.range
    assert np.diff(np.sort(expected)).min() > 10 * bound  # scores of other pictures would show
    assert np.abs(scores - expected).max() <= bound


def test_the_cpu_is_fed_with_views(checkpoint: Path, model: QualityModel) -> None:
    scorer = Scorer(EagerBackend(checkpoint, "cpu"))
    assert scorer.manifest.input == "views"
    check(scorer.score(PICTURES), model, PICTURES)


def test_whole_pictures(checkpoint: Path, model: QualityModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU is fed with, by the operator's plain form; its kernel is compared in tests/test_views.py."""
    graph_on = scoring._graph_on
    monkeypatch.setattr(scoring, "_graph_on", lambda device, model: graph_on("cuda", model))
    scorer = Scorer(EagerBackend(checkpoint, "cpu"))
    assert scorer.manifest.input == "image"
    check(scorer.score(PICTURES), model, PICTURES)
    # Its kernel would clamp the sides and say nothing.
    strip = ("strip", np.zeros((8, 20_000, 3), np.uint8))
    good, bad = scorer.stream([("good", PICTURES[1]), strip])
    assert good.error is None
    assert bad.error is not None and "enlarged to 560000x224, is over the artifact's limit of 32768x32768" in bad.error


def test_crops_are_made_on_the_host() -> None:
    model = create_model("glintiqa", **TINY)
    assert scoring._graph_on("cuda", model) == ("views", model)


def test_devices(checkpoint: Path) -> None:
    assert EagerBackend(checkpoint).device == ("cpu" if NO_GPU else "cuda")
    with pytest.raises(BackendError, match="device 'tpu' cannot run checkpoints; choose one of: auto, cpu, cuda"):
        EagerBackend(checkpoint, "tpu")
    if NO_GPU:
        with pytest.raises(BackendError, match=r"model\.pt: torch .* finds no CUDA GPU here; use device cpu"):
            EagerBackend(checkpoint, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="no NVIDIA GPU on this machine")
def test_a_gpu_makes_the_views_in_one_launch(checkpoint: Path, model: QualityModel) -> None:
    from glia.ops import views_triton

    scorer = open_scorer(str(checkpoint))
    assert (scorer.manifest.input, scorer._backend.device) == ("image", "cuda")
    with mock.patch.object(views_triton, "launch", wraps=views_triton.launch) as launch:
        scores = scorer.score(PICTURES)
    assert launch.call_count == 1
    assert all(tensor.is_cuda for tensor in launch.call_args.args[:4])
    check(scores, model, PICTURES)
