"""A user's own pictures and ratings: a CSV file with a header."""

import csv
from collections.abc import Iterator
from pathlib import Path

from glia.data.readers.ratings import finite, rating_scale, refuse
from glia.data.samples import ListedDataset, Sample
from glia_runtime.errors import DatasetError

UNUSABLE = "a row needs a path and a finite number"


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


def read_rows(source: Path, *columns: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each after what messages call it ("line 5"); cells have no space around them.

    Args:
        source: the file, in UTF-8.
        columns: those that its header must have; a row that lacks one, or any other, has "" there.

    Raises:
        DatasetError: no such file, or no such columns.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(
                    f"{source}: the header has no column {' and no column '.join(sorted(missing))}; "
                    f"its first line must be: {','.join(columns)}, and may name more"
                )
            for row in reader:
                yield f"line {reader.line_num}", {name: cell.strip() for name, cell in row.items() if name}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DatasetError(f"{source}: cannot be read as CSV ({reason}); name a text file in UTF-8") from error


def _samples(root: Path) -> Iterator[Sample]:
    bad = []
    for line, row in read_rows(root, "path", "score"):
        path, score = row["path"], finite(row["score"])
        if path and score is not None:
            yield Sample(root.parent / path, score, row.get("reference") or Path(path).as_posix(), row=line)
        else:
            bad.append(f"{line}: " + (f"score {row['score']!r}" if path else "no path"))
    refuse(root, bad, UNUSABLE)
