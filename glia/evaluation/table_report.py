"""A table of the paper with ours beside it: on the terminal, as Markdown, as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from glia.evaluation.metrics import Agreement, summarise_splits
from glia.evaluation.paper import Figures, PaperTable
from glia_runtime.atomic import atomic_write

Found = Mapping[tuple[str, str], Sequence[Agreement]]
"""What came of the splits of a cell, by its row and column."""

_MISSING = "-"
_MEASURES = {"srcc": "SRCC", "plcc_fitted": "PLCC"}  # the paper's; PLCC after the logistic fit, as LoDa has it
_MORE = {"plcc": "PLCC unfitted", "krcc": "KRCC", "rmse_fitted": "RMSE"}  # RMSE after the fit, too
_STATISTICS = ("median", "mean")
_CSV = (
    "row",
    "column",
    "figure",
    "paper",
    "splits",
    *(f"{s}{end}" for s in _STATISTICS for end in ("", "_low", "_high")),
)


def as_rich(paper: PaperTable, columns: Sequence[str], found: Found) -> Table:
    """The table for a terminal; what is ours is under the paper's row and bold."""
    table = Table(caption="each cell: SRCC, then PLCC after the logistic fit; -: not there")
    for heading in ("", *columns):
        table.add_column(heading)
    for label, *cells in _lines(paper, columns, found):
        table.add_row(label, *cells, style="bold" if label.startswith(" ") else None)
    return table


def as_markdown(title: str, paper: PaperTable, columns: Sequence[str], found: Found) -> str:
    """The same table as Markdown."""
    rows = [("SRCC PLCC", *columns), ("---",) * (len(columns) + 1), *_lines(paper, columns, found)]
    return f"# {title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def write_table(path: Path, title: str, paper: PaperTable, columns: Sequence[str], found: Found) -> None:
    """Write `path`.md and `path`.csv, the latter with 95 % bootstrap intervals over the splits.

    Raises:
        OutputError: they cannot be written.
    """
    for suffix, text in ((".md", as_markdown(title, paper, columns, found)), (".csv", _as_csv(paper, columns, found))):
        with atomic_write(path.with_suffix(suffix)) as temporary:
            temporary.write_text(text)


def _lines(paper: PaperTable, columns: Sequence[str], found: Found) -> Iterator[tuple[str, ...]]:
    """The table's rows as text: each of the paper's, and below it ours if there is one.

    Of ours the median and its intervals, which need two splits, the mean, PLCC without the fit, and how many splits.
    """
    for row in paper.rows:
        yield (row, *(_cell(_printed(paper, row, column)) for column in columns))
        ours = [found.get((row, column), ()) for column in columns]
        if not any(ours):
            continue
        yield ("  here, median", *(_cell(_summary(splits, "median")) for splits in ours))
        if any(len(splits) > 1 for splits in ours):
            for measure, name in _MEASURES.items():
                yield (f"  here, {name} in 95 %", *(_interval(splits, measure) for splits in ours))
        yield ("  here, mean", *(_cell(_summary(splits, "mean")) for splits in ours))
        yield ("  here, PLCC unfitted", *(_cell(_summary(splits, "median", ("plcc",))) for splits in ours))
        yield ("  here, splits", *(str(len(splits) or _MISSING) for splits in ours))


def _printed(paper: PaperTable, row: str, column: str) -> Figures:
    return paper.rows[row][paper.columns.index(column)] if column in paper.columns else Figures()


def _summary(
    splits: Sequence[Agreement], statistic: str, measures: Sequence[str] = tuple(_MEASURES)
) -> Sequence[float | None]:
    if not splits:
        return (None,) * len(measures)
    return [getattr(summarise_splits([getattr(s, name) for s in splits]), statistic) for name in measures]


def _interval(splits: Sequence[Agreement], measure: str) -> str:
    """The interval of the median, by bootstrap."""
    interval = summarise_splits([getattr(s, measure) for s in splits]).median_interval if splits else None
    return _MISSING if interval is None else f"{interval[0]:.3f}..{interval[1]:.3f}"


def _cell(figures: Sequence[float | None]) -> str:
    if all(figure is None for figure in figures):
        return _MISSING
    return " ".join(_MISSING if figure is None else f"{figure:.3f}" for figure in figures)


def _as_csv(paper: PaperTable, columns: Sequence[str], found: Found) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for row in paper.rows:
        for column in columns:
            printed = dict(zip(_MEASURES, _printed(paper, row, column), strict=True))
            for measure, name in (_MEASURES | _MORE).items():
                cells: list[object] = [row, column, name, printed.get(measure), 0, *[None] * 6]
                if splits := found.get((row, column)):
                    summary = summarise_splits([getattr(split, measure) for split in splits])
                    intervals = (summary.median_interval or (None, None), summary.mean_interval or (None, None))
                    cells[4:] = [summary.splits, summary.median, *intervals[0], summary.mean, *intervals[1]]
                writer.writerow(cells)
    return text.getvalue()
