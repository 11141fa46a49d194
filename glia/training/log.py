"""What a run says while it goes on: a line on the terminal, rows of metrics.csv, curves for TensorBoard."""

import csv
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from glia_runtime.atomic import atomic_write
from glia_runtime.errors import MissingExtraError, OutputError

METRICS_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"

Row = dict[str, float]

_PAUSE, _LINES = 30.0, 100
"""Where there is no terminal: least seconds between two lines of progress, and most lines in all."""


class Log:
    """The rows of a run, one for each evaluation.

    Args:
        out: the run's folder.
        console: where they are printed.
        start: steps done already; rows of later ones, from before a kill, are dropped.
        tensorboard: write them for TensorBoard, too.

    Raises:
        MissingExtraError: TensorBoard is asked for and not installed.
    """

    def __init__(self, out: Path, console: Console, start: int, tensorboard: bool) -> None:
        self._path, self._console = out / METRICS_FILE, console
        self._writer = _tensorboard(out / TENSORBOARD_FOLDER, start) if tensorboard else None
        if self._path.exists():
            self._keep(start)

    def append(self, row: Row, left: float) -> None:
        """Write a row.

        Args:
            row: with "step".
            left: seconds that the rest of the run takes at its pace so far.

        Raises:
            OutputError: the disk is full, say.
        """
        new = not self._path.exists()
        try:
            with self._path.open("a", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            reason = f"cannot be written ({error.strerror}); free some space, then --resume"
            raise OutputError(f"{self._path}: {reason}") from error
        words = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        self._console.print(f"{words}  left {timedelta(seconds=round(left))}", highlight=False, soft_wrap=True)
        if self._writer is not None:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, int(row["step"]))
            self._writer.flush()

    def close(self) -> None:
        """Write what TensorBoard still has in hand."""
        if self._writer is not None:
            self._writer.close()

    def _keep(self, start: int) -> None:
        with self._path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        whole = [row for row in rows if all(row.values())]  # the last one may have been cut short
        kept = [row for row in whole if float(row["step"]) <= start]
        text = io.StringIO()
        if kept:
            writer = csv.DictWriter(text, fieldnames=list(kept[0]))
            writer.writeheader()
            writer.writerows(kept)
            with atomic_write(self._path) as temporary:
                temporary.write_bytes(text.getvalue().encode())
        else:
            self._path.unlink()


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("tensorboard", "tensorboard", "--tensorboard") from error
    return SummaryWriter(str(folder), purge_step=start + 1)  # from this step on


@contextmanager
def progress(console: Console, label: str, total: int, completed: int = 0) -> Iterator[Callable[..., None]]:
    """A progress line on a terminal, elsewhere lines now and then; yields a function that advances it by one.

    Args:
        console: where.
        label: what is counted; the function may be given what else to say.
        total: how many there are.
        completed: how many of them were done before.
    """
    if not console.is_terminal:
        yield _printed(console, label, total, completed)
        return
    columns = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as line:
        task = line.add_task("", total=total, completed=completed)
        yield lambda text="": line.update(task, advance=1, description=text)


def _printed(console: Console, label: str, total: int, completed: int) -> Callable[..., None]:
    began = time.monotonic()
    done = completed
    shown, shown_at = completed, began

    def advance(text: str = "") -> None:
        nonlocal done, shown, shown_at
        done += 1
        now = time.monotonic()
        if now - shown_at < _PAUSE or (done - shown) * _LINES < total:
            return
        shown, shown_at = done, now
        left = timedelta(seconds=round((now - began) / (done - completed) * (total - done)))
        words = "  ".join(filter(None, (f"{label} {done} of {total}", text, f"left {left}")))
        console.print(words, highlight=False, soft_wrap=True)

    return advance
