"""A new picture as it is shown to the backbone and damaged: at the size of the rated ones."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from glia.data.samples import Picture
from glia.data.synthetic import KADID_DISTORTIONS, LEVELS, distort
from glia.data.synthetic.distortions import scale_color, scale_contrast, shift_grey
from glia_runtime.decode import decode_picture
from glia_runtime.errors import ImageError, OutputError
from glia_runtime.views import pixels

DISTORTIONS = tuple(KADID_DISTORTIONS)
PER_PICTURE = len(DISTORTIONS) * len(LEVELS)
"""Distorted versions of one picture: 125."""


_KADIDS_OWN: dict[str, tuple[Callable[[Picture, float], Picture], Sequence[float]]] = {
    "color_oversaturation": (scale_color, (1, 2, 3, 6, 9)),
    "mean_shift": (shift_grey, (38, 20, 0, -20, -38)),
    "contrast_change": (scale_contrast, (1.63, 1.44, 1.25, 0.75, 0.5)),
}
"""KADID-10k's strengths at levels 1 to 5, as its generator of distortions has them, where they do not rise from mild to
severe: level 1 of the first and level 3 of the second leave a picture as it is, and the others go one way at low
levels and the other way at high ones. Ours would be given the labels of another damage. (Of its contrast curves the
slopes in the middle; shifts of 0.15 and 0.08 are of a range of 1.)
"""


def read_bounded(path: str | Path, side: int) -> Picture:
    """Decode a picture, shrunk (antialiased, aspect kept) where its longer side is above `side` pixels.

    A distortion of the same strength shows less in a larger picture, so labels carry over at like sizes only.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ImageError: a file that `glia_runtime.decode` refuses.
    """
    picture = decode_picture(path)
    scale = side / max(picture.size)
    if scale < 1:
        size = (max(1, round(scale * picture.width)), max(1, round(scale * picture.height)))
        picture = picture.resize(size, PillowImage.Resampling.BICUBIC, reducing_gap=3.0)
    return pixels(picture)


def render(image: Picture, place: int, distortion: str, level: int) -> Picture:
    """The distorted version of picture number `place`: the same one every time, its five levels one series.

    Places differ by chance alone (noise, angles, positions), not in what is done: labels carry over between them.
    """
    if distortion in _KADIDS_OWN:
        change, strengths = _KADIDS_OWN[distortion]
        return change(image, strengths[level - 1])
    return distort(image, distortion, level, np.random.default_rng((place, DISTORTIONS.index(distortion))))


def rendered_folder(folder: Path, place: int) -> Path:
    """Where the versions of picture number `place` lie in the folder of rendered ones."""
    return folder / f"{place:06d}"


def rendered_path(folder: Path, place: int, distortion: str, level: int) -> Path:
    """Where the version of picture number `place` lies in the folder of rendered ones."""
    return rendered_folder(folder, place) / f"{distortion}-{level}.png"


def render_to_files(folder: Path, place: int, path: Path, side: int) -> str:
    """Write all versions of a picture, or none; a picture whose versions are there is left alone.

    Returns:
        "", or in one line why the picture can no longer be read.

    Raises:
        OutputError: a file cannot be written.
    """
    target = rendered_folder(folder, place)
    if target.exists():
        return ""
    try:
        image = read_bounded(path, side)
    except ImageError as error:  # gone or damaged since it was compared: no reason to stop the others
        return str(error)
    temporary = target.with_name(f".{target.name}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # what a kill left
        temporary.mkdir(parents=True)
        for distortion in DISTORTIONS:
            for level in LEVELS:
                version = PillowImage.fromarray(render(image, place, distortion, level))
                version.save(temporary / f"{distortion}-{level}.png", compress_level=1)
        temporary.rename(target)
        return ""
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}); free some space, then go on with --resume"
        ) from error
