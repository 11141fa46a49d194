"""The rows of an unfinished run, ``OUTPUT.part``: what was scored stays scored, whenever the run ends.

One JSON object a line, whatever format the output will have: a head that names the artifact and what ran it, then a row
for each picture as ``--format jsonl`` writes it. A row goes to the file in one piece as soon as it is known, so that a
kill can tear the last one at most; whoever opens the file again cuts a torn row off. A line `_AGAIN` says that the rows
above which failed are tried again below; a row below then takes the place of the one of its path. A lock keeps a second
run away.

That the file is there says that its output is not what the last run was to make, so it is there before anything heavy
(numpy, Pillow, an engine) is imported.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from glia_runtime.errors import OutputError
from glia_runtime.rows import Places, Rows

if TYPE_CHECKING:
    from glia_runtime.pipeline import Result

MARK = b'{"glia_rows": '
HEAD = MARK + b"3, "  # the number changes when head or rows become another kind
_AGAIN = b'{"again": true}\n'

_LONG = 2.0
"""Seconds after which it is said that rows are being read: a million take about five."""

SYNC_SECONDS = 5.0
"""How much work a power failure may cost; a kill costs nothing, and a sync for each row would cost more than it."""


def journal_path(output: Path) -> Path:
    """``OUTPUT.part``, beside the file itself where `output` is a link."""
    target = output.resolve()
    return target.with_name(target.name + ".part")


@dataclass(frozen=True)
class Way:
    """What scores depend on beside the artifact, as the options of ``glia-infer`` say it."""

    backend: str
    device: str
    draft: bool

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.backend} on {self.device}" + (" with --draft" if self.draft else "")

    def options_instead_of(self, other: Way) -> str:
        """The options that ask for this way, for who asked for the other."""
        draft = " --draft" if self.draft else " and without --draft" if other.draft else ""
        return f"--backend {self.backend} --device {self.device}{draft}"


class Journal:
    """The part file of one output, locked until `close`."""

    def __init__(self, output: Path, say: Callable[[str], None] = lambda line: None) -> None:
        """Open or create the part file beside `output`, and read how far it got; `say` so when that takes long.

        Raises:
            OutputError: another run holds it, it cannot be opened, it is no part file, or a row before the last is
                damaged.
        """
        self._output = output
        self.path = journal_path(output)
        self.rows = 0
        """Pictures that have a row."""
        self.failed = 0
        """Those among them whose row held an error when this was opened."""
        self.unnamed = self.unnamed_failed = 0
        """After `without_done`: rows of pictures that were not among the paths, and those of them that failed."""
        self._lines = 0
        self._kept = Rows()
        """Those that were there when this was opened."""
        self._again: Places | None = None
        self._tried_again = False
        self._head: dict[str, Any] = {}
        self._synced = time.monotonic()
        try:
            self._file = self._open_locked()
            with suppress(FileNotFoundError, PermissionError):  # what the output keeps from others, so do its rows
                os.fchmod(self._file.fileno(), stat.S_IMODE(output.stat().st_mode) | 0o600)
        except OSError as error:
            raise self._cannot_be_written(error) from error
        try:
            self._read(say)
        except BaseException:
            self._file.close()
            raise

    def begin(self, artifact_sha256: str, way: Way) -> None:
        """Say which artifact the rows are made with, and in which way; ask for those that failed to be tried again.

        Raises:
            OutputError: the rows that are there were made with another.
        """
        head = {"artifact_sha256": artifact_sha256, **asdict(way)}
        if not self.rows:
            self._file.truncate(0)
            self._write(HEAD + json.dumps(head)[1:].encode() + b"\n")
            self._lines = 0
        elif self._head["artifact_sha256"] != artifact_sha256:
            raise OutputError(
                f"{self.path}: its rows are another model's (SHA-256 {self._head['artifact_sha256'][:12]}..., not "
                f"{artifact_sha256[:12]}...); go on with that model, or delete the file to start anew"
            )
        elif (before := Way(*(self._head[field.name] for field in fields(Way)))) != way:
            raise OutputError(
                f"{self.path}: its rows were scored by {before.title}, not {way.title}, and scores differ a little; "
                f"go on with {before.options_instead_of(way)}, or delete the file to start anew"
            )
        elif self.failed:
            self._write(_AGAIN)
            self._lines += 1
            self._again, self._tried_again = self._kept.failures(), True
        self._head = head

    def append(self, result: Result) -> None:
        """Write one row; raise `OutputError` when it cannot be."""
        from glia_runtime.writers import json_line

        self._write(json_line(result))
        self._lines += 1
        if self._again is None or self._again.take(hash(result.path)) is None:
            self.rows += 1
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def results(self) -> Iterator[Result]:
        """A row for each picture, as far as they were whole when this was asked for, read one by one."""
        from glia_runtime.pipeline import Result

        lines = self._lines
        with self.path.open("rb") as file:
            file.readline()
            for line in self._in_place(file, lines) if self._tried_again else islice(file, lines):
                yield Result(**json.loads(line))

    def without_done(self, paths: Iterable[str | None]) -> Iterator[str | None]:
        """Yield `paths`, and None where it comes, without those that have a score; one that comes twice needs two rows.

        They come in any order, and others may be among them; of the rows, only digests are held (`Rows`).
        """
        kept = self._kept
        for path in paths:
            if path is None:
                yield None
                continue
            place = kept.take(path)
            if place is None or kept.has_failed(place):
                yield path
        self.unnamed, self.unnamed_failed = kept.left()

    def delete(self) -> None:
        """Remove the file: its rows stand in the output now."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be removed ({error.strerror}); remove it by hand") from error

    def close(self) -> None:
        """Let go of the file; one without rows is worth nothing and removed, unless an older output is there.

        It then says that this output is not the one that the run was to write.
        """
        if self._file.closed:
            return
        try:
            if self._lines:
                self._sync()
            elif not self._output.exists():
                self.delete()
        finally:
            self._file.close()

    def _open_locked(self) -> FileIO:
        while True:
            file = FileIO(self.path, "a+")
            try:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise OutputError(f"{self.path}: is not a file; move it out of the way")
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A run that finished between the two calls has removed the file that was opened.
                if self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            except BlockingIOError:
                file.close()
                raise OutputError(
                    f"{self.path}: another run is writing it; wait for that run, or choose another --output"
                ) from None
            except BaseException:
                file.close()
                raise
            file.close()

    def _read(self, say: Callable[[str], None]) -> None:
        """Count the whole rows and cut a torn one off that follows them."""
        if not (size := os.fstat(self._file.fileno()).st_size):
            return
        with self.path.open("rb") as file:
            head = file.readline()
            if not head.endswith(b"\n") and head[: len(HEAD)] == HEAD[: len(head)]:  # torn
                self._file.truncate(0)
                return
            try:
                self._head = json.loads(head) if head.startswith(HEAD) else {}
            except ValueError:
                self._head = {}
            end = len(head)
            if not self._head.keys() >= {"artifact_sha256", *(field.name for field in fields(Way))}:
                raise OutputError(f"{self.path}: was not written by this version of glia-infer; move it out of the way")
            began, told = time.monotonic(), False
            for line in file:
                if line == _AGAIN:
                    self._kept.try_again()
                    self._tried_again = True
                elif line.endswith(b"\n") and (row := _row(line)):
                    self._kept.add(row["path"], row["error"] is not None)
                else:
                    break
                end += len(line)
                self._lines += 1
                if not told and self._lines % 4096 == 0 and time.monotonic() - began > _LONG:
                    say(f"{self.path}: reading about {size * self._lines // end:,} rows")
                    told = True
            else:
                line = b""
        if end + len(line) < size:
            raise OutputError(
                f"{self.path}: line {self._lines + 2} is damaged, and rows follow it; delete that line, then go on "
                "with --resume, or delete the file to start anew"
            )
        self._file.truncate(end)
        self.rows, self.failed = len(self._kept), self._kept.failed

    def _in_place(self, file: BinaryIO, lines: int) -> Iterator[bytes]:
        """The last row of each place: where in the file it begins is held, 8 bytes each."""
        rows, starts, start = Rows(), array("q"), file.tell()
        for line in islice(file, lines):
            if line == _AGAIN:
                rows.try_again()
            else:
                row = json.loads(line)
                place = rows.add(row["path"], row["error"] is not None)
                if place < len(starts):
                    starts[place] = start
                else:
                    starts.append(start)
            start += len(line)
        for start in starts:
            file.seek(start)
            yield file.readline()

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._cannot_be_written(error) from error
        self._synced = time.monotonic()

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:  # a disk that fills up takes the first part of a row
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._cannot_be_written(error) from error

    def _cannot_be_written(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path}: cannot be written ({error.strerror}); free some space or check the permissions, "
            "then go on with --resume"
        )


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    is_one = isinstance(row, dict) and row.keys() == {"path", "score", "error", "quality", "width", "height"}
    return row if is_one else None
