"""What every glia command does with an error: one line on stderr and an exit status, no traceback."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from glia_runtime.descriptors import discard
from glia_runtime.errors import GliaError, MissingExtraError, is_interrupt, one_line

FAILED, BUG, INTERRUPTED, NO_READER = 2, 70, 130, 141
"""Exit statuses: 70 is EX_SOFTWARE of sysexits.h, the last two are 128 + SIGINT and 128 + SIGPIPE."""

_CommandUsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of click, which newer typers hold inside


def say(command: str, line: str) -> None:
    """Print ``command: line`` on stderr, which may be closed or full; that must not stop the work."""
    if sys.stderr is not None:
        try:
            print(f"{command}: {one_line(line)}", file=sys.stderr, flush=True)
        except OSError:
            discard(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"glia {version('glia')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
"""The options that every command has."""


@contextmanager
def _usage_on_one_line(command: str) -> Iterator[None]:
    """Exit with status 2 where the command line makes no sense, and say why."""
    try:
        yield
    except _CommandUsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            raise
        reason = str(error.format_message())  # type: ignore[attr-defined]
        say(command.split()[0], f"{reason.rstrip('.')} (see {command} --help)")
        raise typer.Exit(FAILED) from error


def usage(argument: Any) -> str:
    """An argument in a line of usage: MODEL, MODELS... where many may be given, [MODEL] where none will do."""
    words: str = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return words if argument.required else f"[{words}]"


_WORDS: dict[Any, str] = {str: "TEXT", Path: "PATH", int: "INTEGER", float: "NUMBER"}


def taken(annotation: Any) -> str:
    """What a parameter takes, in words: TEXT, NUMBER NUMBER, [these|choices]; nothing for a flag."""
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    if arguments:  # of a list, and of what may be left out, there is one
        return " ".join(map(taken, arguments))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f"[{'|'.join(str(choice.value) for choice in annotation)}]"
    return _WORDS.get(annotation, "")


def given_options(context: typer.Context) -> dict[str, Any]:
    """What was typed on the command line, by the names of the function's parameters."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in context.params.items()
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def _full_name(name: str | None, parent: Any) -> str:
    return " ".join(filter(None, (parent and parent.info_name, name or "glia")))


class Command(TyperCommand):
    """A command that says on one line, too, what is wrong with its options: ``@app.command(cls=Command)``."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the command line; exit with status 2 when it makes no sense."""
        _occupy_closed_streams()
        with _usage_on_one_line(_full_name(info_name, parent)):
            return super().make_context(info_name, args, parent, **extra)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name; the versions of typer differ in how they mark arguments."""
        arguments = (each for each in self.get_params(ctx) if each.param_type_name == "argument")
        return ["[OPTIONS]", *map(usage, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List arguments and options with what each takes in words; typer would show Python's types."""
        hints = get_type_hints(self.callback) if self.callback else {}
        parameters: list[Any] = self.params
        for parameter in parameters:
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None  # its name says it
            else:
                parameter.metavar = parameter.metavar or taken(hints[parameter.name]) or None
        super().format_options(ctx, formatter)


class Group(TyperGroup):
    """The same for a command of several: ``typer.Typer(cls=Group)``."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the command line; exit with status 2 when it makes no sense."""
        with _usage_on_one_line(_full_name(info_name, parent)):
            return super().make_context(info_name, args, parent, **extra)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the one that is named; exit with status 2 when there is none such."""
        with _usage_on_one_line(_full_name(ctx.info_name, None)):
            return super().resolve_command(ctx, args)


class DefaultGroup(Group):
    """A group whose first command is meant where the command line starts with the name of none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the first command's name before a line that starts with neither a name nor an option of the group."""
        own = {option for parameter in self.get_params(ctx) for option in parameter.opts}
        if args and args[0] not in own.union(self.commands):
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


@contextmanager
def errors_on_one_line(command: str, debug: bool) -> Iterator[None]:
    """Turn the error family into ``command: message`` and exit status 2, Ctrl-C into 130, a bug into 70.

    A reader of standard output that has seen enough ends the command with 141, as the shell says of other programs.

    Args:
        command: its name, which starts the line.
        debug: show the traceback as well.
    """
    try:
        try:
            yield
        except Exception as error:
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            raise
    except GliaError as error:
        if debug:
            traceback.print_exc()
        say(command, str(error))
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt as interrupt:  # whoever has something to say about it puts it there
        say(command, "; ".join(("interrupted", *map(str, interrupt.args))))
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise typer.Exit(NO_READER) from None
    except (typer.Exit, typer.Abort, _CommandUsageError):
        raise
    except Exception as error:
        ours = ("glia", "glia_bench", "glia_export", "glia_runtime")
        if not isinstance(error, ModuleNotFoundError) or (error.name or "").split(".")[0] in ours:
            traceback.print_exc()
            raise typer.Exit(BUG) from error
        if debug:
            traceback.print_exc()
        extra = {"glia-export": "export", "glia-infer": "cpu", "glia-bench": "bench"}.get(command, "train")
        say(command, str(MissingExtraError.for_package(error.name or "a package", extra, "this command")))
        raise typer.Exit(FAILED) from error


def _occupy_closed_streams() -> None:
    """Open what the caller closed (``2>&-``) on nothing, so that no file the command opens takes its number.

    A library that writes to descriptor 2 would write into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
