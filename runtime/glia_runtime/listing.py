"""From what a user names to pictures: files, folders, patterns, and a list on standard input.

Everything is found as it is needed. Only one folder's names are held at a time, because they are sorted: the same
folder gives the same order on every file system, and so does a run that is resumed.
"""

# Paths stay text here: a Path object for each of ten million files would cost more than finding them.
# ruff: noqa: PTH112, PTH116, PTH118, PTH122, PTH207

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from select import select

from glia_runtime.errors import UsageError

STDIN = "-"

_PAUSE = 0.1
"""Seconds without a new path after which standard input pauses: `find` on a busy disk is faster, and a person who
waits for a row hardly notices."""

_ENDINGS = """
apng avif avifs bmp dib gif icb ico j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx
pbm pgm png pnm ppm qoi tga tif tiff vda vst webp
"""
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""What a picture's name ends in, in lower case; files of a folder with other endings are passed over."""

Complain = Callable[[str], None]


def find_pictures(arguments: Iterable[str], recursive: bool, complain: Complain) -> Iterator[str]:
    """Yield the paths of the pictures that `arguments` stand for, in order.

    - a folder: the pictures in it by name, then with `recursive` those of its folders. Hidden names are passed over,
      and so are other files (`SUFFIXES`). Links to folders are followed last, and no folder is listed twice.
    - a pattern (``*``, ``?``, ``[...]``, ``**`` for any depth) that is not itself a file: what it matches, by name.
    - anything else, and a pattern that matches nothing: itself, so that whoever opens it says what is wrong.

    Args:
        arguments: the names.
        recursive: list the folders in a folder as well.
        complain: called with one line for a folder that cannot be listed or holds no picture.
    """
    for argument in arguments:
        if glob.has_magic(argument) and not os.path.lexists(argument):
            found = False
            for name in _match(argument, complain):
                found = True
                yield from _pictures_of(name, recursive, complain)
            if not found:
                yield argument
        else:
            yield from _pictures_of(argument, recursive, complain)


def some_pictures(folder: Path, most: int, complain: Complain) -> list[Path]:
    """`most` of the pictures in a folder and the folders in it, spread evenly from the first name to the last.

    Args:
        folder: what else lies there is passed over, as by `find_pictures`.
        most: at least 1.
        complain: told on one line that not all are taken, and of folders that cannot be listed.

    Raises:
        UsageError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; name one that holds pictures")
    found = [path for path in _walk(str(folder), True, complain) if os.path.splitext(path)[1].lower() in SUFFIXES]
    if not found:
        raise UsageError(f"{folder}: holds no picture (JPEG, PNG, ...); name a folder with some")
    if len(found) > most:
        complain(f"{folder}: taking {most} of its {len(found)} pictures, spread evenly over their names")
        found = [found[round(index * (len(found) - 1) / max(most - 1, 1))] for index in range(most)]
    return [Path(path) for path in found]


def paths_from_stdin(null: bool = False) -> Iterator[str | None]:
    """Yield each line of standard input as a path; neither folders nor patterns are looked for there.

    A carriage return at the end of a line belongs to the line's end, as in lists from Windows. With `null` a zero byte
    ends each path, as ``find -print0`` writes them, and everything else is part of it.

    Whenever nothing has come for a moment there is one None, so that what came until then need not wait for more.

    Raises:
        UsageError: standard input is closed.
    """
    if sys.stdin is None:
        raise UsageError("standard input is closed, so - names no paths")
    source, rest, end = sys.stdin.fileno(), b"", b"\0" if null else b"\n"
    while True:
        if not select([source], [], [], _PAUSE)[0]:
            yield None
            select([source], [], [])
        data = os.read(source, 1 << 16)
        *lines, rest = (rest + data).split(end)
        for line in lines if data else [rest]:
            if path := line if null else line.removesuffix(b"\r"):
                yield os.fsdecode(path)
        if not data:
            return


def _pictures_of(name: str, recursive: bool, complain: Complain) -> Iterator[str]:
    if not os.path.isdir(name):
        yield name
        return
    found = False
    for path in _walk(name, recursive, complain):
        if os.path.splitext(path)[1].lower() in SUFFIXES:
            found = True
            yield path
    if not found:
        complain(f"{name}: no pictures in this folder" + ("" if recursive else "; --recursive looks into its folders"))


def _walk(root: str, recursive: bool, complain: Complain) -> Iterator[str]:
    """The files of a folder that are not hidden, and with `recursive` of all below it; see `find_pictures`."""
    listed: set[tuple[int, int]] = set()
    folders = [root]
    links: list[str] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in listed:
                continue
            listed.add((status.st_dev, status.st_ino))
            files, inside, linked = _list(folder)
        except OSError as error:  # no permission, or deleted since its own folder was listed
            complain(f"{folder}: cannot be listed ({error.strerror}); check that it is there and readable")
            continue
        for name in sorted(files):
            yield os.path.join(folder, name)
        if recursive:
            # the next one comes from the end
            folders += [os.path.join(folder, name) for name in sorted(inside, reverse=True)]
            links[:0] = [os.path.join(folder, name) for name in sorted(linked, reverse=True)]


def _list(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Names in `folder`: of files (and what is neither), of folders, of links to folders."""
    files: list[str] = []
    inside: list[str] = []
    linked: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link that leads to itself: a file that cannot be opened
                is_folder = False
            kind = files if not is_folder else linked if entry.is_symlink() else inside
            kind.append(entry.name)
    return files, inside, linked


def _match(pattern: str, complain: Complain) -> Iterator[str]:
    parts = PurePath(pattern).parts
    if "**" not in parts:
        yield from sorted(glob.iglob(pattern))
        return
    # glob's own ** goes round a loop of links until the system refuses, forty rounds later.
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = os.path.join(*parts[:fixed]) if fixed else os.curdir
    if os.path.isdir(root):
        for path in _walk(root, True, complain):
            if _matches(PurePath(os.path.relpath(path, root)).parts, parts[fixed:]):
                yield path if fixed else os.path.relpath(path)


def _matches(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":  # any number of folders, none as well
        return any(_matches(names[skipped:], patterns[1:]) for skipped in range(len(names)))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
