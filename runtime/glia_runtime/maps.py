"""Where the model looked, laid back onto the picture: ``glia-infer --maps`` (the paper's Fig. 3).

A map holds the share of its attention that the model gives to each patch of a view. A patch of the semantic view
is a part of the whole picture. A patch of the detail view is a part of a fragment, which was cut out of the
picture somewhere else than where it lies in the mosaic: there its share belongs.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw

from glia_runtime.atomic import atomic_write
from glia_runtime.decode import decode
from glia_runtime.errors import BackendError, ImageError, OutputError
from glia_runtime.fragments import FragmentSpec, Image, check_image
from glia_runtime.manifest import View
from glia_runtime.pipeline import Result
from glia_runtime.scorer import Scorer
from glia_runtime.views import enlarged_size

Floats = npt.NDArray[np.float64]

OVERLAY_SIDE = 1024
"""Longest side of a drawn map in pixels."""


def patch_centres(view: View, patches: int, height: int, width: int, spec: FragmentSpec) -> tuple[Floats, Floats]:
    """Where the centres of a view's `patches` x `patches` patches lie in a picture of `height` x `width` pixels.

    Float64 [patches] each, rows and columns, ascending, in pixels of the picture, which has been enlarged where needed.
    """
    centres = (np.arange(patches) + 0.5) * spec.size / patches
    if view == "semantic":
        return centres * height / spec.size, centres * width / spec.size
    rows, columns = spec.starts(height, width)
    fragment = (centres // spec.fragment).astype(np.int64)
    inside = centres - fragment * spec.fragment
    return rows[fragment, 0] + inside, columns[0, fragment] + inside


def lay_back(
    shares: npt.NDArray[np.float32], view: View, height: int, width: int, spec: FragmentSpec, size: tuple[int, int]
) -> Floats:
    """A map [G, G] over the whole picture: float64 [*size].

    At the centre of each patch stands its share, between them what bilinear interpolation gives, beyond the outermost
    ones the nearest. Between fragments, which the model did not see, this is a guess.

    Args:
        shares: as `Scorer.maps` gives them.
        view: the manifest's `map_view`.
        height: of the picture in pixels, enlarged where needed.
        width: likewise.
        spec: the manifest's `fragment_spec`.
        size: height and width of the result.
    """
    rows, columns = patch_centres(view, len(shares), height, width, spec)
    down, across = (
        (np.arange(pixels) + 0.5) * whole / pixels for pixels, whole in zip(size, (height, width), strict=True)
    )
    wide = np.stack([np.interp(across, columns, row) for row in shares])
    return np.stack([np.interp(down, rows, column) for column in wide.T], axis=1)


def overlay(image: Image, shares: npt.NDArray[np.float32], view: View, spec: FragmentSpec | None = None) -> Image:
    """Draw a map [G, G] over its picture, uint8 [H, W, 3]: uint8 [h, w, 3], its longest side `OVERLAY_SIDE` at most.

    The picture turns grey; colour runs from the map's smallest share, dark violet, to its largest, yellow, even in
    lightness. For the detail view thin frames show the fragments: the model saw nothing else at full resolution.
    """
    spec = spec or FragmentSpec()
    height, width = enlarged_size(*check_image(image).shape[:2])
    picture = PillowImage.fromarray(np.ascontiguousarray(image)).convert("L")
    picture.thumbnail((OVERLAY_SIDE, OVERLAY_SIDE), PillowImage.Resampling.BICUBIC, reducing_gap=2.0)
    heat = lay_back(shares, view, height, width, spec, (picture.height, picture.width))
    smallest, largest = float(shares.min()), float(shares.max())
    heat = (heat - smallest) / (largest - smallest or 1.0)
    grey = np.asarray(picture, dtype=np.float64)[:, :, None]
    weight = (0.35 + 0.35 * heat)[:, :, None]
    blended = PillowImage.fromarray(((1 - weight) * grey + weight * colours(heat)).round().astype(np.uint8))
    if view == "detail":
        _frame_fragments(blended, height, width, spec)
    return np.array(blended)


def colours(values: Floats) -> Floats:
    """RGB from 0 to 255, float64 [..., 3], of values from 0 to 1.

    A line through OKLCh (Ottosson, 2020), where equal steps look equal: lightness rises evenly from 0.3 to 0.92 while
    the hue turns from violet over red to yellow, so that the order survives greyscale and colour-blindness.
    """
    lightness = 0.3 + 0.62 * values
    hue = np.deg2rad(300 + 160 * values)
    chroma = 0.155
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone = np.stack([lightness, a, b], axis=-1) @ _OKLAB_TO_CONE.T
    linear = np.clip(cone**3 @ _CONE_TO_RGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(255 * encoded)


_OKLAB_TO_CONE = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_CONE_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _frame_fragments(picture: PillowImage.Image, height: int, width: int, spec: FragmentSpec) -> None:
    draw = ImageDraw.Draw(picture, "RGBA")
    down, across = picture.height / height, picture.width / width
    for top, left in spec.starts(height, width).reshape(2, -1).T:
        box = (left * across, top * down, (left + spec.fragment) * across - 1, (top + spec.fragment) * down - 1)
        if box[2] > box[0] and box[3] > box[1]:  # a fragment of a huge picture may have no pixel here
            draw.rectangle([round(edge) for edge in box], outline=(255, 255, 255, 110))


class MapWriter:
    """Writes one JPEG file a picture into a folder."""

    def __init__(self, scorer: Scorer, folder: Path) -> None:
        """Make `folder` where it is missing.

        Raises:
            UsageError: the artifact gives no maps.
            OutputError: the folder cannot be made or written to.
        """
        scorer.maps([])
        self._scorer, self._folder = scorer, folder
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made a folder ({error.strerror}); name another one") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{folder}: permission denied; choose another place or make it writable (chmod u+w)")

    def draw(self, results: Iterable[Result], complain: Callable[[str], object]) -> Iterator[Result]:
        """Pass `results` on, each that has a score once its map is written.

        Args:
            results: of files.
            complain: told on one line of a map that cannot be drawn.

        Raises:
            OutputError: a map cannot be written.
        """
        for result in results:
            if result.error is None:
                try:
                    self.write(result.path)
                except (ImageError, BackendError, MemoryError) as error:
                    reason = str(error) or "not enough memory; make the picture smaller"
                    complain(f"{result.path}: no map: {reason.removeprefix(f'{result.path}: ')}")
            yield result

    def write(self, path: str) -> Path:
        """Decode a picture again, run the graph again for its map, and write `map_name`.

        Raises:
            ImageError: the file was removed or damaged since it was scored.
            BackendError: the graph failed.
            OutputError: the map cannot be written.
        """
        image = decode(path)
        (shares,) = self._scorer.maps([image])
        manifest = self._scorer.manifest
        assert manifest.map_view is not None  # or there were no shares
        drawn = PillowImage.fromarray(overlay(image, shares, manifest.map_view, manifest.fragment_spec))
        target = self._folder / map_name(path)
        with atomic_write(target) as temporary:
            drawn.save(temporary, "JPEG", quality=88)
        return target


def map_name(path: str) -> str:
    """The name of a picture's map: the picture's own, made safe, and a digest of its path.

    Pictures of one name in different folders get different names, and a picture the same one in every run.
    """
    stem = re.sub(r"[^\w-]+", "_", Path(path).stem, flags=re.ASCII)[:80]
    return f"{stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:10]}.jpg"
