"""A user's own pictures and ratings: a CSV file with a header."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from glia.data.samples import ListedDataset, Sample
from glia_runtime.errors import DatasetError
from glia_runtime.manifest import ScoreScale

_SHOWN = 3  # bad rows in one message


def open_csv(
    root: Path, *, higher_is_better: bool = True, minimum: float | None = None, maximum: float | None = None
) -> ListedDataset:
    """Read the columns `path`, `score` and, where there is one, `reference`; others are ignored.

    Args:
        root: the file. Relative paths in it start from its folder. A reference is any name: pictures of equal
            references are never split; without one each picture stands for itself.
        higher_is_better: False for DMOS.
        minimum: lower end of the rating scale; None takes the lowest score.
        maximum: upper end; None takes the highest score.

    Raises:
        DatasetError: no such file, no such columns, no rows, bad rows (named by line) or pictures that are missing.
    """
    rows = list(_rows(root))
    if not rows:
        raise DatasetError(f"{root}: holds no rows; each picture needs one")
    scores = [sample.score for _, sample in rows]
    low = min(scores) if minimum is None else minimum
    high = max(scores) if maximum is None else maximum
    if not low < high:
        raise DatasetError(f"{root}: scores from {low:g} to {high:g} say nothing; at least two must differ")
    bad = [f"line {line}: score {s.score:g}" for line, s in rows if not low <= s.score <= high]
    _refuse(root, bad, f"outside {low:g} to {high:g}")
    _refuse(root, [f"line {line}: {s.path}" for line, s in rows if s.path and not s.path.is_file()], "no such file")
    return ListedDataset(root.stem, ScoreScale(low, high, higher_is_better, root.stem), [sample for _, sample in rows])


def _rows(root: Path) -> Iterator[tuple[int, Sample]]:
    bad = []
    try:
        with root.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"path", "score"} - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(
                    f"{root}: the header has no column {' and no column '.join(sorted(missing))}; "
                    "its first line must be: path,score or path,score,reference"
                )
            for row in reader:
                path, reference = (row["path"] or "").strip(), (row.get("reference") or "").strip()
                score = _number(row["score"])
                if path and score is not None:
                    yield reader.line_num, Sample(root.parent / path, score, reference or Path(path).as_posix())
                else:
                    bad.append(f"line {reader.line_num}: " + (f"score {row['score']!r}" if path else "no path"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DatasetError(f"{root}: cannot be read as CSV ({reason}); name a text file in UTF-8") from error
    _refuse(root, bad, "a row needs a path and a finite number")


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _refuse(root: Path, bad: list[str], reason: str) -> None:
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DatasetError(f"{root}: {'; '.join(bad[:_SHOWN])}{more} ({reason}); mend or remove the rows")
