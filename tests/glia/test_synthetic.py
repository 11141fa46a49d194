"""Drawn pictures, distortions and labels: deterministic, well-formed, and worse with every level."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import piq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import prewitt
from scipy.stats import kurtosis, spearmanr
from skimage.metrics import structural_similarity

from glia.data import list_datasets, open_dataset
from glia.data.synthetic import (
    COMMON_DISTORTIONS,
    DISTORTIONS,
    KADID_DISTORTIONS,
    LEVELS,
    SyntheticDataset,
    distort,
    draw_picture,
    quality,
)
from glia.data.synthetic.labels import ssim, vif
from glia.data.synthetic.pictures import _shading, _strewn, _tiled
from glia_runtime.errors import UsageError

# Its first three pictures have colour, since changes of colour do nothing to grey ones, and none is striped all over:
# shifted by a whole period, stripes are where they were.
SEED = 11
PICTURES = [draw_picture(SEED, index) for index in range(3)]


def test_pictures_repeat_and_differ() -> None:
    assert np.array_equal(draw_picture(SEED, 1), PICTURES[1])
    assert not np.array_equal(draw_picture(SEED + 1, 1), PICTURES[1])
    for picture in PICTURES:
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
        assert min(picture.shape[:2]) >= 256 and max(picture.shape[:2]) <= 512
        assert picture.std() > 10


def amplitude_slope(luma: np.ndarray) -> float:
    """How steeply the amplitude spectrum of the central square falls: a in 1/f**a, from a line fitted to its rings."""
    side = min(luma.shape)
    window = np.hanning(side)
    square = luma[:side, :side]
    power = np.abs(np.fft.fft2((square - square.mean()) * window * window[:, None])) ** 2
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    edges = np.geomspace(4 / side, 0.4, 12)
    rings = [(frequency >= low) & (frequency < high) for low, high in pairwise(edges)]
    frequencies = [np.log(frequency[ring].mean()) for ring in rings]
    amplitudes = [np.log(power[ring].mean()) / 2 for ring in rings]
    return float(-np.polyfit(frequencies, amplitudes, 1)[0])


def test_pictures_have_the_statistics_of_photographs() -> None:
    slopes, tails, mutedness, dark, light = [], [], [], [], []
    for index in range(64):
        picture = draw_picture(3, index).astype(float)
        luma = picture @ (0.299, 0.587, 0.114)
        slopes.append(amplitude_slope(np.log(luma + 1)))
        # Those measured had no shadows cut off, at the edges of which the logarithm jumps.
        kept = (luma > 3) & (luma < 252)
        dark.append(np.mean(luma <= 3))
        light.append(np.mean(luma >= 252))
        tails.append(kurtosis(np.diff(np.log(luma + 1), axis=1)[kept[:, 1:] & kept[:, :-1]]))
        mutedness.append(luma.std() / max((picture - luma[..., None]).std(), 1))
    # photographs: 1.2 on average, 0.8 to 1.5 (Tolhurst, Tadmor and Chao, 1992); the median of 64 is good to 0.05
    assert np.median(slopes) == pytest.approx(1.2, abs=0.2)
    # photographs: an excess of 14 (Huang and Mumford, 1999), with a factor of two and more between collections
    assert 7 < np.median(tails) < 40
    # lightness varies most (Ruderman, Cronin and Chiao, 1998): 2.3 times as much as colour in the median of 47
    # photographs from Python packages; the median of 64 drawings is good to a sixth; less colourful ones were at 4.4
    assert 2 < np.median(mutedness) < 3.1
    # those 47 lose 1.0 +- 0.4 % to black and 1.2 +- 0.6 % to white, most of it in a few; drawings here 0.5 and 0.6 %
    assert 0.005 < np.mean(dark) < 0.02
    assert 0.003 < np.mean(light) < 0.025


def test_kadids_25_types_and_downscaling() -> None:
    assert len(set(KADID_DISTORTIONS)) == 25
    assert set(DISTORTIONS) == {*KADID_DISTORTIONS, "downscale"}


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distortions_repeat_keep_the_shape_and_get_worse(name: str) -> None:
    ranks = []
    for picture in PICTURES:
        assert np.array_equal(distort(picture, name, 0, np.random.default_rng(0)), picture)
        series = [distort(picture, name, level, np.random.default_rng(0)) for level in LEVELS]
        assert np.array_equal(series[2], distort(picture, name, LEVELS[2], np.random.default_rng(0)))
        assert all(image.shape == picture.shape and image.dtype == np.uint8 for image in series)
        ranks.append(spearmanr(LEVELS, [quality(picture, image) for image in series]).statistic)
    # Blocks and patches fall where they fall, so two neighbouring levels may swap in one picture of three.
    assert np.mean(ranks) < -0.9


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(DISTORTIONS)),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    level=st.floats(0, 5),
    seed=st.integers(0, 99),
)
def test_distortions_take_any_size(name: str, height: int, width: int, level: float, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert distort(picture, name, level, np.random.default_rng(seed)).shape == picture.shape


def test_white_noise_has_the_variance_it_names() -> None:
    grey = np.full((400, 400, 3), 128, np.uint8)
    noisy = distort(grey, "white_noise", 3, np.random.default_rng(0)).astype(float)
    # 480,000 samples: the estimate of sigma is good to 0.1 %; rounding to 8 bits adds 1/12 to the variance.
    assert noisy.std() == pytest.approx(20, rel=0.01)


def test_gaussian_blur_is_scipys() -> None:
    from scipy.ndimage import gaussian_filter

    picture = PICTURES[0]
    expected = np.stack([gaussian_filter(picture[..., c].astype(float), 1.8) for c in range(3)], -1)
    blurred = distort(picture, "gaussian_blur", 3, np.random.default_rng(0))
    # ours cuts the kernel at 3 sigma instead of 4, and both round
    assert np.abs(blurred - expected).max() < 2


def test_identical_pictures_are_perfect() -> None:
    assert quality(PICTURES[0], PICTURES[0]) == pytest.approx(100, abs=1e-3)  # float32 inside piq


def test_the_label_is_the_mean_of_five_metrics() -> None:
    """Two of them by other people's code: SSIM as scikit-image has it, GMSD as its paper writes it."""
    picture = PICTURES[0][:282, :330]  # even sides: of odd ones piq's GMSD fills up the last row, and ours drops it
    damaged = distort(picture, "jpeg", 4, np.random.default_rng(0))
    x, y = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 for image in (damaged, picture))
    ssim = structural_similarity(
        picture, damaged, channel_axis=2, gaussian_weights=True, use_sample_covariance=False, data_range=255
    )
    gmsd = gradient_magnitude_deviation(picture, damaged)
    mdsi, others = float(piq.mdsi(x, y)), float(piq.haarpsi(x, y)) + float(piq.vif_p(x, y))
    expected = 20 * (ssim + others + (1 - mdsi / 0.6) + (1 - gmsd / 0.35))
    # SSIM and VIF to the bounds of the next test, of which the label has a fifth times 100.
    assert quality(picture, damaged) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", ["gaussian_blur", "white_noise", "contrast_change", "quantization", "color_block"])
def test_ssim_and_vif_are_piqs(name: str) -> None:
    for picture in (PICTURES[1], PICTURES[2][:41, :60], np.kron(PICTURES[0], np.ones((2, 2, 1), np.uint8))):
        damaged = distort(picture, name, 4, np.random.default_rng(0))
        x, y = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 for image in (damaged, picture))
        # Variances are differences of float32 squares: of values to 1, and of grey levels to 255 beside a noise of 2.
        assert ssim(x, y) == pytest.approx(float(piq.ssim(x, y)), abs=1e-4)
        assert vif(x, y) == pytest.approx(float(piq.vif_p(x, y)), abs=1e-3)


def test_a_picture_too_small_for_vif_is_refused() -> None:
    with pytest.raises(ValueError, match="60x40 is too small"):
        quality(PICTURES[0][:40, :60], PICTURES[0][:40, :60])


def gradient_magnitude_deviation(reference: np.ndarray, damaged: np.ndarray) -> float:
    """GMSD (Xue et al., 2014, section II), of luminance as piq takes it, at half the size."""
    magnitudes = []
    for image in (reference, damaged):
        luma = image @ np.array([0.299, 0.587, 0.114])
        height, width = (side // 2 * 2 for side in luma.shape)
        half = luma[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
        magnitudes.append(np.hypot(prewitt(half, 0, mode="constant"), prewitt(half, 1, mode="constant")) / 3)
    first, second = magnitudes
    similarity = (2 * first * second + 170) / (first**2 + second**2 + 170)
    return float(similarity.std())


def test_dataset_is_deterministic_in_any_order_and_length(tmp_path: Path) -> None:
    short, long = SyntheticDataset(8, seed=7), SyntheticDataset(9, seed=7, cache=tmp_path)
    assert len(short) == 48
    indices = [47, 0, 7, 6]
    for index in indices:
        plain, cached = short[index], long[index]
        again = SyntheticDataset(9, seed=7, cache=tmp_path)[index]
        assert np.array_equal(plain.image, cached.image) and np.array_equal(again.image, cached.image)
        assert plain.score == cached.score == again.score and plain.level == again.level
        assert plain.reference == cached.reference and plain.distortion == again.distortion
    assert short[5].reference != short[6].reference
    with pytest.raises(IndexError):
        short[48]


@pytest.mark.parametrize("texture", [_strewn, _tiled])
def test_textures_of_things_are_periodic_and_full(texture: Callable[[np.random.Generator], np.ndarray]) -> None:
    for seed in range(8):
        tile = texture(np.random.default_rng(seed))
        # Not few specks on nothing: what is rare stands far out at unit variance.
        assert tile.std() == pytest.approx(1, abs=1e-3) and np.abs(tile).max() < 10
        for axis in (0, 1):
            steps = np.abs(tile - np.roll(tile, 1, axis)).mean(1 - axis)
            # A row may begin where the tile does: then the step there is like that between any two rows.
            assert steps[0] < 1.5 * steps[1:].max()


def test_light_stays_finite_far_from_a_small_leaf() -> None:
    # Half a pixel large, and bent outlines show it 280 pixels away: unbounded, its log light is 48 or -104 there.
    leaf_of = np.ones((200, 200), np.int32)
    for seed in range(4):
        light = np.exp(_shading(np.random.default_rng(seed), np.array([300, 0.5]), np.zeros((2, 2)), leaf_of))
        assert np.exp(-2) * 0.999 < light.min() < light.max() < np.exp(2) * 1.001  # float32's rounding


def test_series_rise_from_the_picture_itself() -> None:
    dataset = SyntheticDataset(1, seed=7)
    series = [dataset[index] for index in dataset.groups[0]]
    assert [sample.level == 0 for sample in series] == [True] + [False] * 5
    assert [sample.distortion for sample in series] == ["", *[dataset._distortion(0)] * 5]
    levels = [sample.level for sample in series]
    assert levels == sorted(levels)
    assert np.array_equal(series[0].image, draw_picture(7, 0)) and series[0].score == pytest.approx(100, abs=1e-3)


def test_a_round_shows_every_type_and_common_and_hard_ones_in_more_pictures() -> None:
    dataset = SyntheticDataset(76, seed=0)
    twice = {*COMMON_DISTORTIONS, "color_diffusion", "darken", "mean_shift", "high_sharpen"}
    thrice = {"motion_blur", "non_eccentricity_patch"}
    for first in (0, 38):
        names = [dataset._distortion(series) for series in range(first, first + 38)]
        assert Counter(names) == {name: 3 if name in thrice else 2 if name in twice else 1 for name in DISTORTIONS}


def test_a_damaged_cache_is_rendered_again(tmp_path: Path) -> None:
    dataset = SyntheticDataset(1, seed=7, cache=tmp_path)
    whole = dataset[0]
    (stored,) = tmp_path.rglob("*.npz")
    for damage in (b"", stored.read_bytes()[:1000]):
        stored.write_bytes(damage)
        again = SyntheticDataset(1, seed=7, cache=tmp_path)[0]
        assert np.array_equal(again.image, whole.image) and again.score == whole.score


def test_datasets_by_name() -> None:
    files = {"csiq", "csv", "flive", "hf", "kadid", "koniq", "live", "livec", "spaq", "tid2013"}
    assert set(list_datasets()) >= files | {"synthetic"}
    assert len(open_dataset("synthetic", pictures=2, seed=0)) == 12
    assert len(open_dataset("synthetic")) == 2 * 6 * len(DISTORTIONS)
    with pytest.raises(UsageError, match=r"'synthetic' has no option picture; known: pictures, seed"):
        open_dataset("synthetic", picture=2)
    with pytest.raises(UsageError, match=r"'live' has no option pictures; known: none"):
        open_dataset("live", "anywhere", pictures=2)
    with pytest.raises(UsageError, match=r"known: .*synthetic"):
        open_dataset("sinthetic")
