"""What is said while a long run goes on: how many, how fast, how long still, and what failed; or its stages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, cast

from glia_runtime.descriptors import discard

if TYPE_CHECKING:  # rich is imported only where there is a terminal
    from rich.console import Console
    from rich.progress import Progress

    from glia_runtime.pipeline import Result

_LONG = 10.0
"""Seconds from which on the time that a stage took is said."""


def terminal() -> Console | None:
    """Standard error, where that is a terminal, for rich to draw on."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    from rich.console import Console

    # soft_wrap: what is said meanwhile keeps its lines, however narrow the terminal
    return Console(file=cast(TextIO, _Terminal(sys.stderr)), soft_wrap=True)


class Stages:
    """The stages of a run, one after another: each is said when it begins, and how long it took where that was long."""

    def __init__(self, say: Callable[[str], None], line: Progress) -> None:
        """Say stages by `say`, and draw the time of the one that goes on."""
        self._say, self._line = say, line
        self._task = line.add_task("", start=False)

    def begin(self, text: str) -> None:
        """End the stage before this one."""
        self.end()
        self._say(text)
        self._line.reset(self._task, description="")

    def part(self, name: str, done: int, total: int) -> None:
        """Tell how far a part of the stage is."""
        self._line.update(self._task, description=f"{name} {done}/{total}")

    def end(self) -> None:
        """End the last stage."""
        seconds = self._line.tasks[0].elapsed
        if seconds is not None and seconds >= _LONG:
            self._say(f"that took {timedelta(seconds=round(seconds))}")


@contextmanager
def stages(say: Callable[[str], None]) -> Iterator[Stages]:
    """Yield stages that are said by `say`; on a terminal, the time of the one that goes on runs below them."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = terminal()
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=console is None) as line:
        running = Stages(say, line)
        yield running
        running.end()


@contextmanager
def progress(
    results: Iterable[Result], done: int, everything: Callable[[], Iterator[str]] | None
) -> Iterator[Iterator[Result]]:
    """Yield an iterator over `results` that draws the line on standard error, where that is a terminal.

    Args:
        results: as they come.
        done: scores of an earlier run, which stand at the start of the line.
        everything: lists all pictures, from which the remaining time follows; they are counted beside the run, so that
            it starts at once. None where the list cannot be read twice.
    """
    console = terminal()
    if console is None:
        yield iter(results)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("scoring"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TextColumn("{task.fields[failures]}", style="red"),
    )
    with Progress(*columns, console=console, transient=True) as line:
        task = line.add_task("", total=None, completed=done, pace="", failures="")

        def follow() -> Iterator[Result]:
            start = monotonic()
            bad = 0
            for number, result in enumerate(results, start=1):
                yield result
                bad += result.error is not None
                line.update(
                    task,
                    completed=done + number,
                    pace=_pace(number, monotonic() - start, line.tasks[0].total, done),
                    failures=_failures(bad),
                )

        stopped = Event()
        if everything is not None:
            Thread(target=lambda: line.update(task, total=_count(everything(), stopped)), daemon=True).start()
        try:
            yield follow()
        finally:
            stopped.set()


class _Terminal:
    """Standard error for rich: a terminal that is closed while the run goes on must not stop it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            discard(2)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _pace(number: int, seconds: float, total: float | None, done: int) -> str:
    """Pictures a second since the start, and how long the rest takes at that rate."""
    rate = number / max(seconds, 1e-9)
    if total is None:
        return f"{rate:.1f}/s"
    return f"{rate:.1f}/s, {timedelta(seconds=round(max(total - done - number, 0) / rate))} left"


def _failures(number: int) -> str:
    return f"{number:,} failed" if number else ""


def _count(paths: Iterable[str], stopped: Event) -> int | None:
    number = 0
    for _ in paths:
        number += 1
        if stopped.is_set():
            return None
    return number
