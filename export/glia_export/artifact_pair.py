"""An artifact and its manifest appear together, or neither does."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glia_runtime.atomic import atomic_write
from glia_runtime.errors import OutputError
from glia_runtime.manifest import manifest_path


@contextmanager
def write_pair(output: Path) -> Iterator[Path]:
    """Yield a temporary path; write the artifact there and its manifest beside it (`manifest_path`).

    On success both get their final names. On any exception, Ctrl-C included, both vanish, and a pair that already
    bears these names is left as it was.

    Raises:
        OutputError: `output` or its manifest is a directory, a device or a pipe, or cannot be written.
    """
    sidecar = manifest_path(output)
    previous: Path | None = None
    fresh: os.stat_result | None = None
    made: Path | None = None
    try:
        with atomic_write(output) as temporary:
            for path in (output, sidecar):
                if path.exists() and not path.is_file():
                    raise OutputError(
                        f"{path}: not an ordinary file; name a file for the artifact, its manifest lies beside it"
                    )
            made = manifest_path(temporary)
            yield temporary
            fresh = temporary.stat()
            # The manifest goes first: between the two renames a reader then sees a hash that does not match and
            # refuses, where the other order would show it a file without its proof.
            if sidecar.exists():
                previous = made.with_suffix(".previous")
                shutil.copyfile(sidecar, previous)
            made.replace(sidecar)
    except BaseException as error:
        # An interrupt may also arrive when the artifact already has its name; then the work is done.
        if fresh is not None and not _is_same(output, fresh):
            _restore(sidecar, previous, made)
        if isinstance(error, OSError):
            raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another place") from error
        raise
    finally:
        for leftover in (made, previous):
            if leftover is not None:
                leftover.unlink(missing_ok=True)


def _is_same(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


def _restore(sidecar: Path, previous: Path | None, made: Path | None) -> None:
    if made is not None and made.exists():  # it never got its final name
        return
    with suppress(OSError):
        if previous is not None:
            previous.replace(sidecar)
        else:
            sidecar.unlink(missing_ok=True)
