"""Files appear whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glia_runtime.errors import OutputError


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` on success and vanishes on any exception.

    The temporary file lies beside the target, ends in the same suffix, and is not created here. A symbolic
    link keeps pointing where it did: its target is replaced. An existing pipe or device (``/dev/stdout``) is
    never renamed over; the finished bytes are copied into it. Interrupts (`KeyboardInterrupt`) clean up as
    well.

    Args:
        path: what to write.
        durable: wait for the disk, so that a crash of the machine cannot leave the file cut short; not for files that
            are checked when read and made again.

    Raises:
        OutputError: the folder is missing, the target is a directory, or writing failed (permission, disk
            full).
    """
    path = Path(path)
    mode: int | None = None
    try:
        target = path.resolve()  # fails in a folder that was deleted
        with suppress(FileNotFoundError):
            mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:  # Python up to 3.12 calls a loop of links a RuntimeError
        raise _output_error(path, error) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a directory; name a file to write")
    special = mode is not None and not stat.S_ISREG(mode)
    if special:
        target, folder = path, Path(tempfile.gettempdir())
    else:
        folder = target.parent
        _check_writable(path, folder, exists=mode is not None)
    temporary = folder / f".{secrets.token_hex(6)}-{target.name}"
    if len(os.fsencode(temporary.name)) > os.pathconf(folder, "PC_NAME_MAX"):  # found out before the work, too
        raise _output_error(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
    try:
        try:
            yield temporary
            if special:
                with temporary.open("rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
            else:
                if durable:
                    _flush_to_disk(temporary)
                if mode is not None:
                    temporary.chmod(stat.S_IMODE(mode))
                temporary.replace(target)
                if durable:
                    with suppress(OSError):  # a folder that may be written but not read; some file systems
                        _flush_to_disk(folder)
        except OSError as error:
            if error.filename is None or str(error.filename) in (str(temporary), str(target)):
                raise _output_error(path, error) from error
            raise  # some other file, which the caller was reading
    finally:
        with suppress(OSError):  # mostly renamed already; where it cannot be removed, what led here says why
            temporary.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` that were killed left beside it; only for who knows that no other is at work."""
    target = path.resolve()
    for leftover in target.parent.glob(f".{'[0-9a-f]' * 12}-{glob.escape(target.name)}"):
        with suppress(OSError):  # another user's in a folder like /tmp; it does no harm
            leftover.unlink()


def _check_writable(path: Path, folder: Path, *, exists: bool) -> None:
    # Checked before the work, because the work behind an output may take hours.
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; create it first (mkdir -p)")
    if not os.access(folder, os.W_OK | os.X_OK) or (exists and not os.access(path, os.W_OK)):
        raise OutputError(f"{path}: permission denied; choose another place or make it writable (chmod u+w)")


def _flush_to_disk(path: Path) -> None:
    # Without fsync a crash after the rename can leave an empty file under the final name.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _output_error(path: Path, error: OSError | ValueError | RuntimeError) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"{path}: cannot be written ({reason}); free some space or choose another place")
