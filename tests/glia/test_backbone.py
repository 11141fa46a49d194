"""The pretext that trains a backbone from nothing: what it is shown, and what it is asked."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from glia.data.synthetic import SyntheticDataset, distort, draw_picture
from glia.data.views import scoring_views
from glia.models.backbone import create_backbone, input_statistics
from glia.training.backbone import (
    DAMAGE,
    STATISTICS,
    BackbonePretraining,
    patch_damage,
    patch_statistics,
    split,
    turned,
    undistorted,
    whiten_patch_embedding,
)
from glia_runtime.view_spec import FragmentViews


def test_whitening_gives_patches_unit_variance() -> None:
    backbone = create_backbone("test_vit", 224)
    mean, std = input_statistics(backbone)
    dataset = SyntheticDataset(7)
    views = torch.stack([scoring_views(dataset[index], FragmentViews())[1] for index in range(0, 40, 4)])
    whiten_patch_embedding(backbone, mean, std, views)
    with torch.no_grad():
        tokens = backbone.patch_embed(((views.float() - mean) / std).permute(0, 3, 1, 2)).flatten(0, -2)
    leading = tokens[:, : tokens.shape[1] // 2]
    # principal components of the very patches measured: uncorrelated, variance 1 to float32 accuracy of 768 sums
    covariance = torch.cov(leading.T)
    torch.testing.assert_close(covariance, torch.eye(len(covariance)), atol=2e-2, rtol=0)
    assert tokens.mean(0).abs().max() < 1e-2


def test_pretraining_runs_the_backbone_as_timm_does() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("test_vit", 224)
    mean, std = input_statistics(backbone)
    pretraining = BackbonePretraining(backbone, mean, std, 3).eval()
    view = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    patches = split(view, 16)
    order = torch.randperm(patches.shape[1])
    score, logits, told = pretraining(patches[:, order], order.expand(2, -1))
    features = backbone.forward_features(((view.float() - mean) / std).permute(0, 3, 1, 2))
    # float32 sums in another order; values are of order one
    torch.testing.assert_close(pretraining.score(features[:, 0]).squeeze(-1), score, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pretraining.distortion(features[:, 0]), logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pretraining.patch(features[:, 1:])[:, order], told, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pretraining.predict(view), score, atol=1e-5, rtol=1e-4)


def test_a_batch_is_turned_as_one_in_four_ways_that_a_mirror_makes_eight() -> None:
    torch.manual_seed(0)
    views = torch.arange(384).view(2, 8, 8, 3)
    seen = {turned(views).contiguous().numpy().tobytes() for _ in range(50)}  # one is missed twice in a million runs
    assert seen == {w.contiguous().numpy().tobytes() for v in (views, views.transpose(1, 2)) for w in (v, v.flip(1))}


def test_every_sample_finds_its_undistorted_picture() -> None:
    group = torch.tensor([7, 7, 7, 2, 2, 5])
    level = torch.tensor([1.0, 0.0, 4.0, 0.0, 3.0, torch.nan])
    origin, paired = undistorted(group, level)
    assert paired.tolist() == [True, True, True, True, True, False]
    assert origin[:5].tolist() == [1, 1, 1, 3, 3]


def test_patch_damage_is_what_its_names_say() -> None:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 4, (16, 16)), 1) + 128
    grey = np.repeat(smooth[..., None], 3, -1)
    noisy = grey + rng.normal(0, 10, (16, 16, 1))
    red = grey.copy()
    red[..., 0] += 30
    blurred = np.repeat(gaussian_filter(smooth, 2)[..., None], 3, -1)
    cases = {"same": grey, "noisy": noisy, "red": red, "blurred": blurred, "bright": grey + 16}
    patches = torch.from_numpy(np.stack(list(cases.values())))
    found = patch_damage(patches, torch.from_numpy(grey).expand_as(patches))
    damage = {case: dict(zip(DAMAGE, row.tolist(), strict=True)) for case, row in zip(cases, found, strict=True)}
    assert damage["same"] == {
        "luma error": 0,
        "chroma error": 0,
        "structure": pytest.approx(1),
        "brightness": 0,
        "sharpness": 0,
    }
    error = (noisy - grey)[..., 0]
    covariance = np.cov(noisy[..., 0].ravel(), smooth.ravel(), bias=True)
    constant = (0.03 * 255) ** 2
    expected = (2 * covariance[0, 1] + constant) / (np.trace(covariance) + constant)
    assert damage["noisy"]["luma error"] == pytest.approx(np.log1p(np.sqrt((error**2).mean())), rel=1e-5)
    assert damage["noisy"]["structure"] == pytest.approx(expected, rel=1e-4)  # float32 sums of 256
    assert damage["noisy"]["chroma error"] == pytest.approx(0, abs=1e-3)  # the luma weights sum to 1 in float32
    assert damage["blurred"]["sharpness"] < -0.5 and damage["noisy"]["sharpness"] > 0.5
    assert damage["bright"]["brightness"] == pytest.approx(0.5, abs=1e-5)
    assert damage["red"]["chroma error"] > 2 > damage["red"]["luma error"] - 1


@pytest.mark.parametrize("phase", [0, 3, 7])
def test_patch_statistics_see_the_grid_of_a_jpeg(phase: int) -> None:
    picture = draw_picture(0, 5)
    jpeg = distort(picture, "jpeg", 4, np.random.default_rng(0))
    # The last row of a block is `phase` rows into a patch, the last column of one 7 columns into it.
    views = torch.from_numpy(np.stack([image[7 - phase :][:224, :224] for image in (picture, jpeg)]))
    before, after = patch_statistics(split(views, 16)).mean(1)
    gain = dict(zip(STATISTICS, (after - before).tolist(), strict=True))
    down = [gain[f"edge down {row}"] for row in range(8)]
    across = [gain[f"edge across {column}"] for column in range(8)]
    assert np.argmax(down) == phase and np.argmax(across) == 7
    assert min(down[phase], across[7]) > 1
    assert gain["flatness down"] > 0.1 and gain["flatness across"] > 0.1


def test_patch_statistics_are_their_definitions() -> None:
    rng = np.random.default_rng(0)
    patch = rng.integers(0, 256, (16, 16, 3)).astype(np.float64)
    patch[:, 4] = patch[:, 5]
    found = dict(zip(STATISTICS, patch_statistics(torch.from_numpy(patch)).tolist(), strict=True))
    luma = patch @ [0.299, 0.587, 0.114]
    down, across = np.abs(np.diff(luma, axis=0)), np.abs(np.diff(luma, axis=1))
    assert found["sharpness"] == pytest.approx(np.log1p((down.mean() + across.mean()) / 2), rel=1e-5)
    assert found["colour"] == pytest.approx(np.log1p(np.sqrt(((patch - luma[..., None]) ** 2).mean())), rel=1e-5)
    assert found["flatness across"] == pytest.approx((across < 1).mean())
    assert found["flatness across"] >= 1 / 15
    columns = np.log1p([across[:, column::8].mean() for column in range(8)])
    assert [found[f"edge across {column}"] for column in range(8)] == pytest.approx(
        3 * (columns - columns.mean()), abs=1e-4
    )
    small = patch_statistics(torch.from_numpy(patch[:8, :8]))
    assert torch.isfinite(small).all()
