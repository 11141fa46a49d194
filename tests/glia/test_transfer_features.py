"""What a transfer compares pictures by, and what drawn references are worth."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from glia.data.synthetic import KADID_DISTORTIONS, LEVELS, DrawnFor, distort, draw_picture, quality
from glia.transfer.backbone import Backbone, nearest
from glia.transfer.labelled import Drawn, label_series
from glia_runtime.errors import CheckpointError, ImageError, UsageError
from tests.glia.transfers import BACKBONE, blob, save_weights


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(tmp_path_factory.mktemp("weights") / "backbone.safetensors")


def test_the_nearest_are_those_of_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    features, references = (rng.standard_normal((count, 7)).astype(np.float32) for count in (30, 11))
    features, references = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (features, references))
    similarities, numbers = nearest(torch.from_numpy(features), torch.from_numpy(references), 4)
    for row, (values, places) in enumerate(zip(similarities.tolist(), numbers.tolist(), strict=True)):
        cosines = [float(np.dot(features[row].astype(float), other)) for other in references]
        assert places == sorted(range(11), key=lambda place: -cosines[place])[:4]
        assert values == pytest.approx([cosines[place] for place in places], abs=1e-6)  # float32 sums of 7 products


def test_features_are_timms_of_any_size_and_batch(weights: Path) -> None:
    backbone = Backbone(BACKBONE, weights, random_will_do=False)
    assert str(weights) in backbone.remark
    pictures = [blob(1), blob(2, 90, 41), blob(3), blob(4, 33, 200)]
    together = backbone(pictures)
    model = timm.create_model(BACKBONE, num_classes=0).eval()
    model.load_state_dict(load_file(weights), strict=False)  # less the classifier
    config = cast("dict[str, tuple[float, ...]]", model.pretrained_cfg)
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    for picture, row in zip(pictures, together, strict=True):
        with torch.no_grad():
            expected = model(((torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255 - mean) / std)[None])[0]
        assert isinstance(row, torch.Tensor)
        # the order of float32 sums differs with batch and memory layout
        assert torch.allclose(row, expected / expected.norm(), atol=1e-5)


def test_random_features_are_the_same_every_time_and_nobody_elses_matter() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = Backbone("test_vit", None, random_will_do=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert "random weights" in first.remark
    torch.manual_seed(6)
    (one,), (other,) = first([blob(1)]), Backbone("test_vit", None, random_will_do=True)([blob(1)])
    assert isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and torch.equal(one, other)


def test_a_picture_too_small_for_the_backbone_does_not_stop_the_others() -> None:
    backbone = Backbone("test_convnext", None, random_will_do=True)
    first, icon, last = backbone([blob(1), blob(2, 16, 15), blob(3)])
    assert isinstance(icon, ImageError) and "15x16 pixels" in str(icon) and "\n" not in str(icon)
    assert isinstance(first, torch.Tensor) and isinstance(last, torch.Tensor)


def test_weights_and_backbones_that_will_not_do_are_refused(weights: Path) -> None:
    with pytest.raises(CheckpointError, match="not the weights of this backbone"):
        Backbone("test_convnext", weights, random_will_do=True)
    with pytest.raises(UsageError, match="one size only"):
        Backbone("test_maxvit", None, random_will_do=True)
    with pytest.raises(UsageError, match="no pretrained tag"):
        Backbone("resnet50.nothing", None, random_will_do=True)


def test_drawn_references_are_labelled_by_the_full_reference_metrics() -> None:
    drawn = Drawn(2)
    assert drawn.references == ["drawn-0", "drawn-1"]
    assert not np.array_equal(drawn.picture("drawn-0"), drawn.picture("drawn-1"))
    scores = label_series(1, "color_block")
    picture = drawn.picture("drawn-1")
    kind = KADID_DISTORTIONS.index("color_block")
    expected = [quality(picture, distort(picture, "color_block", n, np.random.default_rng((1, kind)))) for n in LEVELS]
    assert scores == expected
    for seed in set(DrawnFor) - {DrawnFor.TRANSFER}:
        assert not np.array_equal(picture, draw_picture(seed, 1))
