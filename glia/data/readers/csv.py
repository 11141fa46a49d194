"""A user's own pictures and ratings: a CSV file with a header."""

import csv
from collections.abc import Iterator
from pathlib import Path

from glia.data.readers.ratings import finite, rating_scale, refuse
from glia.data.samples import ListedDataset, Sample
from glia_runtime.errors import DatasetError


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
    samples = list(_samples(root))
    scores = [sample.score for sample in samples]
    scale = rating_scale(root, scores, [sample.row for sample in samples], higher_is_better, minimum, maximum)
    refuse(root, [f"{s.row}: {s.path}" for s in samples if s.path and not s.path.is_file()], "no such file")
    return ListedDataset(scale.dataset, scale, samples)


def _samples(root: Path) -> Iterator[Sample]:
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
                line = f"line {reader.line_num}"
                path, reference = (row["path"] or "").strip(), (row.get("reference") or "").strip()
                score = finite(row["score"])
                if path and score is not None:
                    yield Sample(root.parent / path, score, reference or Path(path).as_posix(), row=line)
                else:
                    bad.append(f"{line}: " + (f"score {row['score']!r}" if path else "no path"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DatasetError(f"{root}: cannot be read as CSV ({reason}); name a text file in UTF-8") from error
    refuse(root, bad, "a row needs a path and a finite number")
