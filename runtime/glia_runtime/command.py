"""What every glia command does with an error: one line on stderr and an exit status, no traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer
from typer.core import TyperCommand

from glia_runtime.errors import GliaError, MissingExtraError, one_line

FAILED, INTERRUPTED = 2, 130

_CommandUsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of click, which newer typers hold inside


def say(command: str, line: str) -> None:
    """Print ``command: line`` on stderr, which may be closed or full; that must not stop the work."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"{command}: {one_line(line)}", file=sys.stderr, flush=True)


def print_version(wanted: bool) -> None:
    """The callback of every command's ``--version``."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"glia {version('glia')}")
        raise typer.Exit


class Command(TyperCommand):
    """A command that says on one line, too, what is wrong with its options: ``@app.command(cls=Command)``."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Read the command line; exit with status 2 when it makes no sense."""
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except _CommandUsageError as error:
            words = str(error.format_message())  # type: ignore[attr-defined]
            reason = words.replace("Value error, ", "")  # pydantic says so where a choice is none of those offered
            say(info_name or "glia", f"{reason.rstrip('.')} (see {info_name} --help)")
            raise typer.Exit(FAILED) from error


@contextmanager
def errors_on_one_line(command: str, debug: bool) -> Iterator[None]:
    """Turn the error family into ``command: message`` and exit status 2, Ctrl-C into 130.

    Args:
        command: its name, which starts the line.
        debug: show the traceback as well.
    """
    try:
        yield
    except GliaError as error:
        if debug:
            traceback.print_exc()
        say(command, str(error))
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as interrupt:  # whoever has something to say about it puts it there
        say(command, "; ".join(("interrupted", *map(str, interrupt.args))))
        raise typer.Exit(INTERRUPTED) from None
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("glia", "glia_bench", "glia_export", "glia_runtime"):
            raise
        if debug:
            traceback.print_exc()
        extra = {"glia-export": "export", "glia-infer": "cpu", "glia-bench": "bench"}.get(command, "train")
        say(command, str(MissingExtraError.for_package(error.name or "a package", extra, "this command")))
        raise typer.Exit(FAILED) from error
