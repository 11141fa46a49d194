"""The proof that travels with an artifact: its scores beside those of the PyTorch model it was made from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage

from glia.models import QualityModel
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError, UsageError
from glia_runtime.fragments import Image
from glia_runtime.manifest import InputKind, ParityRow, Precision
from glia_runtime.probe import probe_images
from glia_runtime.views import VIEW_SIZE, detail_view, enlarge, sample_views

Scores = npt.NDArray[np.float32]

# Parts of the score's range. fp32 differs in the order of summation only (about 1e-6 seen); fp16 keeps 11 bits
# through some 25 blocks (about 1e-3 seen).
BOUND_MAX_ABS: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2}
BOUND_SRCC = 0.999

# Ranks of scores that hardly differ say nothing: an error inside the bound may swap them. SRCC is demanded once the
# reference scores' standard deviation is this many times the largest error allowed. An untrained model, whose scores
# lie within a few hundredths of its scale, is thus held to the ranks in fp32 (where 5 times the bound is a two
# thousandth of the scale), so that a graph which ignores a view is found there, and in fp16 to the difference alone.
SPREAD_FOR_SRCC = 5.0

_PICTURES, _SEED = 27, 20_240
_BATCH = 8
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

Progress = Callable[[Sequence[Image]], Iterable[Image]]


@dataclass(frozen=True)
class ParitySet:
    """The pictures that scores are compared on, and what to call them."""

    images: tuple[Image, ...]
    about: str


def built_in_pictures() -> ParitySet:
    """The probe's pictures and drawn ones of many sizes and qualities, the same on every machine."""
    from glia.data.synthetic import DISTORTIONS, distort, draw_picture  # scikit-image and scipy: seconds

    names = tuple(DISTORTIONS)
    images = [*probe_images()]
    for index in range(_PICTURES):
        rng = np.random.default_rng((_SEED, index))
        # Every third picture undamaged, the rest by one type each at levels 1 to 5.
        level = 0 if index % 3 == 0 else 1 + index % 5
        picture = distort(draw_picture(_SEED, index), names[index % len(names)], level, rng)
        # Drawn sides are 256 to 512; cut some down to what has to be enlarged, and some to odd strips.
        height, width = picture.shape[:2]
        if index % 9 == 4:
            picture = picture[: height // 3, : width // 2]
        elif index % 9 == 7:
            picture = picture[:, : 229 + index]
        images.append(np.ascontiguousarray(picture))
    return ParitySet(tuple(images), f"{len(images)} built-in pictures")


def pictures_in(folder: Path) -> ParitySet:
    """Every picture in `folder` (not in folders below it) that can be read.

    Raises:
        UsageError: no folder, or no readable picture in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; give --images a folder of pictures")
    images = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error
    for path in paths:
        try:
            images.append(enlarge(decode(path)))
        except ImageError:
            continue  # broken pictures are common in real folders, and no fault of the artifact
    if not images:
        raise UsageError(f"{folder}: holds no readable picture; give --images a folder with some, or leave it out")
    return ParitySet(tuple(images), f"{len(images)} pictures in {folder}")


def reference_scores(model: QualityModel, images: Sequence[Image], kind: InputKind) -> Scores:
    """Scores by the PyTorch model in float32, fed with the runtime's views: float32 [B]."""
    scores = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            views = [_views(image, kind) for image in images[start : start + _BATCH]]
            semantic, detail = (torch.from_numpy(np.stack(part)) for part in zip(*views, strict=True))
            scores.append(model(semantic, detail).float().numpy())
    return np.concatenate(scores)


def _views(image: Image, kind: InputKind) -> tuple[Image, Image]:
    if kind == "views":
        return sample_views(image)
    # An image graph resizes rows first, as Pillow did up to version 12. Pillow 13 takes columns first where a picture
    # is much taller than wide, and its rounding between the passes makes other pixels of that. Two resizes of one
    # axis each are the same on every Pillow.
    image = enlarge(image)
    picture = PillowImage.fromarray(np.ascontiguousarray(image))
    rows = picture.resize((VIEW_SIZE, picture.height), PillowImage.Resampling.BICUBIC)
    return np.array(rows.resize((VIEW_SIZE, VIEW_SIZE), PillowImage.Resampling.BICUBIC)), detail_view(image)


def compare(backend: str, precision: Precision, scores: Scores, reference: Scores, score_range: float) -> ParityRow:
    """Scores of an artifact against the PyTorch model's on the same pictures.

    Args:
        backend: what ran the artifact.
        precision: of the artifact.
        scores: its scores [B].
        reference: the PyTorch model's [B].
        score_range: width of the score's scale.
    """
    from glia.evaluation.metrics import plcc, srcc

    bound = BOUND_MAX_ABS[precision] * score_range
    difference = np.abs(scores.astype(np.float64) - reference.astype(np.float64))
    finite = bool(np.isfinite(difference).all())
    defined = finite and len(scores) > 1 and np.ptp(scores) > 0 and np.ptp(reference) > 0
    rank = srcc(scores, reference) if defined else None
    linear = plcc(scores, reference) if defined else None
    demands_rank = len(reference) > 2 and float(np.std(reference.astype(np.float64))) >= SPREAD_FOR_SRCC * bound
    bound_srcc = BOUND_SRCC if demands_rank else None
    largest = float(difference.max()) if finite else float(np.finfo(np.float32).max)
    mean = float(difference.mean()) if finite else largest
    passed = largest <= bound and (bound_srcc is None or (rank is not None and rank >= bound_srcc))
    return ParityRow(backend, precision, len(scores), largest, mean, rank, linear, bound, bound_srcc, passed)


def describe(row: ParityRow) -> str:
    """A row of figures on one line."""

    def number(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.6f}"

    rank = f"SRCC {number(row.srcc)}"
    rank += f" (at least {row.bound_srcc})" if row.bound_srcc is not None else ""
    return (
        f"{row.backend} {row.precision} on {row.images} pictures: largest difference {row.max_abs:.3g} "
        f"(bound {row.bound_max_abs:.3g}), mean {row.mean_abs:.3g}, {rank}, PLCC {number(row.plcc)}"
    )
