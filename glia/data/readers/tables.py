"""Tables in the formats that datasets ship their scores in."""

import csv
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from glia_runtime.errors import MissingExtraError


def read_csv(path: Path, *columns: str) -> list[dict[str, str]]:
    """Rows of a comma-separated file with a header that has `columns`, among others."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        _check_columns(reader.fieldnames or (), columns)
        return list(reader)


def read_xlsx(path: Path, *columns: str, sheet: str | None = None) -> list[dict[str, Any]]:
    """Rows of a sheet (None: the first) below the first row that has `columns`; rows without the first of them are left
    out.

    Raises:
        MissingExtraError: openpyxl is not installed.
    """
    try:
        openpyxl = import_module("openpyxl")
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("openpyxl", "train", f"reading {path.name}") from error
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        rows = book[sheet or book.sheetnames[0]].iter_rows(values_only=True)
        header = next((row for row in rows if set(columns) <= set(row)), ())
        _check_columns(header, columns)
        filled = (dict(zip(header, row, strict=False)) for row in rows)
        return [row for row in filled if row.get(columns[0]) is not None]
    finally:
        book.close()


def read_mat(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    """The variables of a MATLAB file, each as one row of numbers, or of text where it is a cell array of text."""
    variables = loadmat(path, appendmat=False)
    return {name: _row(value) for name, value in variables.items() if not name.startswith("__")}


def _row(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    cells = np.ravel(value)
    if cells.dtype != object:
        return cells
    return np.array([str(np.ravel(cell)[0]).strip() for cell in cells])


def _check_columns(header: Any, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
