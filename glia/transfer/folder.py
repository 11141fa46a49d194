"""The folder of a transfer: which references each picture resembles, and the labels of those references.

`neighbours.jsonl` grows while pictures are looked at, and a run that was stopped goes on from it: a head that says
what decides its rows, then a row for each picture. `transfer.json`, written last, holds the labels of the references;
the labels of all distorted pictures follow from the two. They are not written out: of 50,000 pictures, the two files
have 6 MB and a list of all 6.25 million labels would have 600 MB.
"""

import csv
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from glia.data.synthetic import LEVELS
from glia.transfer.rendering import DISTORTIONS, rendered_path
from glia_runtime.atomic import atomic_write
from glia_runtime.errors import DatasetError, OutputError, UsageError
from glia_runtime.manifest import ScoreScale

NEIGHBOURS_FILE = "neighbours.jsonl"
TRANSFER_FILE = "transfer.json"
RENDERED_FOLDER = "rendered"
LABELS_FILE = "labels.csv"
REPORT_FILE = "report.html"

_VERSION = 2  # of both files: raise it when a row, or how a picture is damaged, changes


@dataclass(frozen=True)
class Row:
    """One new picture.

    Attributes:
        path: of its file, from the transfer's folder.
        references: names of the references most like it, the nearest first; none where it could not be read.
        similarities: their cosines.
        error: one line where it could not be read, else "".
    """

    path: str
    references: tuple[str, ...] = ()
    similarities: tuple[float, ...] = ()
    error: str = ""

    def resembles(self, threshold: float) -> bool:
        """Whether the picture is at least that similar to its nearest reference."""
        return not self.error and self.similarities[0] >= threshold


def picture_path(folder: Path, path: str) -> Path:
    """The file of a row's picture.

    Args:
        folder: of the transfer; may be a link.
        path: the row's.
    """
    return next(picture_paths(folder, [path]))


def picture_paths(folder: Path, paths: Iterable[str]) -> Iterator[Path]:
    """`picture_path` of each, with the folder looked up once: a transfer may have millions of rows."""
    # Leaving a link by ".." leads out of the folder it points to, which is where rows count from.
    resolved = folder.resolve()
    return (Path(os.path.normpath(resolved / path)) for path in paths)


@dataclass(frozen=True)
class Transfer:
    """What a finished transfer says besides its rows.

    Attributes:
        scale: of the labels.
        labels: for each reference that gives labels and each distortion, the scores at levels 1 to 5.
        side: longer sides of pictures are at most this many pixels.
        threshold: pictures less similar than this to their nearest reference are left out.
        rendered: whether the distorted pictures lie in files.
        facts: what people may want to know: where the labels are from, which features compared.
    """

    scale: ScoreScale
    labels: Mapping[str, Mapping[str, Sequence[float]]]
    side: int
    threshold: float
    rendered: bool
    facts: Mapping[str, Any]

    def carries(self, row: Row) -> bool:
        """Whether the picture of a row is given labels."""
        return row.resembles(self.threshold)

    def score(self, row: Row, distortion: str, level: int) -> float:
        """The label of a distorted picture: the mean over the references that it resembles."""
        scores = [self.labels[reference][distortion][level - 1] for reference in row.references]
        return sum(scores) / len(scores)


class Neighbours:
    """The rows of a transfer, locked against a second run until `close`.

    Args:
        folder: of the transfer.
        recipe: JSON-ready facts that decide the rows.
        resume: go on with the rows that are there.

    Raises:
        UsageError: `resume` without rows, or with rows of another recipe.
        OutputError: rows are there without `resume`, another run writes them, or they cannot be written.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], *, resume: bool) -> None:
        self.path = folder / NEIGHBOURS_FILE
        if resume and not self.path.exists():
            raise UsageError(f"{folder}: no transfer to resume here; start one without --resume")
        if not resume:
            refuse_occupied(folder)
        head = json.dumps({"glia_transfer": _VERSION, **recipe}).encode() + b"\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self.path, "a+")
            self._lock(folder)
            with self.path.open("rb") as file:
                stored = file.readline()
                whole = len(stored) + sum(len(line) for line in file if line.endswith(b"\n"))
            if not stored.endswith(b"\n"):
                self._file.truncate(0)
                self._write(head)
            elif stored == head:
                self._file.truncate(whole)  # a kill tears the last row at most
            elif _head(stored).get("glia_transfer") != _VERSION:
                self.close()
                raise UsageError(f"{folder}: a transfer by another version of glia; remove it, or choose another --out")
            else:
                self.close()
                different = _differences(stored, json.loads(head))
                raise UsageError(f"{folder}: was started with another {different}; resume with the same options")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}); choose another --out") from error

    def __enter__(self) -> "Neighbours":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows; raise `OutputError` when they cannot be.

        What was finished without a row that may give labels is finished no longer: its `transfer.json` goes.
        """
        try:
            if not all(row.error for row in rows):
                (self.path.parent / TRANSFER_FILE).unlink(missing_ok=True)
            self._write(b"".join(json.dumps(asdict(row)).encode() + b"\n" for row in rows))
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); free some space, then go on with --resume"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:  # a disk that fills up takes the first part
            rest = rest[self._file.write(rest) :]

    def _lock(self, folder: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise OutputError(f"{folder}: another run is writing it; wait for that run, or choose another") from None


def refuse_occupied(folder: Path) -> None:
    """Raise `OutputError` where a transfer has begun in the folder."""
    if (folder / NEIGHBOURS_FILE).exists():
        raise OutputError(
            f"{folder}: holds a transfer already; go on with --resume, remove it, or choose another --out"
        )


def read_features(folder: Path) -> str:
    """What the pictures of a transfer that has begun are compared by, as its recipe says; else ""."""
    try:
        with (folder / NEIGHBOURS_FILE).open("rb") as file:
            return str(_head(file.readline()).get("features", ""))
    except OSError:  # not begun
        return ""


def read_rows(folder: Path) -> list[Row]:
    """The rows of a transfer, in the order in which the pictures came first; of two for one picture, the later.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    path = folder / NEIGHBOURS_FILE
    rows: dict[str, Row] = {}
    try:
        with path.open("rb") as file:
            file.readline()
            for line in file:
                fields = json.loads(line)
                lists = {key: tuple(fields[key]) for key in ("references", "similarities")}
                rows[fields["path"]] = Row(**{**fields, **lists})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: missing or damaged; go on with --resume, which mends a torn last row, or make the transfer anew"
        ) from error
    return list(rows.values())


def write_transfer(folder: Path, transfer: Transfer) -> None:
    """Write `transfer.json`, whole or not at all; raise `OutputError` when it cannot be."""
    with atomic_write(folder / TRANSFER_FILE) as temporary:
        temporary.write_text(json.dumps({"glia_transfer": _VERSION, **asdict(transfer)}) + "\n")


def write_labels(folder: Path, transfer: Transfer, carried: Iterable[tuple[int, Row]]) -> None:
    """List rendered pictures with their labels, for whoever reads CSV; raise `OutputError` when it cannot be.

    Args:
        folder: of the transfer.
        transfer: where the labels are.
        carried: the rows of the pictures, each with its place among all rows.
    """
    with (
        atomic_write(folder / LABELS_FILE) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("path", "score", "reference", "distortion", "level"))
        for place, row in carried:
            for distortion in DISTORTIONS:
                for level in LEVELS:
                    path = rendered_path(Path(RENDERED_FOLDER), place, distortion, level)
                    writer.writerow((path, transfer.score(row, distortion, level), row.path, distortion, level))


def read_transfer(folder: Path) -> Transfer:
    """Read `transfer.json`.

    Raises:
        DatasetError: it is missing, damaged or of another version of glia.
    """
    path = folder / TRANSFER_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{folder}: holds no finished transfer; make one with glia-transfer-labels (--resume goes on with one)"
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read; make the transfer anew") from error
    if not isinstance(stored, dict) or stored.pop("glia_transfer", None) != _VERSION:
        raise DatasetError(f"{path}: of another version of glia; make the transfer anew")
    try:
        return Transfer(**{**stored, "scale": ScoreScale(**stored["scale"])})
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: damaged; make the transfer anew") from error


def _head(line: bytes) -> dict[str, Any]:
    """What the first row says; nothing where a kill tore it, or it is damaged."""
    try:
        head = json.loads(line)
    except ValueError:
        return {}
    return head if isinstance(head, dict) else {}


def _differences(stored: bytes, now: Mapping[str, Any]) -> str:
    before = _head(stored)
    return ", ".join(key for key in now if before.get(key) != now[key]) or "set of options"
