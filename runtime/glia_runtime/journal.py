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
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from glia_runtime.errors import OutputError

if TYPE_CHECKING:
    from glia_runtime.pipeline import Result

HEAD = b'{"glia_rows": 2, '  # the number changes when rows become another kind
_AGAIN = b'{"again": true}\n'

SYNC_SECONDS = 5.0
"""How much work a power failure may cost; a kill costs nothing, and a sync for each row would cost more than it."""


def journal_path(output: Path) -> Path:
    """``OUTPUT.part``, beside the file itself where `output` is a link."""
    target = output.resolve()
    return target.with_name(target.name + ".part")


class Journal:
    """The part file of one output, locked until `close`."""

    def __init__(self, output: Path) -> None:
        """Open or create the part file beside `output`, and read how far it got.

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
        self._again: Counter[str] = Counter()
        self._head: dict[str, str] = {}
        self._synced = time.monotonic()
        try:
            self._file = self._open_locked()
            with suppress(FileNotFoundError, PermissionError):  # what the output keeps from others, so do its rows
                os.fchmod(self._file.fileno(), stat.S_IMODE(output.stat().st_mode) | 0o600)
        except OSError as error:
            raise self._cannot_be_written(error) from error
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def begin(self, artifact_sha256: str, backend: str) -> None:
        """Say which artifact the rows are made with, and what runs it how; ask for those that failed to be tried again.

        Raises:
            OutputError: the rows that are there were made with another.
        """
        head = {"artifact_sha256": artifact_sha256, "backend": backend}
        if not self.rows:
            self._file.truncate(0)
            self._write(HEAD + json.dumps(head)[1:].encode() + b"\n")
            self._lines = 0
        elif self._head["artifact_sha256"] != artifact_sha256:
            raise OutputError(
                f"{self.path}: its rows are another model's (SHA-256 {self._head['artifact_sha256'][:12]}..., not "
                f"{artifact_sha256[:12]}...); go on with that model, or delete the file to start anew"
            )
        elif self._head["backend"] != backend:
            options = self._head["backend"].replace(" on ", " --device ").replace(" with ", " ")
            if " with " in backend and " with " not in self._head["backend"]:
                options += f" and without {backend.partition(' with ')[2]}"
            raise OutputError(
                f"{self.path}: its rows were scored by {self._head['backend']}, not {backend}, and scores differ a "
                f"little; go on with --backend {options}, or delete the file to start anew"
            )
        elif self.failed:
            self._write(_AGAIN)
            self._lines += 1
        self._head = head

    def append(self, result: Result) -> None:
        """Write one row; raise `OutputError` when it cannot be."""
        from glia_runtime.writers import json_line

        self._write(json_line(result))
        self._lines += 1
        if self._again[result.path]:
            self._again[result.path] -= 1
        else:
            self.rows += 1
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def results(self) -> Iterator[Result]:
        """A row for each picture, as far as they were whole when this was asked for, read one by one.

        Rows that replace others are held in memory.
        """
        lines, places = self._lines, 0
        again: dict[int, Result] = {}
        for place, result in self._placed(lines):
            if place < places:
                again[place] = result
            places = max(places, place + 1)
        places = 0
        for place, result in self._placed(lines):
            if place == places:
                yield again.pop(place, result)
                places += 1

    def without_done(self, paths: Iterable[str | None]) -> Iterator[str | None]:
        """Yield `paths`, and None where it comes, without those that have a score; one that comes twice needs two rows.

        Both are read side by side. As long as they come in one order nothing is kept; only the rows of pictures that
        are no longer in their place, after a folder has changed, wait for them in memory.
        """
        waiting: defaultdict[str, deque[bool]] = defaultdict(deque)
        done = ((result.path, result.error is not None) for result in self.results())
        for path in paths:
            if path is None:
                yield None
                continue
            if path in waiting:
                failed = waiting[path].popleft()
                if not waiting[path]:
                    del waiting[path]
            else:
                for other, failed in done:
                    if other == path:
                        break
                    waiting[other].append(failed)
                else:
                    failed = True
            if failed:
                yield path
        for other, failed in done:
            waiting[other].append(failed)
        self.unnamed = sum(map(len, waiting.values()))
        self.unnamed_failed = sum(map(sum, waiting.values()))

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

    def _read(self) -> None:
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
            if not self._head.keys() >= {"artifact_sha256", "backend"}:
                raise OutputError(f"{self.path}: was not written by this version of glia-infer; move it out of the way")
            for line in file:
                if not line.endswith(b"\n") or not (line == _AGAIN or _is_row(line)):
                    break
                end += len(line)
                self._lines += 1
            else:
                line = b""
        if end + len(line) < size:
            raise OutputError(
                f"{self.path}: line {self._lines + 2} is damaged, and rows follow it; delete that line, then go on "
                "with --resume, or delete the file to start anew"
            )
        self._file.truncate(end)
        for result in self.results() if self._lines else ():
            self.rows += 1
            if result.error is not None:
                self.failed += 1
                self._again[result.path] += 1

    def _placed(self, lines: int) -> Iterator[tuple[int, Result]]:
        """Each row with its place in the output: the next one, or that of the failed row which it replaces."""
        from glia_runtime.pipeline import Result

        places = 0
        failed: dict[int, str] = {}
        replaceable: defaultdict[str, deque[int]] = defaultdict(deque)
        with self.path.open("rb") as file:
            file.readline()
            for line in islice(file, lines):
                if line == _AGAIN:
                    replaceable.clear()
                    for place, path in sorted(failed.items()):
                        replaceable[path].append(place)
                    continue
                result = Result(**json.loads(line))
                if replaceable.get(result.path):
                    place = replaceable[result.path].popleft()
                else:
                    place = places
                    places += 1
                failed.pop(place, None)
                if result.error is not None:
                    failed[place] = result.path
                yield place, result

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


def _is_row(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.keys() == {"path", "score", "error", "quality", "width", "height"}
