"""Trouble that is the machine's and not the picture's: the line says which, and what to do."""

from __future__ import annotations

import errno
import io
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glia_runtime import ImageError
from glia_runtime.decode import decode


def test_no_more_open_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (80, 60)).save(path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = os.open(path, os.O_RDONLY)
    os.close(in_use)
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, limits[1]))  # the next descriptor is the first that is too many
    try:
        with pytest.raises(ImageError) as caught:
            decode(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert str(caught.value) == (
        f"{path}: cannot be opened (Too many open files); allow more open files (ulimit -n) or close some"
    )


def test_a_disk_that_fails_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (80, 60)).save(path)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("glia_runtime.decode._open_regular_file", lambda path: Failing())
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert str(caught.value) == f"{path}: cannot be read (Input/output error); check the disk or the network"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EIO, "check the disk or the network"),
        (errno.ESTALE, "check the disk or the network"),
        (errno.ENOMEM, "free some memory"),
        (errno.ELOOP, "check the path"),
    ],
)
def test_what_the_machine_says_on_opening(number: int, reason: str, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (80, 60)).save(path)

    def failing(*arguments: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert str(caught.value) == f"{path}: cannot be opened ({os.strerror(number)}); {reason}"
