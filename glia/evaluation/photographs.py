"""How a model ranks photographs that were damaged on purpose.

Every photograph is distorted by every type at the five levels of `glia.data.synthetic`; a good model's scores
fall as the level rises, and over all of them agree with the full-reference label, which saw the original.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from glia.data.synthetic import DISTORTIONS, KADID_DISTORTIONS, LEVELS, distort, quality
from glia.data.synthetic.labels import SMALLEST_SIDE
from glia.evaluation.metrics import krcc, plcc, srcc
from glia.evaluation.processes import in_processes
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError, UsageError
from glia_runtime.views import enlarge

Picture = npt.NDArray[np.uint8]
Score = Callable[[Sequence[Picture]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DistortedSeries:
    """A photograph distorted by one type: L pictures, uint8 [H, W, 3], level by level; their labels, float64 [L]."""

    pictures: list[Picture]
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


def distort_photograph(path: Path, name: str) -> DistortedSeries:
    """The photograph distorted by the type `name` at every level.

    Raises:
        ImageError: it cannot be read, shown to a model, or labelled.
    """
    torch.set_num_threads(1)
    original = _read(path)
    pictures = [distort(original, name, level, np.random.default_rng(0)) for level in LEVELS]
    return DistortedSeries(pictures, np.array([quality(original, picture) for picture in pictures]))


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
        UsageError: none of the photographs could be read, or a process was killed.
    """
    sign = 1 if higher_is_better else -1
    scores: list[npt.NDArray[np.float64]] = []
    labels: list[npt.NDArray[np.float64]] = []
    failures: list[str] = []

    def tasks() -> Iterator[tuple[Path, str]]:
        for path in paths:
            try:
                _read(path)  # costs little beside the distortions, and says what is wrong once, not for every type
            except ImageError as error:
                failures.append(str(error))
                advance()
            else:
                yield from ((path, name) for name in DISTORTIONS)

    with closing(in_processes(distort_photograph, tasks(), processes)) as distorted:
        for series in distorted:
            scores.append(sign * score(series.pictures).astype(np.float64))
            labels.append(series.labels)
            if len(scores) % len(DISTORTIONS) == 0:
                advance()
    if not scores:
        raise UsageError(f"none of {len(paths)} photographs could be read; the first: {failures[0]}")
    within = [srcc(row, -np.array(LEVELS, float)) for row in scores]
    by_photograph = np.reshape(within, (-1, len(DISTORTIONS)))
    means = dict(zip(DISTORTIONS, by_photograph.mean(axis=0).tolist(), strict=True))
    all_ = np.concatenate(scores), np.concatenate(labels)
    return PhotographReport(len(by_photograph), means, srcc(*all_), plcc(*all_), krcc(*all_), failures)


def _read(path: Path) -> Picture:
    picture = decode(path)
    try:
        enlarge(picture)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    if min(picture.shape[:2]) < SMALLEST_SIDE:
        raise ImageError(
            f"{path}: too small for the full-reference metrics, which need {SMALLEST_SIDE} pixels a side; leave it out"
        )
    return picture
