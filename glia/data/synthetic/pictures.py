"""Pictures drawn by rule, with the statistics of photographs that distortions act on.

Occluding shapes of power-law size ("dead leaves", Lee, Mumford and Huang, IJCV 2001) give natural edges at every scale.
Each leaf has a texture: one whose contrast swells and fades (a Gaussian scale mixture, Wainwright and Simoncelli, NIPS
1999), small things strewn over one another, or rows of one thing. Everything is composed as light is: logarithms of
reflectance and illumination add up, in opponent colours of which the lightness varies most (Ruderman, Cronin and
Chiao, JOSA A 1998). Pictures are drawn larger and averaged down, then passed through an imitation of a camera, so that
a model does not learn that a clean picture is one without any noise, blur or compression.
"""

import io
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.fft import irfft2
from scipy.ndimage import gaussian_filter, uniform_filter

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
Shape = tuple[int, int]

# Drawn at this many times the final side: enough to antialias edges, and costs twice the pixels.
_SUPERSAMPLING = 1.5
# Textures are square tiles of this side, drawn once a picture and shifted for every leaf.
_TILE = 512
# Smooth fields are drawn this many times smaller, and enlarged.
_COARSE = 8
# Log lightness, warm against cold (daylight's axis), magenta against green: to the logarithms of red, green and blue.
_OPPONENT = np.array([[1, 1, 1], [0.9, 0.1, -1], [0.5, -1, 0.5]], np.float32)
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?&%$#+-  "))


def draw_picture(seed: int, index: int) -> Picture:
    """Picture `index` of the endless sequence `seed`: uint8 [H, W, 3], sides 256 to 512, landscape or portrait."""
    rng = np.random.default_rng((seed, index))
    short = int(rng.integers(256, 321))
    long = min(512, int(short * rng.uniform(1.0, 1.6)))
    height, width = (short, long) if rng.random() < 0.7 else (long, short)
    canvas = (int(height * _SUPERSAMPLING), int(width * _SUPERSAMPLING))
    scene, order = _leaves(rng, canvas)
    scene[..., 0] += rng.uniform(0.1, 0.8) * _smooth(rng, canvas, 2.0)  # uneven light
    picture = _develop(rng, scene)
    if rng.random() < 0.25:
        _depth_of_field(rng, picture, order)
    if rng.random() < 0.3:
        _strokes(rng, picture)
    if rng.random() < 0.1:
        _text(rng, picture)
    return _camera(rng, picture.resize((width, height), Image.Resampling.LANCZOS))


@lru_cache(maxsize=8)
def _frequencies(shape: Shape) -> tuple[Floats, Floats]:
    rows, cols = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    return rows.astype(np.float32), cols.astype(np.float32)


def _noise(rng: np.random.Generator, shape: Shape, slope: float, angle: float = 0.0, stretch: float = 1.0) -> Floats:
    """A periodic random field whose amplitude falls as 1/f**slope, zero mean, unit variance.

    With a stretch above 1 it is drawn out at right angles to `angle` (radians), as grain, fur and ripples are.
    """
    rows, cols = _frequencies(shape)
    along, across = np.cos(angle) * cols + np.sin(angle) * rows, np.cos(angle) * rows - np.sin(angle) * cols
    power = (along / stretch) ** 2 + (across * stretch) ** 2
    power[0, 0] = np.inf
    spectrum = rng.standard_normal((*power.shape, 2), np.float32).view(np.complex64)[..., 0]
    field: Floats = irfft2(spectrum * power ** np.float32(-slope / 2), shape)
    return field / np.float32(field.std() + 1e-12)


def _smooth(rng: np.random.Generator, shape: Shape, slope: float) -> Floats:
    """A field like `_noise` without its fine detail, at a fraction of the cost."""
    coarse = _noise(rng, (shape[0] // _COARSE + 1, shape[1] // _COARSE + 1), slope)
    enlarged = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
    return np.asarray(enlarged)


def _textures(rng: np.random.Generator) -> Floats:
    """A few textures to fill leaves with: float [T, _TILE, _TILE], about unit variance, periodic; the first is flat."""
    shape = (_TILE, _TILE)
    textures: list[Floats] = [np.zeros(shape, np.float32)]
    for _ in range(3):
        stretch = np.exp(rng.exponential(0.35))
        texture = _noise(rng, shape, rng.uniform(0.5, 1.8), rng.uniform(0, np.pi), stretch)
        if rng.random() < 0.3:  # speckled: pebbles, foliage
            texture = np.tanh(rng.uniform(1.5, 6) * texture)
        # The scale mixture: one smooth field raises or lowers the contrast of all frequencies alike.
        texture *= np.exp(rng.uniform(0, 1.0) * _noise(rng, shape, rng.uniform(1.2, 2.2)))
        textures.append(texture / texture.std())
    waves = rng.integers(-128, 129, 2) if rng.random() < 0.5 else rng.integers(-40, 41, 2)
    rows, cols = np.mgrid[:_TILE, :_TILE].astype(np.float32) * (2 * np.pi / _TILE)
    ripples = np.sin(waves[0] * rows + waves[1] * cols + rng.uniform(0, 2.5) * _noise(rng, shape, 2.0))
    textures.append(np.tanh(rng.uniform(1, 6) * ripples))
    textures += [_strewn(rng), _tiled(rng)]
    return np.stack(textures)


def _strewn(rng: np.random.Generator) -> Floats:
    """Small things over one another, from round to drawn out: pebbles, foliage, grass, fur. Float [_TILE, _TILE].

    Unlike in `_noise`, whatever changes here changes at an edge, as in real texture however fine. A model that has not
    seen that takes leaves and grass for noise.
    """
    narrow = np.exp(rng.uniform(np.log(0.08), 0))
    # Two layers of them; of the finest 4000 do on a quarter of the tile's side, which is then repeated.
    area = np.pi * narrow * np.exp(rng.uniform(np.log(1.5), np.log(20))) ** 2
    side = next((side for side in (_TILE, _TILE // 2) if 2 * side**2 / area <= 4000), _TILE // 4)
    count = int(min(4000, 2 * side**2 / area))
    length = np.sqrt(2 * side**2 / (np.pi * narrow * count))
    turn = rng.uniform(0, np.pi) + rng.normal(0, np.exp(rng.uniform(np.log(0.05), np.log(2))), (count, 1))
    size = length * np.exp(rng.normal(0, 0.3, (count, 1)))
    outlines = _outline(np.arange(6) * (np.pi / 3), size, narrow, turn) + rng.uniform(0, side, (count, 1, 2))
    # What leaves the tile on one side comes in on the other.
    shifts = side * np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1)), -1).reshape(-1, 1, 2)
    copies = outlines[:, None] + shifts
    seen = ((copies.max(2) >= 0) & (copies.min(2) < side)).all(-1)
    lights = np.broadcast_to(rng.standard_normal((count, 1)), seen.shape)[seen]
    tile = Image.new("F", (side, side))
    draw = ImageDraw.Draw(tile)
    for outline, light in zip(copies[seen].reshape(-1, 12).tolist(), lights.tolist(), strict=True):
        draw.polygon(outline, fill=light)
    strewn = np.tile(np.asarray(tile), (_TILE // side, _TILE // side))
    # Lit from one side.
    strewn += np.float32(rng.uniform(0, 1.5)) * (strewn - np.roll(strewn, rng.integers(-2, 3, 2), (0, 1)))
    if rng.random() < 0.5:  # in clumps, with gaps of shadow between them
        strewn += np.float32(rng.uniform(0.5, 2)) * np.tanh(3 * _noise(rng, strewn.shape, rng.uniform(1, 2)))
    return _unit(strewn)


def _tiled(rng: np.random.Generator) -> Floats:
    """One thing again and again in rows: bricks, windows, shutters, fences, weave. Float [_TILE, _TILE]."""
    width, height = np.exp(rng.uniform(np.log(3), np.log(64), 2))
    angle = rng.choice((0.0, np.pi / 2)) + rng.normal(0, 0.05 if rng.random() < 0.6 else 0.8)
    cos, sin = np.cos(angle), np.sin(angle)
    # Columns and rows to the right and down the tile: whole ones, and an even number of rows, since every other one may
    # be moved by half a column.
    columns = np.rint(_TILE / width * np.array([cos, sin]))
    rows = 2 * np.rint(_TILE / height / 2 * np.array([-sin, cos]))
    y, x = np.mgrid[:_TILE, :_TILE] + rng.exponential(1.5) * _noise(rng, (_TILE, _TILE), 2.2)
    across = (rows[0] * x + rows[1] * y) / _TILE
    row = np.floor(across)
    moved = rng.choice((0, 0.5)) * (row % 2)
    along = (columns[0] * x + columns[1] * y) / _TILE + moved
    column = np.floor(along)
    # Each is as light as a coarse field says where its middle lies.
    middle = np.stack([column + 0.5 - moved, row + 0.5])
    down_right = np.linalg.inv(np.array([columns, rows]) / _TILE)
    place = np.einsum("ij,jyx->iyx", down_right, middle)
    light = rng.standard_normal((64, 64))[tuple(((place[::-1] + rng.random()) // 8).astype(int) % 64)]
    gap = np.minimum((along - column) * width, (across - row) * height) < rng.uniform(0.8, 1 + 0.4 * min(width, height))
    return _unit(np.where(gap, rng.normal(0, 2), rng.random() * light).astype(np.float32))


def _unit(texture: Floats) -> Floats:
    """With zero mean and unit variance."""
    scaled: Floats = (texture - texture.mean()) / (texture.std() + np.float32(1e-6))
    return scaled


def _colors(rng: np.random.Generator, materials: int) -> tuple[Floats, Floats]:
    """Log opponent colours of a few materials and how far each varies: float [M, 3] both.

    The median picture is as colourful as the median photograph; 8 % are grey. When they were less colourful, lost and
    exaggerated colours changed them less than they do photographs, and were labelled as too mild.
    """
    chroma = np.exp(rng.normal(0.8, 0.6)) if rng.random() < 0.92 else 0.0
    spread = np.array([rng.uniform(0.35, 0.9), 0.16 * chroma, 0.06 * chroma])
    # Laplace: a few colours are strong, most are nearly grey
    colors = rng.laplace(0, spread, (materials, 3))
    colors[:, 1:] += rng.normal(0, (0.03 * chroma, 0.012 * chroma))  # a cast over all
    return colors.astype(np.float32), (spread * rng.uniform(0.1, 0.8, (materials, 1))).astype(np.float32)


def _leaves(rng: np.random.Generator, shape: Shape) -> tuple[Floats, Floats]:
    """Dead leaves: shapes of power-law size laid over one another, in regions of one material each.

    Returns:
        The scene in log opponent colours, float [H, W, 3], and how near each pixel's leaf is, 0 to 1, [H, W].
    """
    # Up to a gravel of thousands: without it a model takes what is fine and dense all over for noise.
    count = int(np.exp(rng.uniform(np.log(20), np.log(4000))))
    smallest = np.exp(rng.uniform(np.log(2.5), np.log(25)))
    # Radii with density r**-3 between smallest and largest: the scale-invariant case.
    largest = 0.55 * min(shape)
    radii = 1 / np.sqrt(rng.uniform(largest**-2, smallest**-2, count + 1))
    radii[rng.random(count + 1) < 0.1] *= 3
    # Large leaves first more often than not, so that small ones are seen; the very first is the background.
    radii = radii[np.argsort(-radii * rng.uniform(0.3, 1.7, count + 1))]
    centers = rng.uniform((0, 0), shape, (count + 1, 2))
    if rng.random() < 0.7:
        _gather(rng, shape, centers, radii)
    radii[0] = max(shape)
    # Materials lie along a line across the picture, as sky, trees and ground do, and mix more or less.
    materials = int(rng.integers(2, 8))
    direction = rng.normal(0, (1, 0.5)) / shape
    along = np.argsort(np.argsort(centers @ direction)) / (count + 1) + rng.normal(0, rng.uniform(0.02, 0.6), count + 1)
    material_of = (along * materials).astype(int).clip(0, materials - 1)
    radii *= np.exp(rng.normal(0, 0.4, materials))[material_of]
    leaf_of = _bend(rng, _outlines(rng, shape, radii, centers))

    colors, variation = _colors(rng, materials)
    color = colors[material_of] + variation[material_of] * rng.standard_normal((count + 1, 3), np.float32)
    scene = color[leaf_of]
    textures = _textures(rng)
    kind = rng.choice(len(textures), materials, p=(0.16, 0.14, 0.14, 0.14, 0.08, 0.2, 0.14))[material_of]
    other = rng.random(count + 1) < 0.2
    kind[other] = rng.integers(0, len(textures), other.sum())
    if rng.random() < 0.5:
        kind[0] = 0  # the background is plain
    contrast = np.exp(rng.uniform(np.log(0.03), np.log(1.1), materials))[material_of] * rng.uniform(0.5, 1.5, count + 1)
    shift = rng.integers(0, _TILE, (2, count + 1))
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    texture = textures[kind[leaf_of], (rows + shift[0][leaf_of]) % _TILE, (cols + shift[1][leaf_of]) % _TILE]
    texture *= contrast.astype(np.float32)[leaf_of]
    tint = rng.normal(0, 0.1, (materials, 2)).astype(np.float32)[material_of]
    scene[..., 0] += texture + _shading(rng, radii, centers, leaf_of) - _shadows(rng, leaf_of)
    scene[..., 1:] += tint[leaf_of] * texture[..., None]
    return scene, (leaf_of / (count + 1)).astype(np.float32)


def _gather(rng: np.random.Generator, shape: Shape, centers: Doubles, radii: Doubles) -> None:
    """Move most leaves into a few groups, each of its own size of leaf, in place.

    Things stand together before a sky, water or a wall, which have less in them. Without it a model takes a photograph
    that is smooth in most places and dense in one for a damaged one.
    """
    groups = int(rng.integers(1, 6))
    group_of = rng.integers(0, groups, len(radii))
    reach = rng.uniform(0.04, 0.25, (groups, 2))[group_of] * shape
    moved = rng.random(len(radii)) < rng.uniform(0.5, 1)
    places = rng.uniform((0, 0), shape, (groups, 2))[group_of] + reach * rng.standard_normal(centers.shape)
    centers[moved] = places[moved]
    radii[moved] *= np.exp(rng.normal(-0.5, 0.5, groups))[group_of][moved]


def _shading(rng: np.random.Generator, radii: Doubles, centers: Doubles, leaf_of: Labels) -> Floats:
    """The log light of each pixel, [H, W], within 2: it falls from one side, on each leaf a little differently."""
    toward = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.6, len(radii))
    slope = rng.normal(0, rng.uniform(0.05, 0.5), len(radii)) / radii
    down, right = slope * np.sin(toward), slope * np.cos(toward)
    level = (-down * centers[:, 0] - right * centers[:, 1]).astype(np.float32)
    rows, cols = (axis.astype(np.float32) for axis in np.ogrid[: leaf_of.shape[0], : leaf_of.shape[1]])
    shading: Floats = down.astype(np.float32)[leaf_of] * rows + right.astype(np.float32)[leaf_of] * cols
    # Bent outlines put pixels many radii away from a small leaf's centre, where this plane is e**90 times as bright.
    return (shading + level[leaf_of]).clip(-2, 2)


def _outlines(rng: np.random.Generator, shape: Shape, radii: Doubles, centers: Doubles) -> Labels:
    """The number of the leaf on top at each pixel, [H, W]: blobs, boxes, blades and jagged shapes, or mostly one."""
    labels = Image.new("I", shape[::-1], 0)
    draw = ImageDraw.Draw(labels)
    blob, box, blade = range(3)
    kinds = rng.choice(4, len(radii), p=rng.dirichlet((1.5, 1, 1, 0.7)))
    for leaf in range(1, len(radii)):
        kind = kinds[leaf]
        if kind in (blob, blade):
            angles = np.arange(20) * (np.pi / 10)
        elif kind == box:
            angles = np.arange(0.5, 4) * (np.pi / 2)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        narrow = rng.uniform(0.08, 0.35) if kind == blade else rng.uniform(0.4, 1.0)
        turn = 0.0 if kind == box and rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
        outline = centers[leaf, ::-1] + _outline(angles, radii[leaf], narrow, turn)
        draw.polygon(outline.ravel().tolist(), fill=leaf)
    return np.asarray(labels)


def _outline(
    angles: npt.NDArray[np.floating], radius: float | Doubles, narrow: float, turn: float | Doubles
) -> Doubles:
    """Points x, y on turned ellipses around 0, [..., N, 2]: at N angles, of a radius and a share of it across."""
    along, across = radius * np.cos(angles), radius * narrow * np.sin(angles)
    x, y = np.cos(turn) * along - np.sin(turn) * across, np.sin(turn) * along + np.cos(turn) * across
    return np.stack([x, y], -1)


def _bend(rng: np.random.Generator, leaf_of: Labels) -> Labels:
    """Straight outlines made organic: every pixel looks a little aside, its neighbours likewise."""
    shape = leaf_of.shape
    reach = np.exp(rng.uniform(np.log(0.5), np.log(0.12 * min(shape))))
    slope = rng.uniform(1.4, 2.4)
    rows = np.arange(shape[0], dtype=np.int32)[:, None] + (reach * _smooth(rng, shape, slope)).astype(np.int32)
    cols = np.arange(shape[1], dtype=np.int32)[None, :] + (reach * _smooth(rng, shape, slope)).astype(np.int32)
    bent: Labels = leaf_of[rows.clip(0, shape[0] - 1), cols.clip(0, shape[1] - 1)]
    return bent


def _shadows(rng: np.random.Generator, leaf_of: Labels) -> Floats:
    """How much log light each pixel loses to nearer leaves beside it, [H, W]."""
    away = rng.integers(-8, 9, 2)
    covered = (np.roll(leaf_of, away, (0, 1)) > leaf_of).astype(np.float32)
    soft: Floats = rng.uniform(0, 0.8) * uniform_filter(covered, int(rng.integers(2, 12)))
    return soft


def _develop(rng: np.random.Generator, scene: Floats) -> Image.Image:
    """Log opponent colours to 8 bits: exposure, a tone curve, a mean near the middle, and contrast.

    Contrast is raised until shadows and highlights are cut off, as in many photographs. Without it a model takes
    every photograph of strong light for one whose contrast was changed.
    """
    light = np.exp(scene @ _OPPONENT)
    low, high = np.quantile(light[::4, ::4], (0.01, rng.uniform(0.95, 0.998)))
    black, white = rng.uniform(0.0, 0.1), rng.uniform(0.7, 1.05)
    tone = ((light - low) / (high - low)).clip(0, 1) ** np.float32(rng.uniform(0.28, 0.55))
    tone = black + (white - black) * tone
    middle = tone[::4, ::4].mean()
    # A tenth to seven tenths of the way to a middle grey, as light meters go. Very dark or light pictures lose more to
    # a shifted mean than photographs do, and their labels were too low.
    exposed = 0.45 + rng.uniform(0.3, 0.9) * (middle - 0.45)
    tone = exposed + np.float32(np.exp(rng.uniform(np.log(0.9), np.log(1.9)))) * (tone - middle)
    if rng.random() < 0.5:  # film and most cameras ease into both ends instead of cutting
        tone = 0.5 + 0.5 * np.tanh(2.2 * (tone - 0.5)) / np.float32(np.tanh(1.1))
    return Image.fromarray((255 * tone).clip(0, 255).astype(np.uint8))


def _depth_of_field(rng: np.random.Generator, picture: Image.Image, nearness: Floats) -> None:
    """What is far out of focus, as backgrounds are: softness alone is not a distortion."""
    far = (nearness < np.quantile(nearness[::4, ::4], rng.uniform(0.2, 0.8))).astype(np.uint8) * 255
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 6)))
    picture.paste(blurred, mask=Image.fromarray(far).filter(ImageFilter.GaussianBlur(1)))


def _color(rng: np.random.Generator, picture: Image.Image) -> tuple[int, int, int]:
    """A colour of the picture, made darker or lighter."""
    place = (int(rng.integers(picture.width)), int(rng.integers(picture.height)))
    values = np.array(picture.getpixel(place)) * rng.uniform(0.2, 1.8) + rng.uniform(-40, 40)
    red, green, blue = values.clip(0, 255).astype(int).tolist()
    return red, green, blue


def _strokes(rng: np.random.Generator, picture: Image.Image) -> None:
    """Branches, wires, stalks."""
    draw = ImageDraw.Draw(picture)
    step, color = rng.uniform(5, 60), _color(rng, picture)
    for _ in range(int(rng.integers(2, 40))):
        start = rng.uniform((0, 0), picture.size)
        path = start + np.cumsum(rng.normal(0, step, 2) + rng.normal(0, step / 3, (int(rng.integers(2, 9)), 2)), 0)
        color = _color(rng, picture) if rng.random() < 0.3 else color
        draw.line([(float(x), float(y)) for x, y in path], fill=color, width=int(rng.integers(1, 7)), joint="curve")


def _text(rng: np.random.Generator, picture: Image.Image) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 7))):
        words = "".join(rng.choice(_LETTERS, int(rng.integers(3, 28))))
        font = ImageFont.load_default(float(np.exp(rng.uniform(np.log(12), np.log(70)))))
        x, y = rng.uniform((-20, 0), picture.size)
        draw.text((float(x), float(y)), words, fill=_color(rng, picture), font=font)


def _camera(rng: np.random.Generator, picture: Image.Image) -> Picture:
    """What any photograph has been through before it is called undistorted; no step severe, each optional.

    Labels compare with the picture that comes out of here, so what is common here a model learns to forgive. Softness
    up to a sigma of 1.3 was tried: the model then took blurred photographs for soft ones.
    """
    if rng.random() < 0.65:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.65)))
    noise = rng.standard_normal((picture.height, picture.width, 3), np.float32)
    # Film's grain, and what is left when a camera has smoothed or shrunk the picture.
    grain = rng.uniform(0.4, 1.0) if rng.random() < 0.5 else 0.0
    strength = min(5.0, rng.exponential(1.3)) if rng.random() < 0.7 else 0.0
    if strength:
        noise = gaussian_filter(noise, (grain, grain, 0))
        noise *= strength / noise.std()
        picture = Image.fromarray(np.clip(np.rint(np.asarray(picture) + noise), 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.UnsharpMask(rng.uniform(0.6, 1.4), int(rng.integers(20, 160)), 0))
    if rng.random() < 0.75:
        buffer = io.BytesIO()
        subsampling = rng.choice(("4:4:4", "4:2:0"), p=(0.3, 0.7))
        picture.save(buffer, "JPEG", quality=int(rng.integers(65, 98)), subsampling=str(subsampling))
        picture = Image.open(buffer).convert("RGB")
    return np.asarray(picture)
