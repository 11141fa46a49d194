"""Where rows go: a stream takes them as they come; a file is made from a journal of them, and appears when whole."""

from __future__ import annotations

import csv
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from glia_runtime.atomic import atomic_write, remove_leftovers
from glia_runtime.descriptors import discard
from glia_runtime.errors import OutputError, UsageError
from glia_runtime.journal import MARK, Journal, Way, journal_path
from glia_runtime.selection import Selection

if TYPE_CHECKING:  # the journal is opened before numpy and Pillow are imported
    from glia_runtime.manifest import Manifest, ScoreScale
    from glia_runtime.pipeline import Result


class Output(ABC):
    """One run's rows, from the scorer to where the user wants them."""

    done = 0
    """Scores that an earlier run left."""
    again = 0
    """Pictures that failed in an earlier run, and are tried again."""
    unnamed = unnamed_failed = 0
    """After `take`: kept rows of pictures that this run does not name, and those of them that hold an error."""
    scrolls = False
    """Whether its rows show on a terminal as they come, and so the progress of the run."""

    _scale: ScoreScale

    def __init__(self, format_: str, selection: Selection) -> None:
        """Write in `format_` (a key of `WRITERS`) what `selection` takes."""
        from glia_runtime.writers import WRITERS

        self._writer = WRITERS[format_]
        self._selection = selection

    def begin(self, manifest: Manifest, way: Way) -> None:
        """Get ready for the rows of an artifact, run in a way, before the first of them is known."""
        self._scale = manifest.score_scale

    def without_done(self, paths: Iterator[str | None]) -> Iterator[str | None]:
        """Yield the paths that are still to be scored, and None where it comes."""
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
        self.done, self.again = journal.rows - journal.failed, journal.failed

    def begin(self, manifest: Manifest, way: Way) -> None:
        """Check that the journal holds rows of this artifact, run in this way, only."""
        super().begin(manifest, way)
        self._journal.begin(manifest.artifact_sha256, way)

    def without_done(self, paths: Iterator[str | None]) -> Iterator[str | None]:
        """Pass over what the journal has a row for."""
        return self._journal.without_done(paths) if self._journal.rows else paths

    def take(self, results: Iterable[Result]) -> None:
        """Keep the rows, then write the file."""
        for result in results:
            self._journal.append(result)
        self.unnamed, self.unnamed_failed = self._journal.unnamed, self._journal.unnamed_failed
        with self._temporary.open("wb") as stream:
            self._write(self._journal.results(), stream)


def is_complete(path: Path) -> bool:
    """Whether an earlier run has finished the file `path`: it is there, and no journal waits for more rows."""
    try:
        return path.is_file() and not os.path.lexists(journal_path(path))
    except OSError:  # such as a name that is too long: whoever writes it says so
        return False


def check_complete(path: Path, format_: str, selection: Selection, pictures: Iterable[str]) -> tuple[int, int]:
    """Check that a finished file has a row for each of `pictures`; how many rows failed, how many are of others.

    Which model made it cannot be told, so nothing is added to it.

    Raises:
        OutputError: a picture has no row; or that cannot be told, because it is a table, holds chosen rows only, or is
            no file of this format that glia-infer wrote.
    """
    from glia_runtime.rows import Rows
    from glia_runtime.writers import WRITERS

    if format_ == "table":
        raise OutputError(
            f"{path}: is a table, from which --resume cannot tell the pictures; without --resume it is made anew"
        )
    if selection.leaves_out:
        raise OutputError(
            f"{path}: is finished, and what --top or --below leave out cannot be told from what was never scored; "
            "without --resume it is made anew"
        )
    rows, writer = Rows(), WRITERS[format_]
    try:
        for name, failed in writer.rows(path):
            rows.add(name, failed)
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise OutputError(
            f"{path}: is no {format_} file of glia-infer's; without --resume it is replaced, or choose another --output"
        ) from error
    number = missing = 0
    first = ""
    for picture in pictures:
        number += 1
        if rows.take(writer.name(picture)) is None:
            first = first or picture
            missing += 1
    if missing:
        raise OutputError(
            f"{path}: is finished without {missing:,} of the {number:,} pictures named, {first} first; nothing is "
            "added to a finished file: name another --output for those, or leave out --resume to score all anew"
        )
    return rows.failed, rows.left()[0]


@contextmanager
def open_output(
    path: Path | None, format_: str, selection: Selection, resume: bool, say: Callable[[str], None]
) -> Iterator[Output]:
    """Open standard output (None), a pipe or device, or a file that appears when the block ends without an error.

    Whatever ends the block early leaves the journal of a file, unless it is empty; `resume` goes on with it, and
    it is said when its rows take long to read.

    Raises:
        UsageError: `format_` or `resume` does not go with this kind of output.
        MissingExtraError: `format_` needs a package that is not installed.
        OutputError: it cannot be written, another run is writing it, or there is a journal and `resume` is False.
    """
    to_file = path is not None and not _is_device(path)
    if resume and not to_file:
        raise UsageError("--resume needs --output FILE; what went through a pipe cannot be continued")
    if format_ == "parquet" and not to_file:
        raise UsageError("parquet ends with an index of its parts, so it needs --output FILE")
    if path is None:
        with stdout() as stream:
            yield StreamOutput(stream, format_, selection)
    elif to_file:
        with _journaled(path, resume, say) as (journal, temporary):
            if format_ == "parquet":
                from glia_runtime.writers import ParquetWriter

                ParquetWriter.check()
            yield FileOutput(journal, temporary, format_, selection)
    else:
        with _device(path) as stream:
            yield StreamOutput(stream, format_, selection)


@contextmanager
def _journaled(path: Path, resume: bool, say: Callable[[str], None]) -> Iterator[tuple[Journal, Path]]:
    journal = None
    try:
        with atomic_write(path) as temporary:  # looks at the folder before a journal is made there
            journal = Journal(path, say)
            if journal.rows and not resume:
                raise OutputError(
                    f"{journal.path}: holds {journal.rows:,} rows of an unfinished run; "
                    "add --resume to go on, or delete it to start anew"
                )
            if not journal.rows:
                _check_replaceable(path, journal)
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


def _check_replaceable(path: Path, journal: Journal) -> None:
    """Raise `OutputError` for what was hardly meant: the rows of another run, or a picture."""
    if not path.exists():
        return
    from PIL import Image

    with suppress(OSError), path.open("rb") as file:
        kind = "holds the rows of an unfinished run" if file.read(len(MARK)) == MARK else ""
        if not kind:
            with suppress(Exception), Image.open(path):  # whatever Pillow finds wrong with it, it is no picture
                kind = "is a picture"
        if kind:
            journal.delete()
            raise OutputError(f"{path}: {kind}, which --output would replace; choose another --output")


@contextmanager
def stdout() -> Iterator[BinaryIO]:
    """Yield standard output.

    Raises:
        OutputError: it cannot be written.
        BrokenPipeError: nobody reads on.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed; open it or use --output FILE")
    try:
        yield sys.stdout.buffer
    except BrokenPipeError:  # the reader (head, less) has seen enough
        discard(1)
        raise
    except OSError as error:
        discard(1)
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
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
