"""The output formats of ``glia-infer``: CSV, JSON Lines, Parquet and a table. One result, one row, in the order they
came.
"""

from __future__ import annotations

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from glia_runtime.errors import MissingExtraError, one_line
from glia_runtime.manifest import ScoreScale
from glia_runtime.pipeline import Result


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

    @staticmethod
    def name(path: str) -> str:
        """`path` as `rows` gives it back."""
        return path

    @staticmethod
    @abstractmethod
    def rows(path: Path) -> Iterator[tuple[str, bool]]:
        """The name of each row in a file, and whether it holds an error; `ValueError` and the like: no such file."""

    def _emit(self, text: str | bytes) -> None:
        # Whole rows at once, flushed, so that a reader sees each as it comes and an interrupt leaves no half
        # row.
        self._stream.write(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
        self._stream.flush()


class CsvWriter(Writer):
    """Columns path, score, quality, width, height, error; quoted as RFC 4180 wants; what is absent is an empty field.

    Undecodable bytes of a name stand as they are.
    """

    COLUMNS = ("path", "score", "quality", "width", "height", "error")

    def begin(self) -> None:
        """Write the header."""
        self._row(self.COLUMNS)

    def write(self, result: Result) -> None:
        """Write one row."""
        row = _row(result)
        self._row("" if row[column] is None else str(row[column]) for column in self.COLUMNS)

    @staticmethod
    def rows(path: Path) -> Iterator[tuple[str, bool]]:
        """Read the first column and the last."""
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != CsvWriter.COLUMNS:
                raise ValueError("another header")
            for name, _, _, _, _, error in rows:
                yield name, error != ""

    def _row(self, cells: Iterable[str]) -> None:
        self._emit(csv_line(cells))


class JsonlWriter(Writer):
    """One object a line with the keys path, score, error, quality, width, height, null where absent."""

    def write(self, result: Result) -> None:
        """Write one object."""
        self._emit(json_line(result))

    @staticmethod
    def rows(path: Path) -> Iterator[tuple[str, bool]]:
        """Read the objects."""
        with path.open("rb") as file:
            for row in map(json.loads, file):
                yield row["path"], row["error"] is not None


class ParquetWriter(Writer):
    r"""Columns as in CSV; `BLOCK` rows make a row group, and no more are kept.

    Parquet has text only: bytes of a name that are not UTF-8 become ``\xff`` and the like.
    """

    BLOCK = 1 << 16

    @classmethod
    def check(cls) -> None:
        """Raise `MissingExtraError` unless pyarrow can be imported: asked for before hours of scoring."""
        try:
            import_module("pyarrow.parquet")
        except ModuleNotFoundError as error:
            raise MissingExtraError.for_package("pyarrow", "parquet", "Parquet output") from error

    def begin(self) -> None:
        """Start with no rows."""
        self._arrow: Any = import_module("pyarrow")
        integer, real, text = self._arrow.int32(), self._arrow.float32(), self._arrow.string()
        types = {"path": text, "score": real, "quality": real, "width": integer, "height": integer, "error": text}
        self._schema = self._arrow.schema([(column, types[column]) for column in CsvWriter.COLUMNS])
        self._file = import_module("pyarrow.parquet").ParquetWriter(self._stream, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, result: Result) -> None:
        """Write a row group when this row fills it."""
        self._rows.append({name: _text(cell) for name, cell in _row(result).items()})
        if len(self._rows) == self.BLOCK:
            self._write_group()

    def end(self) -> None:
        """Write the last row group and the footer."""
        self._write_group()
        self._file.close()

    @staticmethod
    def name(path: str) -> str:
        """`path` as text."""
        return str(_text(path))

    @staticmethod
    def rows(path: Path) -> Iterator[tuple[str, bool]]:
        """Read two columns, a block at a time."""
        ParquetWriter.check()
        with import_module("pyarrow.parquet").ParquetFile(path) as file:
            for block in file.iter_batches(columns=["path", "error"]):
                for name, error in zip(block["path"], block["error"], strict=True):
                    yield name.as_py(), error.is_valid

    def _write_group(self) -> None:
        if self._rows:
            self._file.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()


class TableWriter(Writer):
    """A table for people, drawn in blocks of `BLOCK` rows, so that memory does not grow with their number.

    A column is as wide as its widest cell so far; names that the terminal has no room for are folded.
    """

    BLOCK = 50

    def begin(self) -> None:
        """Start with no rows."""
        self._rows: list[tuple[str, ...]] = []
        self._headed = False
        scores = ("failed", _four_digits(self._scale.minimum), _four_digits(self._scale.maximum))
        self._widths = [len("picture"), max(map(len, scores)), len("quality"), len("0000x0000")]

    def write(self, result: Result) -> None:
        """Draw what was kept when this row fills a block."""
        score = "" if result.score is None else _four_digits(result.score)
        quality = "" if result.quality is None else f"{result.quality:.1f}"
        size = f"{result.width}x{result.height}" if result.width else ""
        self._rows.append((_displayable(result.path), score, quality, size))
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

    @staticmethod
    def rows(path: Path) -> Iterator[tuple[str, bool]]:
        """Raise `ValueError`: names are folded, and a picture may be called anything, "failed" too."""
        raise ValueError("a table is for people")

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
        columns = zip(*self._rows, strict=True)
        self._widths = [max(width, *map(cell_len, cells)) for width, cells in zip(self._widths, columns, strict=True)]
        name_width, *widths = self._widths
        # what the box and its padding leave
        room = max(1, console.width - sum(widths) - 13)
        table = Table(box=SIMPLE_HEAD, show_header=not self._headed)
        table.add_column("picture", overflow="fold", width=min(name_width, room))
        for heading, width in zip(("score", "quality", "size"), widths, strict=True):
            table.add_column(heading, justify="right", no_wrap=True, width=width)
        for name, score, *rest in self._rows:
            table.add_row(Text(name), score or Text("failed", style="red"), *rest)
        console.print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        # A progress bar may stand on the line; the next one is drawn below these rows.
        erase = "\r\x1b[2K" if self._stream.isatty() and not console.is_dumb_terminal else ""
        self._emit(erase + "\n".join(line for line in lines if line) + "\n")
        self._headed = True
        self._rows.clear()


WRITERS: dict[str, type[Writer]] = {
    "csv": CsvWriter,
    "jsonl": JsonlWriter,
    "parquet": ParquetWriter,
    "table": TableWriter,
}


def csv_line(cells: Iterable[str]) -> str:
    """One line of CSV, quoted as RFC 4180 wants."""
    return ",".join(map(_quoted, cells)) + "\n"


def json_line(result: Result) -> bytes:
    """A result as one line of JSON, which `json.loads` turns back into the fields of one."""
    row = _row(result)
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # JSON is UTF-8; undecodable bytes become \udcXX, as Python reads them back
        return json.dumps(row, allow_nan=False).encode() + b"\n"


def shortest(score: float) -> float:
    """The shortest decimal number that is this float32 and no other."""
    return float(str(np.float32(score)))


def _row(result: Result) -> dict[str, Any]:
    """The fields of a result by name, in their order, numbers as short as float32 allows."""
    return {
        "path": result.path,
        "score": None if result.score is None else shortest(result.score),
        "error": result.error,
        "quality": None if result.quality is None else shortest(result.quality),
        "width": result.width,
        "height": result.height,
    }


def _quoted(cell: str) -> str:
    # The csv module leaves a lone carriage return bare unless its own lines end in one (Python 3.11), and no reader
    # takes it for part of a name then.
    return '"' + cell.replace('"', '""') + '"' if any(sign in cell for sign in '",\r\n') else cell


def _text(cell: Any) -> Any:
    return os.fsencode(cell).decode("utf-8", "backslashreplace") if isinstance(cell, str) else cell


def _four_digits(score: float) -> str:
    return f"{score:.4f}"


def _displayable(path: str) -> str:
    """`path` without control characters (a terminal would obey them) and undecodable bytes."""
    return one_line(path).encode("utf-8", "backslashreplace").decode("utf-8")
