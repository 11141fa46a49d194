"""The 25 distortion types of KADID-10k (Lin et al., QoMEX 2019, Table 1) at five levels, and downscaling.

The types are KADID's; the levels are our own, spaced so that each is visibly worse than the one before.
Each function takes a real-valued level so that training sees what lies between the five. Level 0 leaves the
picture as it is. Where a type leaves something open (which way to shift, at what angle to blur) the choice
comes from the generator, so that one seed gives one series from mild to severe.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from skimage.draw import line_aa
from skimage.morphology import disk
from skimage.restoration import denoise_tv_chambolle

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Distortion = Callable[[Picture, float, np.random.Generator], Picture]

LEVELS = (1, 2, 3, 4, 5)


def _at(level: float, none: float, *levels: float) -> float:
    """The parameter at a real-valued level, linear between `none` (level 0) and the five given."""
    return float(np.interp(level, range(len(levels) + 1), (none, *levels)))


def _to_uint8(values: npt.NDArray[np.floating]) -> Picture:
    pixels: Picture = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


def _convolve(image: Picture, kernel: Floats) -> Picture:
    """Each channel convolved with a kernel of sum one; borders are mirrored."""
    rows, cols = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(image.astype(np.float32), ((rows, rows), (cols, cols), (0, 0)), mode="symmetric")
    return _to_uint8(fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1)))


def _gaussian(channel: Floats, sigma: float) -> Floats:
    blurred: Floats = gaussian_filter(channel, sigma, truncate=3.0)
    return blurred


def gaussian_blur(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    sigma = _at(level, 0, 0.6, 1.1, 1.8, 3.0, 5.0)
    return _to_uint8(gaussian_filter(image.astype(np.float32), (sigma, sigma, 0), truncate=3.0))


def lens_blur(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    # A disk of real-valued radius: drawn at four times the size and averaged down.
    radius = _at(level, 0, 1.0, 1.8, 2.8, 4.2, 6.5)
    half = int(np.ceil(radius))
    fine = disk(max(1, round(4 * radius)), dtype=np.float32)
    margin = (4 * (2 * half + 1) - fine.shape[0]) // 2
    extra = 4 * (2 * half + 1) - fine.shape[0] - margin
    fine = np.pad(fine, ((margin, extra), (margin, extra)))
    kernel = fine.reshape(2 * half + 1, 4, 2 * half + 1, 4).mean((1, 3))
    return _convolve(image, kernel / kernel.sum())


def motion_blur(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    length = _at(level, 0, 3.0, 5.5, 9.0, 14.0, 22.0)
    angle = rng.uniform(0, np.pi)
    half = int(np.ceil(length / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    dy, dx = round(np.sin(angle) * length / 2), round(np.cos(angle) * length / 2)
    rows, cols, weight = line_aa(half - dy, half - dx, half + dy, half + dx)
    kernel[rows, cols] = weight
    return _convolve(image, kernel / kernel.sum())


def _in_ycbcr(image: Picture) -> Floats:
    return np.asarray(Image.fromarray(image).convert("YCbCr"), np.float32)


def _from_ycbcr(values: Floats) -> Picture:
    return np.asarray(Image.fromarray(_to_uint8(values), "YCbCr").convert("RGB"))


def color_diffusion(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    sigma = _at(level, 0, 1.5, 3.0, 5.0, 8.0, 13.0)
    values = _in_ycbcr(image)
    for channel in (1, 2):
        values[..., channel] = _gaussian(values[..., channel], sigma)
    return _from_ycbcr(values)


def color_shift(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    distance = _at(level, 0, 1.5, 3.0, 5.5, 9.0, 14.0)
    angle = rng.uniform(0, 2 * np.pi)
    dy, dx = round(distance * np.sin(angle)), round(distance * np.cos(angle))
    rows = np.clip(np.arange(image.shape[0]) + dy, 0, image.shape[0] - 1)
    cols = np.clip(np.arange(image.shape[1]) + dx, 0, image.shape[1] - 1)
    shifted = image.copy()
    channel = rng.integers(3)
    shifted[..., channel] = image[rows][:, cols, channel]
    return shifted


def color_quantization(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    colors = round(_at(level, 256, 64, 36, 20, 12, 7))
    quantized = Image.fromarray(image).quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(quantized.convert("RGB"))


def scale_color(image: Picture, factor: float) -> Picture:
    """Colours `factor` times as far from grey."""
    return np.asarray(ImageEnhance.Color(Image.fromarray(image)).enhance(factor))


def color_desaturation(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    factor = _at(level, 1, 0.72, 0.5, 0.32, 0.15, 0.0)
    return scale_color(image, factor)


def color_oversaturation(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    factor = _at(level, 1, 1.6, 2.2, 3.0, 4.2, 6.0)
    return scale_color(image, factor)


def _recompress(image: Picture, **options: object) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **options)  # type: ignore[arg-type]
    with Image.open(buffer) as decoded:
        return np.asarray(decoded.convert("RGB"))


def jpeg2000(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    ratio = np.exp(_at(level, np.log(4), *np.log([16, 32, 60, 110, 200])))
    return _recompress(image, format="JPEG2000", quality_mode="rates", quality_layers=[float(ratio)])


def jpeg(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    quality = round(_at(level, 95, 50, 30, 18, 10, 5))
    return _recompress(image, format="JPEG", quality=quality)


def white_noise(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    sigma = _at(level, 0, 6, 12, 20, 32, 50)
    return _to_uint8(image + sigma * rng.standard_normal(image.shape, np.float32))


def white_noise_color_component(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    sigma = _at(level, 0, 6, 12, 20, 32, 50)
    return _from_ycbcr(_in_ycbcr(image) + sigma * rng.standard_normal(image.shape, np.float32))


def impulse_noise(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    amount = _at(level, 0, 0.003, 0.01, 0.025, 0.055, 0.11)
    chance = rng.random(image.shape, np.float32)
    return np.where(chance < amount / 2, 0, np.where(chance > 1 - amount / 2, 255, image)).astype(np.uint8)


def multiplicative_noise(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    sigma = _at(level, 0, 0.05, 0.1, 0.17, 0.27, 0.42)
    return _to_uint8(image * (1 + sigma * rng.standard_normal(image.shape, np.float32)))


def denoise(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    """White noise, then total-variation denoising strong enough to remove it (KADID used DnCNN)."""
    sigma = _at(level, 0, 7, 12, 19, 29, 43) / 255
    noisy = image.astype(np.float32) / 255 + sigma * rng.standard_normal(image.shape, np.float32)
    # 12 iterations: past them the picture changes by under a grey level on average.
    smooth = denoise_tv_chambolle(noisy, weight=max(1.5 * sigma, 1e-4), max_num_iter=12, channel_axis=-1)
    return _to_uint8(smooth * 255)


def _tone_curve(image: Picture, exponent: float) -> Picture:
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return table[image]


def brighten(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    return _tone_curve(image, 1 / _at(level, 1, 1.3, 1.7, 2.3, 3.2, 4.5))


def darken(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    return _tone_curve(image, _at(level, 1, 1.3, 1.7, 2.3, 3.2, 4.5))


def shift_grey(image: Picture, shift: float) -> Picture:
    """All channels `shift` grey levels brighter."""
    return _to_uint8(image + np.float32(shift))


def mean_shift(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    return shift_grey(image, _at(level, 0, 14, 28, 45, 65, 90) * rng.choice((-1, 1)))


def jitter(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    """Every pixel is taken from a random place nearby."""
    distance = _at(level, 0, 0.8, 1.3, 2.0, 3.2, 5.0)
    moves = np.rint(distance * rng.uniform(-1, 1, (2, *image.shape[:2]))).astype(np.intp)
    rows = np.clip(np.arange(image.shape[0])[:, None] + moves[0], 0, image.shape[0] - 1)
    cols = np.clip(np.arange(image.shape[1])[None, :] + moves[1], 0, image.shape[1] - 1)
    moved: Picture = image[rows, cols]
    return moved


# KADID counts patches and blocks on its 512x384 pictures; we keep their density at other sizes.
_KADID_AREA = 512 * 384


def _corners(image: Picture, count: int, side: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    height, width = image.shape[:2]
    limits = (max(1, height - side), max(1, width - side))
    return [(int(y), int(x)) for y, x in rng.integers(0, limits, (count, 2))]


def non_eccentricity_patch(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    """Small patches replaced by their neighbourhood a few pixels away."""
    density = _at(level, 0, 20, 45, 80, 130, 200) / _KADID_AREA
    side, distance = 16, 12
    result = image.copy()
    count = round(density * image.shape[0] * image.shape[1])
    for y, x in _corners(image, count, side + 2 * distance, rng):
        dy, dx = rng.integers(-distance, distance + 1, 2)
        source = image[y + distance + dy :, x + distance + dx :][:side, :side]
        target = result[y + distance :, x + distance :][: source.shape[0], : source.shape[1]]
        target[:] = source[: target.shape[0], : target.shape[1]]
    return result


def pixelate(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    block = _at(level, 1, 1.6, 2.4, 3.6, 5.5, 8.5)
    picture = Image.fromarray(image)
    small = (max(1, round(picture.width / block)), max(1, round(picture.height / block)))
    blocks = picture.resize(small, Image.Resampling.BOX).resize(picture.size, Image.Resampling.NEAREST)
    return np.asarray(blocks)


def quantization(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    steps = _at(level, 255, 18, 11, 7, 4.5, 3) - 1
    return _to_uint8(np.rint(image * (steps / 255)) * (255 / steps))


def color_block(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    density = _at(level, 0, 2, 4.5, 8, 13, 20) / _KADID_AREA
    side = 32
    result = image.copy()
    for y, x in _corners(image, max(1, round(density * image.shape[0] * image.shape[1])), side, rng):
        result[y : y + side, x : x + side] = rng.integers(0, 256, 3)
    return result


def high_sharpen(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    percent = round(_at(level, 0, 90, 180, 320, 550, 950))
    return np.asarray(Image.fromarray(image).filter(ImageFilter.UnsharpMask(2, percent, 0)))


def scale_contrast(image: Picture, factor: float) -> Picture:
    """Everything `factor` times as far from the mean grey."""
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))


def contrast_change(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    factor = _at(level, 1, 1.25, 1.55, 2.0, 2.7, 4.0)
    if rng.random() < 0.5:
        factor = 1 / factor
    return scale_contrast(image, factor)


def downscale(image: Picture, level: float, rng: np.random.Generator) -> Picture:
    """Made smaller and enlarged again to its old size. Not one of KADID's, but what files suffer most."""
    factor = _at(level, 1, 1.4, 2.0, 2.8, 4.0, 6.0)
    shrink, grow = rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS], 2)
    picture = Image.fromarray(image)
    small = (max(1, round(picture.width / factor)), max(1, round(picture.height / factor)))
    return np.asarray(picture.resize(small, Image.Resampling(shrink)).resize(picture.size, Image.Resampling(grow)))


KADID_DISTORTIONS: Sequence[str] = (
    "gaussian_blur",
    "lens_blur",
    "motion_blur",
    "color_diffusion",
    "color_shift",
    "color_quantization",
    "color_desaturation",
    "color_oversaturation",
    "jpeg2000",
    "jpeg",
    "white_noise",
    "white_noise_color_component",
    "impulse_noise",
    "multiplicative_noise",
    "denoise",
    "brighten",
    "darken",
    "mean_shift",
    "jitter",
    "non_eccentricity_patch",
    "pixelate",
    "quantization",
    "color_block",
    "high_sharpen",
    "contrast_change",
)

# What files suffer most outside laboratories.
COMMON_DISTORTIONS: Sequence[str] = ("gaussian_blur", "white_noise", "jpeg", "downscale")

DISTORTIONS: dict[str, Distortion] = {name: globals()[name] for name in (*KADID_DISTORTIONS, "downscale")}


def distort(image: Picture, name: str, level: float, rng: np.random.Generator) -> Picture:
    """The picture damaged by one named type.

    Args:
        image: uint8 [H, W, 3].
        name: a key of `DISTORTIONS`.
        level: 0 (as it is) to 5 (severe), real-valued.
        rng: decides what the type leaves open; the same seed for every level gives one series.

    Returns:
        uint8 [H, W, 3].
    """
    if level <= 0:
        return image.copy()
    return DISTORTIONS[name](image, level, rng)
