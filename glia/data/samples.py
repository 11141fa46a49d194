"""What a dataset is: a sequence of samples, each a picture with its score and the reference it was made from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from glia_runtime.manifest import ScoreScale


@dataclass(frozen=True)
class Sample:
    """One rated picture.

    Attributes:
        image: uint8 [H, W, 3].
        score: on the dataset's own scale.
        reference: names the undistorted picture it was made from; splits never separate equal ones.
        distortion: the type's name, or "" for an undistorted picture and where the dataset does not know.
        level: 0 (undistorted) to 5 (severe), or nan where the dataset does not know.
    """

    image: npt.NDArray[np.uint8]
    score: float
    reference: str
    distortion: str = ""
    level: float = math.nan


class Dataset(Protocol):
    """A sequence of samples on one score scale."""

    @property
    def scale(self) -> ScoreScale:
        """Range and direction of the scores."""

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Indices of samples that belong together in a batch (one distortion series), else one each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
