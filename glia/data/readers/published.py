"""What the readers of published datasets share: finding files whatever their case, and checking what was read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from glia.data.samples import ListedDataset, Sample
from glia_runtime.errors import DatasetError, GliaError
from glia_runtime.manifest import ScoreScale

_SHOWN = 3  # names in one message
# Scores whose correlation with the evidence is below this run the wrong way. With the level of the distortion those of
# CSIQ, TID2013 and KADID-10k correlate by 0.89, 0.70 and 0.67 the right way.
_OPPOSITE = -0.2


@dataclass(frozen=True)
class Published:
    """What is known of a dataset before it is opened.

    Attributes:
        title: as its authors call it.
        page: where they offer it.
        scale: nominal ends and direction of the scores; its `dataset` is the name in the registry.
        pictures: how many there are.
        references: how many they were made from; None where each is its own.
        overshoot: how far scores may lie outside the nominal scale.
    """

    title: str
    page: str
    scale: ScoreScale
    pictures: int
    references: int | None = None
    overshoot: float = 0.0

    def error(self, what: str) -> DatasetError:
        """One line that ends in where to get the dataset."""
        return DatasetError(f"{what}; {self.title} is offered at {self.page}")

    def find(self, root: Path, *names: str) -> Path | None:
        """The first of some relative names that exists in `root`, whatever the case of its letters.

        Raises:
            DatasetError: no such folder.
        """
        if not root.is_dir():
            raise self.error(f"{root}: no such folder; name the one that holds {names[0]}")
        folder = _Folder(root)
        return next((found for name in names if (found := folder.find(PurePath(name)))), None)

    def require(self, root: Path, *names: str) -> Path:
        """As `find`, for what the dataset cannot be without.

        Raises:
            DatasetError: none of them is there.
        """
        found = self.find(root, *names)
        if found is None:
            raise self.error(f"{root}: holds no {' and no '.join(names)}; name the folder that does")
        return found

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Turn whatever reading a damaged or different file trips over into one line about it.

        Raises:
            DatasetError: the file cannot be read, or does not hold what its authors put there.
        """
        try:
            yield
        except GliaError:
            raise
        except PermissionError as error:
            raise DatasetError(f"{path}: permission denied; make it readable (chmod +r)") from error
        except Exception as error:  # parsers of .mat and .xlsx raise what they like
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            raise self.error(f"{path}: not as it was published ({reason}); download it again") from error

    def dataset(
        self,
        labels: Path,
        folder: Path,
        samples: Sequence[Sample],
        *,
        evidence: Sequence[float] | None = None,
        sets: Mapping[str, Sequence[int]] | None = None,
    ) -> ListedDataset:
        """The dataset, checked: counts, references, range and direction of the scores, and every picture's file.

        Args:
            labels: the file that the samples were read from.
            folder: where pictures lie.
            samples: with paths relative to `folder`.
            evidence: a number per sample that is higher where quality is; None takes the distortion's level, if known.
            sets: as in `ListedDataset`.

        Raises:
            DatasetError: something is missing or not as it was published.
        """
        if len(samples) != self.pictures:
            raise self.error(f"{labels}: lists {len(samples)} pictures instead of {self.pictures}; download it again")
        references, wanted = len({sample.reference for sample in samples}), self.references or self.pictures
        if references != wanted:
            raise self.error(
                f"{labels}: names {references} different references instead of {wanted}; download it again"
            )
        self._check_scores(labels, samples, [-s.level for s in samples] if evidence is None else evidence)
        pictures = _Folder(folder)
        found = [pictures.find(sample.path) if sample.path else None for sample in samples]
        missing = [str(sample.path) for sample, path in zip(samples, found, strict=True) if path is None]
        if missing:
            first = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
            raise self.error(f"{folder}: {len(missing)} of {len(samples)} pictures are missing ({first})")
        there = [replace(s, picture=path) for s, path in zip(samples, found, strict=True) if path]
        return ListedDataset(self.scale.dataset, self.scale, there, sets or {})

    def _check_scores(self, labels: Path, samples: Sequence[Sample], evidence: Sequence[float]) -> None:
        low, high = self.scale.minimum - self.overshoot, self.scale.maximum + self.overshoot
        for sample in samples:
            if not low <= sample.score <= high:  # nor is nan
                raise self.error(
                    f"{labels}: {sample.path} has a score of {sample.score:g}, outside {low:g} to {high:g}"
                )
        scores = np.array([sample.score for sample in samples]) * (1 if self.scale.higher_is_better else -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            agreement = float(np.corrcoef(scores, evidence)[0, 1])  # nan where there is no evidence
        if agreement < _OPPOSITE:
            better = "higher" if self.scale.higher_is_better else "lower"
            raise self.error(f"{labels}: scores run the wrong way ({better} ones should be better); download it again")


class _Folder:
    """A folder whose listings are read once, where a name is found whatever the case of its letters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[Path, dict[str, str]] = {}

    def find(self, name: PurePath) -> Path | None:
        """The file or folder `name`, relative to the root, as it is really called; None where there is none."""
        path = self.root
        for part in name.parts:
            listing = self._listing(path)
            real = listing.get(part) or listing.get(part.lower())
            if real is None:
                return None
            path = path / real
        return path

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._listings:
            try:
                names = [entry.name for entry in folder.iterdir()]
            except NotADirectoryError:
                names = []
            except OSError as error:
                raise DatasetError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
            self._listings[folder] = {name.lower(): name for name in names} | {name: name for name in names}
        return self._listings[folder]
