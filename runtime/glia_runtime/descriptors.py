"""The standard streams, where nobody is at their other end."""

import os
from contextlib import suppress


def discard(descriptor: int) -> None:
    """Point a standard stream that cannot be written at nothing, so that Python's flush at exit does not fail too."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
