"""The one family of errors that glia raises on purpose.

Every message is one line that says what is wrong, with which file, and what to do about it. The commands
print it without a traceback; anything else that reaches a user is a bug.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    r"""Write control characters (a newline in a file name, say) as Python escapes, so that one error stays
    one line.
    """
    if text.isprintable():
        return text
    # Surrogates (undecodable bytes of a file name) are "not printable" too, but stderr already escapes them.
    return "".join(
        character
        if character.isprintable() or "\ud800" <= character <= "\udfff"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind `error`: during the import of a compiled library it comes out as an ImportError.

    An error of another kind that follows Ctrl-C, such as a file that cannot be closed then, speaks for itself.
    """
    importing = False
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return importing
        importing = isinstance(error, ImportError)
        if importing and "KeyboardInterrupt" in str(error):  # older libraries pass on its name only
            return True
        error = error.__cause__ or error.__context__
    return False


class GliaError(Exception):
    """Base of the family; ``str(error)`` is the line to show."""

    def __init__(self, message: str) -> None:
        """Keep `message` on one line."""
        super().__init__(one_line(message))


class ImageError(GliaError):
    """A picture that cannot be read, or an array that is not one."""


class DatasetError(GliaError):
    """A dataset whose files are missing, incomplete, or not as they should be."""


class ManifestError(GliaError):
    """A manifest that is missing, unreadable, altered or of a version this glia does not know."""


class ArtifactError(GliaError):
    """An exported file that is missing, altered, unusable here, or whose probe misses the manifest."""


class CheckpointError(GliaError):
    """A checkpoint that is not one, or not one this model can take."""


class BackendError(GliaError):
    """A backend or device that is unknown, or that cannot run here."""


class MissingExtraError(BackendError):
    """An optional package that is not installed."""

    @classmethod
    def for_package(cls, package: str, extra: str, purpose: str) -> MissingExtraError:
        """Say which ``pip install 'glia[extra]'`` brings `package`, needed for `purpose`."""
        return cls(f"{purpose} needs {package}, which is not installed: pip install 'glia[{extra}]'")


class OutputError(GliaError):
    """A file (or standard output) that cannot be written."""


class UsageError(GliaError):
    """Arguments that make no sense together; a command exits with status 2."""
