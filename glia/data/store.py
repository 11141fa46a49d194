"""Arrays that are made once of a picture's file and kept on disk: a file each, memory-mapped when it is read."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glia_runtime.atomic import atomic_write
from glia_runtime.errors import ImageError, OutputError

Array = npt.NDArray[Any]


class ArrayStore:
    """One array for each picture. A picture that was changed since (size or time of its file) is another picture.

    Any number of processes may use a folder at the same time; one killed while it writes leaves nothing to be read.

    Args:
        folder: where the arrays lie; made when the first is written.
        kind: what they are and what they were made with: arrays of other kinds may lie in the same folder.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind

    def read(self, picture: Path) -> Array | None:
        """The array of a picture, memory-mapped and read-only, or None where there is none yet.

        Raises:
            OutputError: it cannot be read.
        """
        path = self._path(picture)
        try:
            stored: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (EOFError, ValueError):  # cut short by a crash of the machine: made again
            return None
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be read ({error.strerror}); remove it, or choose another folder"
            ) from error
        return stored

    def write(self, picture: Path, array: Array) -> None:
        """Keep the array of a picture.

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        path = self._path(picture)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot keep arrays here ({error.strerror}); choose another") from error
        with atomic_write(path, durable=False) as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def fetch(self, picture: Path, make: Callable[[], Array]) -> Array:
        """The array of a picture, made and kept where there is none yet."""
        stored = self.read(picture)
        if stored is None:
            stored = make()
            self.write(picture, stored)
        return stored

    def check_space(self, size: int) -> None:
        """Refuse what the disk cannot hold.

        Args:
            size: bytes still to be written.

        Raises:
            OutputError: they are more than are free.
        """
        existing = next(
            folder for folder in (self.folder.absolute(), *self.folder.absolute().parents) if folder.exists()
        )
        free = shutil.disk_usage(existing).free
        if size > free:
            raise OutputError(
                f"{self.folder}: needs {size / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free; choose another --cache"
            )

    def _path(self, picture: Path) -> Path:
        try:
            status = picture.stat()
        except OSError as error:
            raise ImageError(f"{picture}: cannot be opened ({error.strerror}); check the path") from error
        key = f"{self.kind}:{os.path.abspath(picture)}:{status.st_size}:{status.st_mtime_ns}"  # noqa: PTH100 (no lstats)
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
        return self.folder / name[:2] / f"{name}.npy"
