"""Pictures whose labels were carried over from rated ones that they resemble: a folder of `glia-transfer-labels`."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import overload

from glia.data.samples import Picture, Sample
from glia.data.synthetic import LEVELS
from glia.transfer.folder import RENDERED_FOLDER, picture_path, picture_paths, read_rows, read_transfer
from glia.transfer.rendering import DISTORTIONS, PER_PICTURE, read_bounded, render, rendered_folder, rendered_path
from glia_runtime.errors import DatasetError
from glia_runtime.manifest import ScoreScale

# A series is drawn level by level: what is decoded once serves five samples.
_read = lru_cache(maxsize=2)(read_bounded)


class TransferredDataset:
    """125 samples of each picture: 25 distortions at five levels, damaged when they are looked at.

    Where the transfer has written them to files, samples are these files.

    Args:
        root: the folder.

    Raises:
        DatasetError: it holds no finished transfer, is damaged, or pictures are missing.
    """

    name = "saqt"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._transfer = read_transfer(root)
        rows = enumerate(read_rows(root))
        self._rows = [(place, row) for place, row in rows if self._transfer.carries(row)]
        unknown = {name for _, row in self._rows for name in row.references} - set(self._transfer.labels)
        if unknown:
            raise DatasetError(f"{root}: has changed since it was finished; finish it with --resume")
        shown = (rendered_folder(Path(RENDERED_FOLDER), place) for place, _ in self._rows)
        files = list(map(str, shown)) if self._transfer.rendered else [row.path for _, row in self._rows]
        missing = [file for file, path in zip(files, picture_paths(root, files), strict=True) if not path.exists()]
        if missing:
            raise DatasetError(
                f"{root}: {len(missing)} of {len(self._rows)} pictures are missing, the first: {missing[0]}; put them "
                "back, or finish the transfer with --resume"
            )

    @property
    def scale(self) -> ScoreScale:
        return self._transfer.scale

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """The series: one distortion of one picture at its five levels."""
        return _Series(len(self) // len(LEVELS))

    def __len__(self) -> int:
        return len(self._rows) * PER_PICTURE

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        picture, version = divmod(index, PER_PICTURE)
        place, row = self._rows[picture]
        series, step = divmod(version, len(LEVELS))
        distortion, level = DISTORTIONS[series], LEVELS[step]
        return Sample(
            picture=rendered_path(self._root / RENDERED_FOLDER, place, distortion, level)
            if self._transfer.rendered
            else partial(self._render, place, distortion, level, row.path),
            score=self._transfer.score(row, distortion, level),
            reference=row.path,
            distortion=distortion,
            level=float(level),
        )

    def _render(self, place: int, distortion: str, level: int, path: str) -> Picture:
        original = _read(picture_path(self._root, path), self._transfer.side)
        return render(original, place, distortion, level)


class _Series(Sequence[range]):
    """So many runs of five indices: a list of them would take 100 MB for 50,000 pictures."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> range: ...
    @overload
    def __getitem__(self, number: slice) -> list[range]: ...
    def __getitem__(self, number: int | slice) -> range | list[range]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(self._count))]
        if not 0 <= number < self._count:
            raise IndexError(number)
        return range(number * len(LEVELS), (number + 1) * len(LEVELS))


def open_saqt(root: Path) -> TransferredDataset:
    """The dataset as `glia.data.open_dataset` opens it."""
    return TransferredDataset(root)
