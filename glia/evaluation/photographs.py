"""How a model ranks photographs that were damaged on purpose.

Every photograph is distorted by every type at the five levels of `glia.data.synthetic`; a good model's scores
fall as the level rises, and over all of them agree with the full-reference label, which saw the original.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from glia.data.synthetic import DISTORTIONS, KADID_DISTORTIONS, LEVELS, distort, quality
from glia.evaluation.metrics import krcc, plcc, srcc
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError, UsageError
from glia_runtime.views import enlarge

Picture = npt.NDArray[np.uint8]
_SMALLEST_SIDE = 16  # HaarPSI's largest filter
Score = Callable[[Sequence[Picture]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DistortedPhotograph:
    """All series of one photograph: T lists of L pictures, uint8 [H, W, 3], and their labels, float [T, L]."""

    series: list[list[Picture]]
    labels: npt.NDArray[np.float64]


@dataclass(frozen=True)
class PhotographReport:
    """What came out.

    Attributes:
        photographs: how many were scored.
        within: for each type, SRCC between score and falling level within a photograph, mean over photographs.
        srcc: of score and label over all distorted photographs.
        plcc: the same, linear, unfitted.
        krcc: the same, Kendall's.
        failures: one line for each file that could not be read.
    """

    photographs: int
    within: dict[str, float]
    srcc: float
    plcc: float
    krcc: float
    failures: list[str]

    @property
    def within_kadid(self) -> float:
        """Mean of `within` over KADID-10k's 25 types."""
        return float(np.mean([self.within[name] for name in KADID_DISTORTIONS]))


def distort_photograph(path: Path) -> DistortedPhotograph | str:
    """Every type at every level of one photograph; or one line that says why it cannot be read."""
    torch.set_num_threads(1)
    try:
        original = decode(path)
        enlarge(original)  # refuses what no model could be shown
    except ImageError as error:
        return str(error)
    if min(original.shape[:2]) < _SMALLEST_SIDE:
        return (
            f"{path}: too small for the full-reference metrics, which need {_SMALLEST_SIDE} pixels a side; leave it out"
        )
    series = [[distort(original, name, level, np.random.default_rng(0)) for level in LEVELS] for name in DISTORTIONS]
    return DistortedPhotograph(series, np.array([[quality(original, image) for image in row] for row in series]))


def choose_photographs(folder: Path, count: int) -> list[Path]:
    """`count` pictures spread evenly over the sorted contents of a folder and the folders in it.

    Raises:
        UsageError: the folder is missing or holds no pictures.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give one that holds photographs")
    suffixes = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not found:
        raise UsageError(f"{folder}: holds no pictures (looked for {', '.join(sorted(suffixes))})")
    return [found[int(i)] for i in np.linspace(0, len(found) - 1, min(count, len(found))).round()]


def rank_photographs(
    score: Score,
    paths: Sequence[Path],
    *,
    higher_is_better: bool = True,
    processes: int = 1,
    advance: Callable[[], object] = lambda: None,
) -> PhotographReport:
    """Distort photographs, score them, and compare.

    Args:
        score: pictures, uint8 [H, W, 3] each, to scores float32 [B].
        paths: photographs.
        higher_is_better: the direction of the scores.
        processes: how many distort at the same time; the distortions and labels cost more than a small model.
        advance: called after each photograph.

    Raises:
        UsageError: none of the photographs could be read.
    """
    sign = 1 if higher_is_better else -1
    within: list[list[float]] = []
    scores: list[npt.NDArray[np.float64]] = []
    labels: list[npt.NDArray[np.float64]] = []
    failures: list[str] = []
    for result in _distorted(paths, processes):
        advance()
        if isinstance(result, str):
            failures.append(result)
            continue
        predicted = np.array([sign * score(row).astype(np.float64) for row in result.series])  # [T, L]
        within.append([srcc(row, -np.array(LEVELS, float)) for row in predicted])
        scores.append(predicted.ravel())
        labels.append(result.labels.ravel())
    if not scores:
        raise UsageError(f"none of {len(paths)} photographs could be read; the first: {failures[0]}")
    everything = np.concatenate(scores), np.concatenate(labels)
    means = dict(zip(DISTORTIONS, np.mean(within, axis=0).tolist(), strict=True))
    return PhotographReport(len(scores), means, srcc(*everything), plcc(*everything), krcc(*everything), failures)


def _distorted(paths: Sequence[Path], processes: int) -> Iterator[DistortedPhotograph | str]:
    if processes < 2:
        yield from map(distort_photograph, paths)
        return
    # spawn: the parent has started threads by now, and a fork would inherit their locks
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(distort_photograph, paths)
