"""The synthetic dataset: deterministic, endless in principle, cached on disk when asked."""

import hashlib
import zipfile
from collections.abc import Sequence
from enum import IntEnum, unique
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glia.data.samples import Sample
from glia.data.synthetic.distortions import COMMON_DISTORTIONS, DISTORTIONS, LEVELS, distort
from glia.data.synthetic.labels import LABEL_SCALE, quality
from glia.data.synthetic.pictures import draw_picture
from glia_runtime.atomic import atomic_write
from glia_runtime.errors import OutputError
from glia_runtime.manifest import ScoreScale

RECIPE = 12
"""Which pictures, distortions and labels these are: raised with every change, and part of what is kept of them."""
_STEPS = 1 + len(LEVELS)  # of a series: the picture itself, then every level
# The types of as many pictures in a row. What files suffer most comes up twice, each time in another picture, and so
# does what is hardest to tell without the undamaged one, the two hardest three times: more is learnt from many pictures
# than from the same few shown more often.
_HARDEST = ("motion_blur", "non_eccentricity_patch")
_HARD = (*_HARDEST, "color_diffusion", "darken", "mean_shift", "high_sharpen")
_ROUND: tuple[str, ...] = (*DISTORTIONS, *COMMON_DISTORTIONS, *_HARD, *_HARDEST)
_Series = tuple[list[npt.NDArray[np.uint8]], list[float], list[float]]


@unique
class DrawnFor(IntEnum):
    """The seeds in use, one for each purpose, so that nothing is tested on pictures that it was trained on."""

    TRAINING = 0  # the bundled model's last training, too
    VALIDATION = 1
    BUNDLED = 2  # an earlier training of its backbone, so that nothing is tested on these
    BENCHMARK = 3
    TRANSFER = 4
    TEST = 5
    PARITY = 20_240  # as it was before there was this list


class SyntheticDataset:
    """Distortion series of drawn pictures: each picture as itself, and damaged by one type at five rising levels.

    Sample `i` depends on `seed` and `i` only, on any machine and in any order, so two datasets of one seed and
    different lengths share their beginning. Levels but 0 are moved off the integers by up to 0.45 so that training
    sees the whole range.

    Args:
        pictures: how many to draw; the dataset holds 6 samples of each.
        seed: which endless sequence of pictures, see `DrawnFor`.
        cache: a folder to keep rendered series in (about 2 MB each), or None to render every time.
    """

    def __init__(self, pictures: int, seed: int = DrawnFor.TRAINING, cache: Path | None = None) -> None:
        self.pictures = pictures
        self.seed = seed
        self.cache = cache
        self._load = lru_cache(maxsize=2)(self._load_series)

    def __reduce__(self) -> tuple[type["SyntheticDataset"], tuple[int, int, Path | None]]:
        return type(self), (self.pictures, self.seed, self.cache)  # for a loader's processes: not what is loaded

    @property
    def name(self) -> str:
        return "synthetic"

    @property
    def scale(self) -> ScoreScale:
        return LABEL_SCALE

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """The series."""
        return [range(s * _STEPS, (s + 1) * _STEPS) for s in range(self.pictures)]

    def __len__(self) -> int:
        return self.pictures * _STEPS

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        series, step = divmod(index, _STEPS)
        images, scores, levels = self._load(series)
        return Sample(
            picture=images[step],
            score=scores[step],
            reference=f"synthetic/{self.seed}/{series}",
            distortion=self._distortion(series) if step else "",
            level=levels[step],
        )

    def _distortion(self, series: int) -> str:
        """The types follow one another in shuffled rounds."""
        round_, place = divmod(series, len(_ROUND))
        order = np.random.default_rng((self.seed, round_, 0)).permutation(len(_ROUND))
        return _ROUND[int(order[place])]

    def _load_series(self, series: int) -> _Series:
        if self.cache is None:
            return self._render(series)
        key = hashlib.sha256(f"{RECIPE}:{self.seed}:{series}".encode()).hexdigest()[:24]
        path = self.cache / key[:2] / f"{key}.npz"
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
                return list(stored["images"]), stored["scores"].tolist(), stored["levels"].tolist()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (EOFError, ValueError, KeyError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)  # cut short by a crash of the machine: rendered again
        images, scores, levels = self._render(series)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.cache}: cannot keep pictures here ({error.strerror}); choose another") from error
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, images=np.stack(images), scores=np.array(scores), levels=np.array(levels))
        return images, scores, levels

    def _render(self, series: int) -> _Series:
        reference = draw_picture(self.seed, series)
        rng = np.random.default_rng((self.seed, series, 1))
        levels = [0.0, *(np.array(LEVELS) + rng.uniform(-0.45, 0.45, len(LEVELS))).tolist()]
        choices = int(rng.integers(2**31))
        name = self._distortion(series)
        images = [distort(reference, name, level, np.random.default_rng(choices)) for level in levels]
        scores = [100.0, *(quality(reference, image) for image in images[1:])]
        return images, scores, levels


def open_synthetic(
    root: Path | None, *, pictures: int = 2 * len(DISTORTIONS), seed: int = DrawnFor.TRAINING
) -> SyntheticDataset:
    """The dataset as `glia.data.open_dataset` opens it, with its cache in `root`."""
    return SyntheticDataset(pictures, seed, root)
