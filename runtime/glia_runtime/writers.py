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
    """A table for people, drawn in blocks of `BLOCK` rows, so that memory does not grow with their number.

    A column is as wide as its widest cell so far; names that the terminal has no room for are folded.
    """

    BLOCK = 50

    def begin(self) -> None:
        """Start with no rows."""
        self._rows: list[tuple[str, str]] = []
        self._headed = False
        self._name_width = len("picture")
        cells = ["failed", _four_digits(self._scale.minimum), _four_digits(self._scale.maximum)]
        self._score_width = max(map(len, cells))

    def write(self, result: Result) -> None:
        """Draw what was kept when this row fills a block."""
        self._rows.append((_displayable(result.path), "" if result.score is None else _four_digits(result.score)))
        if len(self._rows) == self.BLOCK:
            self._draw()

    def end(self) -> None:
        """Draw the last rows, and what the scores mean."""
        if self._rows:
            self._draw()
        if self._headed:
            scale = self._scale
            direction = "higher is better" if scale.higher_is_better else "lower is better"
            scores = f"scores from {scale.minimum:g} to {scale.maximum:g}"
            self._emit(one_line(f"  {scores}, {direction} ({scale.dataset})") + "\n")

    def _draw(self) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        text = io.StringIO()
        if self._stream.isatty():
            console = Console(file=text, force_terminal=True)
        else:
            console = Console(file=text, width=120, color_system=None)
        self._name_width = max(self._name_width, *(cell_len(name) for name, _ in self._rows))
        self._score_width = max(self._score_width, *(len(score) for _, score in self._rows))
        # what the box and its padding leave
        room = max(1, console.width - self._score_width - 7)
        table = Table(box=SIMPLE_HEAD, show_header=not self._headed)
        table.add_column("picture", overflow="fold", width=min(self._name_width, room))
        table.add_column("score", justify="right", no_wrap=True, width=self._score_width)
        for name, score in self._rows:
            table.add_row(Text(name), score or Text("failed", style="red"))
        console.print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        # A progress bar may stand on the line; the next one is drawn below these rows.
        erase = "\r\x1b[2K" if self._stream.isatty() and not console.is_dumb_terminal else ""
        self._emit(erase + "\n".join(line for line in lines if line) + "\n")
        self._headed = True
        self._rows.clear()


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "jsonl": JsonlWriter, "table": TableWriter}


def shortest(score: float) -> str:
    """The shortest decimal number that is this float32 and no other; valid in CSV and JSON."""
    return str(np.float32(score))


def _four_digits(score: float) -> str:
    return f"{score:.4f}"


def _displayable(path: str) -> str:
    """`path` without control characters (a terminal would obey them) and undecodable bytes."""
    return one_line(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
