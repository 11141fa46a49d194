"""Where rows go: a stream takes them as they come; a file is made from a journal of them, and appears when whole."""

from __future__ import annotations

import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from glia_runtime.atomic import atomic_write, remove_leftovers
from glia_runtime.errors import OutputError, UsageError
from glia_runtime.journal import Journal, journal_path
from glia_runtime.manifest import Manifest, ScoreScale
from glia_runtime.pipeline import Result
from glia_runtime.selection import Selection
from glia_runtime.writers import WRITERS, ParquetWriter


class Output(ABC):
    """One run's rows, from the scorer to where the user wants them."""

    done = 0
    """Rows that an earlier run left."""
    failed = 0
    """Those among them that hold an error."""
    scrolls = False
    """Whether its rows show on a terminal as they come, and so the progress of the run."""

    _scale: ScoreScale

    def __init__(self, format_: str, selection: Selection) -> None:
        """Write in `format_` (a key of `WRITERS`) what `selection` takes."""
        self._writer = WRITERS[format_]
        self._selection = selection

    def begin(self, manifest: Manifest) -> None:
        """Get ready for the rows of an artifact, before the first of them is known."""
        self._scale = manifest.score_scale

    def without_done(self, paths: Iterator[str]) -> Iterator[str]:
        """Yield the paths that are still to be scored."""
        return paths

    @abstractmethod
    def take(self, results: Iterable[Result]) -> None:
        """Write all of `results`; `OutputError` when that is impossible."""

    def _write(self, rows: Iterable[Result], stream: BinaryIO) -> None:
        writer = self._writer(stream, self._scale)
        writer.begin()
        for row in self._selection.of(rows):
            writer.write(row)
        writer.end()


class StreamOutput(Output):
    """Standard output, a pipe or a device: each row is written at once, unless a selection holds it back."""

    def __init__(self, stream: BinaryIO, format_: str, selection: Selection) -> None:
        """Write to `stream`."""
        super().__init__(format_, selection)
        self._stream = stream
        # The table comes in blocks and makes room for a progress line itself; a selection may hold all rows back.
        self.scrolls = stream.isatty() and format_ != "table" and selection.streams

    def take(self, results: Iterable[Result]) -> None:
        """Write the rows as they come."""
        self._write(results, self._stream)


class FileOutput(Output):
    """A file: rows are kept in its journal as they come, and the file is made from that at the end."""

    def __init__(self, journal: Journal, temporary: Path, format_: str, selection: Selection) -> None:
        """Keep rows in `journal` and write them all to `temporary`, which the caller renames."""
        super().__init__(format_, selection)
        self._journal, self._temporary = journal, temporary
        self.done, self.failed = journal.rows, journal.failed

    def begin(self, manifest: Manifest) -> None:
        """Check that the journal holds rows of this artifact only."""
        super().begin(manifest)
        self._journal.begin(manifest.artifact_sha256)

    def without_done(self, paths: Iterator[str]) -> Iterator[str]:
        """Pass over what the journal has a row for."""
        return self._journal.without_done(paths) if self.done else paths

    def take(self, results: Iterable[Result]) -> None:
        """Keep the rows, then write the file."""
        for result in results:
            self._journal.append(result)
        with self._temporary.open("wb") as stream:
            self._write(self._journal.results(), stream)


def is_complete(path: Path) -> bool:
    """Whether an earlier run has finished the file `path`: it is there, and no journal waits for more rows."""
    try:
        return path.is_file() and not journal_path(path).exists()
    except OSError:  # such as a name that is too long: whoever writes it says so
        return False


@contextmanager
def open_output(path: Path | None, format_: str, selection: Selection, resume: bool) -> Iterator[Output]:
    """Open standard output (None), a pipe or device, or a file that appears when the block ends without an error.

    Whatever ends the block early leaves the journal of a file, unless it is empty; `resume` goes on with it.

    Raises:
        UsageError: `format_` or `resume` does not go with this kind of output.
        MissingExtraError: `format_` needs a package that is not installed.
        OutputError: it cannot be written, another run is writing it, or there is a journal and `resume` is False.
    """
    to_file = path is not None and not _is_device(path)
    if resume and not to_file:
        raise UsageError("--resume needs --output FILE; what went through a pipe cannot be continued")
    if format_ == "parquet":
        if not to_file:
            raise UsageError("parquet ends with an index of its parts, so it needs --output FILE")
        ParquetWriter.check()
    if path is None:
        with stdout() as stream:
            yield StreamOutput(stream, format_, selection)
    elif to_file:
        with _journaled(path, resume) as (journal, temporary):
            yield FileOutput(journal, temporary, format_, selection)
    else:
        with _device(path) as stream:
            yield StreamOutput(stream, format_, selection)


@contextmanager
def _journaled(path: Path, resume: bool) -> Iterator[tuple[Journal, Path]]:
    journal = None
    try:
        with atomic_write(path) as temporary:  # looks at the folder before a journal is made there
            journal = Journal(path)
            if journal.rows and not resume:
                raise OutputError(
                    f"{journal.path}: holds {journal.rows:,} rows of an unfinished run; "
                    "add --resume to go on, or delete it to start anew"
                )
            remove_leftovers(path)  # the journal's lock says that no other run is at work
            yield journal, temporary
        journal.delete()
    except KeyboardInterrupt as error:
        if journal is None or not journal.rows:
            raise
        raise KeyboardInterrupt(f"{journal.path} keeps {journal.rows:,} rows; add --resume to go on") from error
    finally:
        if journal is not None:
            journal.close()


@contextmanager
def stdout() -> Iterator[BinaryIO]:
    """Yield standard output; raise `OutputError` when it cannot be written, and end quietly when nobody reads on."""
    if sys.stdout is None:
        raise OutputError("standard output is closed; open it or use --output FILE")
    try:
        yield sys.stdout.buffer
    except BrokenPipeError:  # the reader (head, less) has seen enough
        _discard_stdout()
    except OSError as error:
        _discard_stdout()
        raise OutputError(
            f"standard output cannot be written ({error.strerror}); free some space or use --output FILE"
        ) from error


def _is_device(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:  # not there yet, or out of reach, which atomic_write says
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def _device(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("wb") as stream:
            yield stream
    except BrokenPipeError:
        return
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _discard_stdout() -> None:
    """Point descriptor 1 at nothing, so that Python's own flush at exit does not fail on it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
