"""Pictures drawn by rule, with the statistics that distortions act on: edges, occlusion, 1/f texture, flat areas.

Dead leaves (Lee, Mumford and Huang, IJCV 2001) with textured leaves carry most pictures: occluding shapes of
power-law size give natural edges at every scale. Gradients, strokes, text and shading add what leaves lack.
Everything is drawn larger and averaged down, then passed through an imitation of a camera, so that a model
does not learn that a clean picture is one without any noise, blur or compression.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.fft import irfft2

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# Drawn at this many times the final side: enough to antialias edges, and costs twice the pixels.
_SUPERSAMPLING = 1.5
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?&%$#+-  "))


def draw_picture(seed: int, index: int) -> Picture:
    """Picture `index` of the endless sequence `seed`: uint8 [H, W, 3], sides 256 to 512, landscape or portrait."""
    rng = np.random.default_rng((seed, index))
    short = int(rng.integers(256, 353))
    long = min(512, int(short * rng.uniform(1.0, 1.6)))
    height, width = (short, long) if rng.random() < 0.7 else (long, short)
    canvas = (int(height * _SUPERSAMPLING), int(width * _SUPERSAMPLING))
    scene = _leaves(rng, canvas) if rng.random() < 0.85 else _field(rng, canvas)
    if rng.random() < 0.7:
        scene *= 1 + rng.uniform(0.1, 0.45) * _noise(rng, canvas, 2.5)[..., None]
    picture = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    if rng.random() < 0.15:
        _depth_of_field(rng, picture)
    if rng.random() < 0.5:
        _strokes(rng, picture)
    if rng.random() < 0.3:
        _text(rng, picture)
    return _camera(rng, picture.resize((width, height), Image.Resampling.LANCZOS))


def _noise(rng: np.random.Generator, shape: tuple[int, int], slope: float) -> Floats:
    """A random field whose amplitude falls as 1/f**slope, zero mean, unit variance."""
    rows = np.fft.fftfreq(shape[0])[:, None].astype(np.float32)
    cols = np.fft.rfftfreq(shape[1])[None, :].astype(np.float32)
    frequency = np.sqrt(rows**2 + cols**2)
    frequency[0, 0] = np.inf
    phase = rng.standard_normal((2, *frequency.shape), np.float32)
    field = irfft2((phase[0] + 1j * phase[1]) * frequency**-slope, shape)
    standardized: Floats = ((field - field.mean()) / (field.std() + 1e-12)).astype(np.float32)
    return standardized


def _palette(rng: np.random.Generator, count: int) -> Floats:
    """Colours around a few hues, mostly muted, as photographs have them: float [count, 3], 0 to 255."""
    anchors = rng.uniform(20, 235, (int(rng.integers(2, 6)), 3))
    greyness = rng.uniform(0.35, 0.97)
    colors = anchors[rng.integers(0, len(anchors), count)] + rng.normal(0, 28, (count, 3))
    grey = colors.mean(1, keepdims=True) + rng.normal(0, 35, (count, 1))
    mixed: Floats = np.clip(colors * (1 - greyness) + grey * greyness, 0, 255).astype(np.float32)
    return mixed


def _textures(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """A few textures to fill leaves with: float [T, H, W], about unit variance; the first is flat."""
    rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    textures: list[Floats] = [np.zeros(shape, np.float32)]
    textures += [_noise(rng, shape, slope) for slope in rng.uniform(0.5, 1.7, 3)]
    for _ in range(2):
        angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(40)))
        waves = np.sin((np.cos(angle) * cols + np.sin(angle) * rows) * (2 * np.pi / period) + textures[-1])
        textures.append((np.sign(waves) if rng.random() < 0.4 else 1.4 * waves).astype(np.float32))
    return np.stack(textures)


def _field(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """A picture with no edges: gradients and 1/f colour."""
    slope = rng.uniform(0.9, 1.8)
    mixing = rng.normal(0, 1, (3, 3)) * rng.uniform(8, 30) + rng.uniform(10, 45)
    channels = np.stack([_noise(rng, shape, slope) for _ in range(3)], -1)
    colored: Floats = rng.uniform(70, 180, 3).astype(np.float32) + channels @ mixing.astype(np.float32)
    return colored


def _leaves(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Dead leaves: shapes of power-law size laid over one another, each with its colour and texture."""
    height, width = shape
    count = int(np.exp(rng.uniform(np.log(80), np.log(1500))))
    smallest = np.exp(rng.uniform(np.log(4), np.log(20)))
    # Radii with density r**-3 between smallest and largest: the scale-invariant case.
    largest = 0.55 * min(shape)
    radii = 1 / np.sqrt(rng.uniform(largest**-2, smallest**-2, count))
    radii[rng.random(count) < 0.1] *= 3
    # Large leaves first more often than not, so that small ones are seen.
    order = np.argsort(-radii * rng.uniform(0.3, 1.7, count))
    labels = Image.new("I", (width, height), 0)
    draw = ImageDraw.Draw(labels)
    for leaf, radius in enumerate(radii[order], start=1):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        kind = rng.random()
        if kind < 0.4:
            stretch = rng.uniform(0.5, 1.0)
            draw.ellipse((x - radius, y - radius * stretch, x + radius, y + radius * stretch), fill=leaf)
        else:
            corners = 4 if kind < 0.7 else int(rng.integers(3, 9))
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
            points = [(float(x + radius * np.cos(a)), float(y + radius * np.sin(a))) for a in angles]
            draw.polygon(points, fill=leaf)
    leaf_of = np.asarray(labels)
    textures = _textures(rng, shape)
    kind_of = np.where(rng.random(count + 1) < 0.3, 0, rng.integers(0, len(textures), count + 1))
    contrast = (np.exp(rng.uniform(np.log(2), np.log(40), count + 1))).astype(np.float32)
    tint = (1 + rng.normal(0, 0.15, (count + 1, 3))).astype(np.float32)
    texture = np.take_along_axis(textures, kind_of[leaf_of][None], 0)[0] * contrast[leaf_of]
    scene: Floats = _palette(rng, count + 1)[leaf_of] + texture[..., None] * tint[leaf_of]
    return scene


def _depth_of_field(rng: np.random.Generator, picture: Image.Image) -> None:
    """Part of the scene out of focus, as backgrounds are: softness alone is not a distortion."""
    near = np.clip(128 + 400 * (_noise(rng, picture.size[::-1], 2.5) + rng.uniform(-0.5, 0.5)), 0, 255)
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 5)))
    picture.paste(blurred, mask=Image.fromarray(near.astype(np.uint8)))


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3)
    return int(red), int(green), int(blue)


def _strokes(rng: np.random.Generator, picture: Image.Image) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 30))):
        start = rng.uniform((0, 0), picture.size)
        path = start + np.cumsum(rng.normal(0, rng.uniform(5, 60), (int(rng.integers(2, 7)), 2)), 0)
        draw.line(
            [(float(x), float(y)) for x, y in path],
            fill=_color(rng),
            width=int(rng.integers(1, 7)),
            joint="curve",
        )


def _text(rng: np.random.Generator, picture: Image.Image) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 7))):
        words = "".join(rng.choice(_LETTERS, int(rng.integers(3, 28))))
        font = ImageFont.load_default(float(np.exp(rng.uniform(np.log(12), np.log(70)))))
        x, y = rng.uniform((-20, 0), picture.size)
        draw.text((float(x), float(y)), words, fill=_color(rng), font=font)


def _camera(rng: np.random.Generator, picture: Image.Image) -> Picture:
    """What any photograph has been through before it is called undistorted; each step mild, most optional.

    Labels compare with the picture that comes out of here, so what is common here a model learns to forgive. Softness
    up to a sigma of 1.3 was tried: the model then took blurred photographs for soft ones.
    """
    if rng.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6)))
    values = np.asarray(picture, np.float32) / 255
    low, high = np.quantile(values[::4, ::4], (0.01, 0.99))
    black, white = rng.uniform(0.0, 0.15), rng.uniform(0.8, 1.0)
    values = (values - low) / max(high - low, 0.2) * (white - black) + black
    values = np.clip(values, 0, 1) ** rng.uniform(0.8, 1.35) * 255
    values += rng.uniform(0, 2.5) * rng.standard_normal(values.shape, np.float32)
    picture = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.UnsharpMask(1.0, int(rng.integers(20, 80)), 0))
    if rng.random() < 0.7:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(75, 98)))
        picture = Image.open(buffer).convert("RGB")
    return np.asarray(picture)
