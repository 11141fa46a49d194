"""The rated side: undistorted references, and the scores of their 125 distorted versions."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from glia.data import open_dataset
from glia.data.samples import Picture
from glia.data.synthetic import LEVELS, DrawnFor, draw_picture, quality
from glia.data.synthetic.labels import LABEL_SCALE
from glia.evaluation.processes import in_processes
from glia.transfer.rendering import DISTORTIONS, read_bounded, render
from glia_runtime.errors import DatasetError
from glia_runtime.manifest import ScoreScale

Labels = Mapping[str, Sequence[float]]
"""Of one reference: for each of KADID-10k's 25 distortions the scores at levels 1 to 5."""

SYNTHETIC = "synthetic"


class Labelled(Protocol):
    """Undistorted pictures whose distorted versions have been rated."""

    @property
    def name(self) -> str:
        """What the labels are called after."""

    @property
    def scale(self) -> ScoreScale:
        """Of the labels."""

    @property
    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest of all labels, where they are known; else the ends of the scale."""

    @property
    def references(self) -> Sequence[str]:
        """Names of the undistorted pictures."""

    def picture(self, reference: str) -> Picture:
        """The undistorted picture, uint8 [H, W, 3]."""

    def labels(self, references: Sequence[str], processes: int) -> Iterable[Labels]:
        """The labels of some references, in order, worked out by so many processes where they are not known yet."""


class Kadid:
    """KADID-10k as its authors ship it: 81 references.

    Args:
        root: its folder.
        side: bound of the references' longer sides in pixels.

    Raises:
        DatasetError: files that are missing or not as they should be, or a reference with some of its labels only.
    """

    name = "kadid"

    def __init__(self, root: Path, side: int) -> None:
        dataset = open_dataset("kadid", root)
        self.scale = dataset.scale
        self._side = side
        self._paths: dict[str, Path] = {}
        self._labels: dict[str, dict[str, list[float]]] = {}
        for index in range(len(dataset)):
            sample = dataset[index]
            assert sample.path is not None
            self._paths.setdefault(sample.reference, sample.path.with_name(sample.reference + sample.path.suffix))
            unknown = {name: [np.nan] * len(LEVELS) for name in DISTORTIONS}
            scores = self._labels.setdefault(sample.reference, unknown)
            scores[sample.distortion][int(sample.level) - 1] = sample.score
        every = [
            score for of_reference in self._labels.values() for series in of_reference.values() for score in series
        ]
        self.extremes = min(every), max(every)
        for reference, known in self._labels.items():
            missing = int(np.isnan(list(known.values())).sum())
            if missing:
                raise DatasetError(f"{root}: {missing} labels of {reference} are missing; download the dataset again")

    @property
    def references(self) -> Sequence[str]:
        return list(self._paths)

    def picture(self, reference: str) -> Picture:
        return read_bounded(self._paths[reference], self._side)

    def labels(self, references: Sequence[str], processes: int) -> Iterable[Labels]:
        return [self._labels[reference] for reference in references]


class Drawn:
    """Pictures drawn by rule. Their distorted versions are labelled by full-reference metrics when they are asked for.

    That takes half a second for each distortion, so references that no picture resembles are not labelled.

    Args:
        count: how many to draw.
    """

    name = SYNTHETIC
    scale = LABEL_SCALE
    extremes = LABEL_SCALE.minimum, LABEL_SCALE.maximum

    def __init__(self, count: int) -> None:
        self._numbers = {f"drawn-{number}": number for number in range(count)}

    @property
    def references(self) -> Sequence[str]:
        return list(self._numbers)

    def picture(self, reference: str) -> Picture:
        return draw_picture(DrawnFor.TRANSFER, self._numbers[reference])

    def labels(self, references: Sequence[str], processes: int) -> Iterable[Labels]:
        tasks = ((self._numbers[reference], name) for reference in references for name in DISTORTIONS)
        with closing(in_processes(label_series, tasks, processes)) as series:
            for _ in references:
                yield {name: next(series) for name in DISTORTIONS}


def label_series(number: int, distortion: str) -> list[float]:
    """Scores of a drawn reference distorted at levels 1 to 5, against itself undistorted."""
    torch.set_num_threads(1)
    reference = draw_picture(DrawnFor.TRANSFER, number)
    return [quality(reference, render(reference, number, distortion, level)) for level in LEVELS]
