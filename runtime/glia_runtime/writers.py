"""The output formats of ``glia-infer``: CSV, JSON Lines and a table. One result, one row, in the order they
came.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from typing import BinaryIO

import numpy as np

from glia_runtime.errors import one_line
from glia_runtime.manifest import ScoreScale
from glia_runtime.scorer import Result


class Writer(ABC):
    """Writes rows to a binary stream, because file names may hold bytes that no text encoding has."""

    def __init__(self, stream: BinaryIO, scale: ScoreScale) -> None:
        """Write to `stream`; `scale` explains the scores where the format has room for it."""
        self._stream = stream
        self._scale = scale

    def begin(self) -> None:  # noqa: B027 -- a hook most formats do not need
        """Write what comes before the first row."""

    @abstractmethod
    def write(self, result: Result) -> None:
        """Write one row."""

    def end(self) -> None:  # noqa: B027
        """Write what comes after the last row."""

    def _emit(self, text: str) -> None:
        # Whole rows at once, flushed, so that a reader sees each as it comes and an interrupt leaves no half
        # row.
        self._stream.write(text.encode("utf-8", "surrogateescape"))
        self._stream.flush()


class CsvWriter(Writer):
    """Columns path, score, error; quoted as RFC 4180 wants; undecodable bytes of a name stand as they are."""

    def begin(self) -> None:
        """Write the header."""
        self._row("path", "score", "error")

    def write(self, result: Result) -> None:
        """Write one row; an absent score or error is an empty field."""
        score = "" if result.score is None else shortest(result.score)
        self._row(result.path, score, result.error or "")

    def _row(self, *cells: str) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(cells)
        self._emit(text.getvalue())


class JsonlWriter(Writer):
    """One object a line with the keys path, score, error, the last two null where absent."""

    def write(self, result: Result) -> None:
        """Write one object."""
        row = {
            "path": result.path,
            "score": None if result.score is None else float(shortest(result.score)),
            "error": result.error,
        }
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        if not _is_utf8(text):  # JSON must be; undecodable bytes become \udcXX, as Python reads them back
            text = json.dumps(row, allow_nan=False)
        self._emit(text + "\n")


class TableWriter(Writer):
    """A table for people, drawn when the last row is known."""

    def begin(self) -> None:
        """Start with no rows."""
        self._rows: list[Result] = []

    def write(self, result: Result) -> None:
        """Keep one row."""
        self._rows.append(result)

    def end(self) -> None:
        """Draw the table."""
        if not self._rows:
            return
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        scale = self._scale
        direction = "higher is better" if scale.higher_is_better else "lower is better"
        caption = f"  scores from {scale.minimum:g} to {scale.maximum:g}, {direction} ({scale.dataset})"
        table = Table(box=SIMPLE_HEAD)
        table.add_column("picture", overflow="fold")
        table.add_column("score", justify="right", no_wrap=True)
        for result in self._rows:
            name = Text(_displayable(result.path))
            if result.score is None:
                table.add_row(name, Text("failed", style="red"))
            else:
                table.add_row(name, f"{result.score:.4f}")
        text = io.StringIO()
        if self._stream.isatty():
            console = Console(file=text, force_terminal=True)
        else:
            console = Console(file=text, width=120, color_system=None)
        console.print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        self._emit("\n".join(line for line in [*lines, one_line(caption)] if line) + "\n")


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "jsonl": JsonlWriter, "table": TableWriter}


def shortest(score: float) -> str:
    """The shortest decimal number that is this float32 and no other; valid in CSV and JSON."""
    return str(np.float32(score))


def _displayable(path: str) -> str:
    """`path` without control characters (a terminal would obey them) and undecodable bytes."""
    return one_line(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
