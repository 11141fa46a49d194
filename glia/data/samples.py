"""What a dataset is: a sequence of samples, each a picture with its score and the reference it was made from."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from glia_runtime.decode import decode
from glia_runtime.manifest import ScoreScale

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One rated picture.

    Attributes:
        picture: its file, its pixels (uint8 [H, W, 3]), or a function that brings them.
        score: in the dataset's own units, as the dataset has it; `Dataset.scale` says which direction is better.
        reference: names the undistorted picture it was made from, or itself; splits never separate equal ones.
        distortion: the type's name, or "" for an undistorted picture and where the dataset does not know.
        level: 0 (undistorted) to 5 (severe), or nan where the dataset does not know.
        row: where a user's own list has it, "line 5" say; "" where the picture's name says all.
    """

    picture: Path | Picture | Callable[[], Picture]
    score: float
    reference: str
    distortion: str = ""
    level: float = math.nan
    row: str = ""

    @property
    def path(self) -> Path | None:
        """The picture's file, or None where it has none of its own."""
        return self.picture if isinstance(self.picture, Path) else None

    @property
    def image(self) -> Picture:
        """The pixels, uint8 [H, W, 3]; a file is decoded at every access.

        Raises:
            ImageError: a file that `glia_runtime.decode` refuses.
        """
        if isinstance(self.picture, Path):
            return decode(self.picture)
        return self.picture if isinstance(self.picture, np.ndarray) else self.picture()


class Dataset(Protocol):
    """A sequence of samples on one score scale."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def scale(self) -> ScoreScale:
        """Range and direction of the scores."""

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Indices of samples that belong together in a batch (one distortion series), else one each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class ListedDataset:
    """A dataset whose samples are all known, with their scores, once it is open.

    Attributes:
        name: what reports call it.
        scale: range and direction of the scores.
        samples: in the order of the dataset's own list.
        sets: indices of the parts that the dataset's authors divide it into, by their names for them.
    """

    name: str
    scale: ScoreScale
    samples: Sequence[Sample] = field(repr=False)
    sets: Mapping[str, Sequence[int]] = field(default_factory=dict, repr=False)

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        return [(index,) for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class Subset:
    """Some samples of a dataset, in the order given: one side of a split.

    Args:
        dataset: where they are taken from.
        indices: which; each at most once.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def scale(self) -> ScoreScale:
        return self.dataset.scale

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """What is left of the dataset's groups."""
        places = {index: place for place, index in enumerate(self.indices)}
        left = ([places[index] for index in group if index in places] for group in self.dataset.groups)
        return [group for group in left if group]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]
