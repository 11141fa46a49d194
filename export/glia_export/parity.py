"""The proof that travels with an artifact: its scores beside those of the PyTorch model it was made from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from glia.models import QualityModel
from glia_runtime.decode import decode
from glia_runtime.errors import ArtifactError, ImageError, UsageError
from glia_runtime.fragments import Image
from glia_runtime.inputs import check_limits
from glia_runtime.listing import some_pictures
from glia_runtime.manifest import Limits, ParityRow, Precision
from glia_runtime.probe import probe_images
from glia_runtime.view_spec import Views, ViewSpec

Scores = npt.NDArray[np.float32]
Maps = npt.NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Bounds:
    """What a parity row has to keep: differences in parts of the score's range, and the order.

    Attributes:
        max_abs: of the largest difference.
        mean_abs: of the mean one; None where the largest says enough.
        srcc: at least this; see `SPREAD_FOR_SRCC`.
    """

    max_abs: float
    mean_abs: float | None = None
    srcc: float = 0.999

    @property
    def usual(self) -> float:
        """How large a difference is still ordinary."""
        return self.max_abs if self.mean_abs is None else self.mean_abs


# fp32 differs in the order of summation only (about 1e-6 seen); fp16 keeps 11 bits through some 25 blocks (about 1e-3
# seen). bf16 keeps 8, its rounding is 8 times as coarse: 8e-2 by that reckoning; 1.2e-2 seen (where fp16 was off by
# 5e-4), and 4e-2 finds more of the graphs that lost a part. Since one picture in hundreds may come near that, the mean
# is bounded as well.
BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(1e-4),
    "fp16": Bounds(1e-2),
    "fp16-weights": Bounds(1e-2),
    "bf16": Bounds(4e-2, mean_abs=1e-2, srcc=0.998),
}

# Parts of a map's largest share. Seen with a trained ViT-tiny, the most of any backend: 1e-5 in fp32; 5e-3 in fp16,
# which rounds the exponents of the softmax; 7e-2 in bf16. Its map of another block differs by 15, and one that is
# shifted by a patch by 1 (by 0.26 where a hardly trained model's shares are nearly even).
BOUND_MAP: dict[Precision, float] = {"fp32": 1e-4, "fp16": 5e-2, "fp16-weights": 5e-2, "bf16": 0.25}

# Ranks of scores that hardly differ say nothing: an error inside the bound may swap them. SRCC is demanded once the
# reference scores' standard deviation is this many times the usual error allowed. An untrained model, whose scores
# lie within a few hundredths of its scale, is thus held to the ranks in fp32 (where 5 times the bound is a two
# thousandth of the scale), so that a graph which ignores a view is found there, and in fp16 to the difference alone.
SPREAD_FOR_SRCC = 5.0

MOST_PICTURES = 200
"""Pictures of a folder that scores are compared on, fewer where each is looked at many times. ViT-B/16 takes two
minutes for GLIANet's views of them on two cores, and a wrong graph shows on a few.
"""

_PICTURES = 27
# Where each picture is looked at many times: ViT-S/16 and ResNet-50 take 4 s for 25 crops on a core.
_FEWEST_PICTURES = 6
_BATCH = 8


@dataclass(frozen=True)
class ParitySet:
    """The pictures that scores are compared on.

    Attributes:
        sources: the pixels of each, or the file they are in, since a folder of photographs would fill the memory.
        views: what the model is shown of each, 300 kB a picture, in crops 3.8 MB.
        about: what to call the set.
    """

    sources: tuple[Image | Path, ...]
    views: tuple[Views, ...]
    about: str

    def images(self) -> Iterator[Image]:
        """The whole pictures, uint8 [H, W, 3], decoded one at a time.

        Raises:
            ImageError: a file has been removed or damaged since its views were made.
        """
        for source in self.sources:
            yield decode(source) if isinstance(source, Path) else source


def built_in_pictures(spec: ViewSpec) -> ParitySet:
    """The probe's pictures and drawn ones of many sizes and qualities, the same on every machine, seen as `spec`."""
    from glia.data.synthetic import DISTORTIONS, DrawnFor, distort, draw_picture  # scikit-image and scipy: seconds

    names = tuple(DISTORTIONS)
    images = [*probe_images()]
    for index in range(max(_FEWEST_PICTURES, _PICTURES // spec.looks)):
        rng = np.random.default_rng((DrawnFor.PARITY, index))
        # Every third picture undamaged, the rest by one type each at levels 1 to 5.
        level = 0 if index % 3 == 0 else 1 + index % 5
        picture = distort(draw_picture(DrawnFor.PARITY, index), names[index % len(names)], level, rng)
        # Drawn sides are 256 to 512; cut some down to what has to be enlarged, and some to odd strips.
        height, width = picture.shape[:2]
        if index % 9 == 4:
            picture = picture[: height // 3, : width // 2]
        elif index % 9 == 7:
            picture = picture[:, : 229 + index]
        images.append(np.ascontiguousarray(picture))
    return ParitySet(tuple(images), tuple(map(spec.sample, images)), f"{len(images)} built-in pictures")


def pictures_in(folder: Path, spec: ViewSpec, limits: Limits, say: Say, most: int = MOST_PICTURES) -> ParitySet:
    """Pictures in `folder` and the folders in it, spread evenly over the sorted names.

    For a model that looks at each many times they are so many fewer than `most`, but `_FEWEST_PICTURES`.

    Args:
        folder: what else lies there is passed over.
        spec: of the views.
        limits: of the artifact; a picture beyond them is skipped like one that cannot be read.
        say: told on one line each that not all were taken, and how many were skipped.
        most: to take.

    Raises:
        UsageError: no folder, or no readable picture in it.
    """
    paths = some_pictures(folder, max(_FEWEST_PICTURES, most // spec.looks), say)
    views: dict[Path, Views] = {}
    skipped: list[ImageError] = []
    for path in paths:
        try:
            views[path] = _views_of(path, spec, limits)
        except ImageError as error:  # broken pictures are common in real folders, and no fault of the artifact
            skipped.append(error)
    if skipped:
        say(f"{folder}: skipped {len(skipped)} of {len(paths)} pictures, the first: {skipped[0]}")
    if not views:
        raise UsageError(f"{folder}: holds no readable picture; give --images a folder with some, or leave it out")
    return ParitySet(tuple(views), tuple(views.values()), f"{len(views)} pictures in {folder}")


def _views_of(path: Path, spec: ViewSpec, limits: Limits) -> Views:
    image = decode(path)
    try:
        check_limits(image, limits)
        return spec.sample(image)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def reference_scores(model: QualityModel, views: Sequence[Views]) -> Scores:
    """Scores by the PyTorch model in float32, fed with the runtime's views: float32 [B]."""
    scores = []
    with torch.inference_mode():
        step = max(1, _BATCH // model.view_spec.looks)
        for start in range(0, len(views), step):
            scores.append(model(*_stacked(views[start : start + step])).float().numpy())
    return np.concatenate(scores)


def reference_maps(model: QualityModel, images: Sequence[Image]) -> Maps:
    """Maps by the PyTorch model in float32, fed with the runtime's views: float32 [B, G, G]."""
    with torch.inference_mode():
        maps: Maps = model.look(*_stacked(list(map(model.view_spec.sample, images))))[1].float().numpy()
    return maps


def _stacked(views: Sequence[Views]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.stack(view)) for view in zip(*views, strict=True)]


def map_difference(maps: Maps, reference: Maps) -> float:
    """The largest difference between maps [B, G, G], in parts of the largest share in the reference's map."""
    return float((np.abs(maps - reference).max((1, 2)) / reference.max((1, 2))).max())


def check_maps(maps: Maps, reference: Maps, precision: Precision) -> None:
    """Raise `ArtifactError` unless maps [B, G, G] in `precision` are the reference's within `BOUND_MAP`."""
    difference, bound = map_difference(maps, reference), BOUND_MAP[precision]
    if not difference <= bound:
        raise ArtifactError(
            f"the exported file does not look where the model does: its maps differ by {difference:.3g} of their "
            f"largest share (bound {bound:g}); export it again"
        )


def compare(
    backend: str,
    precision: Precision,
    scores: Scores,
    reference: Scores,
    score_range: float,
    device: str = "cpu",
) -> ParityRow:
    """Scores of an artifact against the PyTorch model's on the same pictures.

    Args:
        backend: what ran the artifact.
        precision: what it computed in.
        scores: its scores [B].
        reference: the PyTorch model's [B].
        score_range: width of the score's scale.
        device: what it ran on.
    """
    from glia.evaluation.metrics import plcc, srcc

    bounds = BOUNDS[precision]
    difference = np.abs(scores.astype(np.float64) - reference.astype(np.float64))
    finite = bool(np.isfinite(difference).all())
    defined = finite and len(scores) > 1 and np.ptp(scores) > 0 and np.ptp(reference) > 0
    rank = srcc(scores, reference) if defined else None
    spread = float(np.std(reference.astype(np.float64)))
    demands_rank = len(reference) > 2 and spread >= SPREAD_FOR_SRCC * bounds.usual * score_range
    largest = float(difference.max()) if finite else float(np.finfo(np.float32).max)
    mean = float(difference.mean()) if finite else largest
    bound_max = bounds.max_abs * score_range
    bound_mean = None if bounds.mean_abs is None else bounds.mean_abs * score_range
    return ParityRow(
        backend=backend,
        precision=precision,
        device=device,
        images=len(scores),
        max_abs=largest,
        mean_abs=mean,
        srcc=rank,
        plcc=plcc(scores, reference) if defined else None,
        bound_max_abs=bound_max,
        bound_mean_abs=bound_mean,
        bound_srcc=bounds.srcc if demands_rank else None,
        passed=largest <= bound_max
        and (bound_mean is None or mean <= bound_mean)
        and (not demands_rank or (rank is not None and rank >= bounds.srcc)),
    )


def describe(row: ParityRow) -> str:
    """A row of figures on one line."""

    def number(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.6f}"

    mean = f"mean {row.mean_abs:.3g}"
    mean += f" (bound {row.bound_mean_abs:.3g})" if row.bound_mean_abs is not None else ""
    rank = f"SRCC {number(row.srcc)}"
    rank += f" (at least {row.bound_srcc})" if row.bound_srcc is not None else ""
    return (
        f"{row.backend} {row.precision} on {row.device}, {row.images} pictures: largest difference {row.max_abs:.3g} "
        f"(bound {row.bound_max_abs:.3g}), {mean}, {rank}, PLCC {number(row.plcc)}"
    )
