"""The rows of an unfinished run, ``OUTPUT.part``: what was scored stays scored, whenever the run ends.

One JSON object a line, whatever format the output will have: a head that names the artifact, then a row for each
picture as ``--format jsonl`` writes it. A row goes to the file in one piece as soon as it is known, so that a kill can
tear the last one at most; whoever opens the file again cuts a torn row off. A lock keeps a second run away.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from io import FileIO
from itertools import islice
from pathlib import Path

from glia_runtime.errors import OutputError
from glia_runtime.pipeline import Result
from glia_runtime.writers import json_line

_HEAD = b'{"glia_rows": 1, "artifact_sha256": "'  # the number changes when rows become another kind
_HEAD_END = b'"}\n'

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
            OutputError: another run holds it, it cannot be opened, or it is no part file.
        """
        self.path = journal_path(output)
        self.rows = 0
        self.failed = 0
        self._artifact = ""
        self._synced = time.monotonic()
        try:
            self._file = self._open_locked()
        except OSError as error:
            raise self._cannot_be_written(error) from error
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def begin(self, artifact_sha256: str) -> None:
        """Say which artifact the rows are made with.

        Raises:
            OutputError: the rows that are there were made with another.
        """
        if not self._artifact:
            self._write(_HEAD + artifact_sha256.encode() + _HEAD_END)
        elif self._artifact != artifact_sha256:
            raise OutputError(
                f"{self.path}: its rows are another model's (SHA-256 {self._artifact[:12]}..., not "
                f"{artifact_sha256[:12]}...); go on with that model, or delete the file to start anew"
            )
        self._artifact = artifact_sha256

    def append(self, result: Result) -> None:
        """Write one row; raise `OutputError` when it cannot be."""
        self._write(json_line(result))
        self.rows += 1
        if time.monotonic() - self._synced > SYNC_SECONDS:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise self._cannot_be_written(error) from error
            self._synced = time.monotonic()

    def results(self) -> Iterator[Result]:
        """The rows that were whole when this was asked for, read one by one."""
        with self.path.open("rb") as file:
            file.readline()
            for line in islice(file, self.rows):
                yield Result(**json.loads(line))

    def without_done(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield `paths` without those that have a row; a path that comes twice needs two rows.

        Both are read side by side. As long as they come in one order nothing is kept; only the rows of pictures that
        are no longer in their place, after a folder has changed, wait for them in memory.
        """
        waiting: Counter[str] = Counter()
        done = self.results()
        for path in paths:
            if waiting[path]:
                waiting[path] -= 1
                continue
            for result in done:
                if result.path == path:
                    break
                waiting[result.path] += 1
            else:
                yield path

    def delete(self) -> None:
        """Remove the file: its rows stand in the output now."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file; one without rows is worth nothing and removed."""
        if not self.rows and not self._file.closed:
            self.delete()
        self._file.close()

    def _open_locked(self) -> FileIO:
        while True:
            file = FileIO(self.path, "a+")
            try:
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
        """Count the whole rows and cut off what follows them."""
        end = 0
        with self.path.open("rb") as file:
            head = file.readline()
            if head.startswith(_HEAD) and head.endswith(_HEAD_END):
                self._artifact = head[len(_HEAD) : -len(_HEAD_END)].decode("ascii", "replace")
                end = len(head)
            elif head.endswith(b"\n") or head[: len(_HEAD)] != _HEAD[: len(head)]:  # else a torn head, or nothing
                raise OutputError(f"{self.path}: was not written by this version of glia-infer; move it out of the way")
            for line in file:
                try:
                    result = Result(**json.loads(line))
                except (ValueError, TypeError):
                    break
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                self.rows += 1
                self.failed += result.error is not None
        self._file.truncate(end)

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
