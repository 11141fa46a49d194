"""``glia-infer``: score pictures from the command line."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from glia_runtime.command import errors_on_one_line, print_version, say
from glia_runtime.errors import OutputError, UsageError

if TYPE_CHECKING:
    from glia_runtime.scorer import Result, Scorer

SCORED, SOME_FAILED = 0, 1  # 2 and 130 come from errors_on_one_line

# rich_markup_mode and pretty exceptions off: they import rich, some 100 ms, to print help and bugs in colour.
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Format(str, Enum):
    """Output formats."""

    csv = "csv"
    jsonl = "jsonl"
    table = "table"


_SUFFIXES = {
    "": Format.csv,
    ".csv": Format.csv,
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".txt": Format.table,
}


@app.command()
def infer(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Picture files; - reads paths from stdin, one a line."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Artifact made by glia-export. Default: $GLIA_MODEL, else the bundled model."),
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by OUTPUT's suffix; else table on a terminal, csv if piped."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write scores to this file, whole or not at all."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Also write a page to look at: thumbnails, worst first."),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="FOLDER",
            help="Also draw where the model looked, a JPEG a picture; for models exported with --maps.",
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures in one run of the graph. Default: 8.")] = None,
    device: Annotated[str, typer.Option(help="auto or cpu.")] = "auto",
    self_test: Annotated[
        bool, typer.Option("--self-test", help="First check the artifact on this machine by its probe.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Score pictures with an exported model: one score each, on standard output.

    Errors go to standard error, one line each. Exit status: 0 all scored, 1 some pictures failed, 2 nothing
    could start or the output could not be written.
    """
    with errors_on_one_line("glia-infer", debug):
        status = _infer(images or [], model, format_, output, report, maps, batch_size, device, self_test, debug)
    raise typer.Exit(status)


def _infer(
    images: list[str],
    model: str | None,
    format_: Format | None,
    output: Path | None,
    report: Path | None,
    maps: Path | None,
    batch_size: int | None,
    device: str,
    self_test: bool,
    debug: bool,
) -> int:
    if not images and not self_test:
        raise UsageError("no pictures given; name some files, or - to read paths from stdin (see --help)")
    if report is not None and not images:
        raise UsageError("--report shows pictures, and none were given; name some files")
    format_ = _pick_format(format_, output)
    with _open_report(report) as page, _open_output(output) as stream:
        from glia_runtime.scorer import Scorer

        if not (model or os.environ.get("GLIA_MODEL")):
            _say("using the bundled demonstration model (name another with --model or $GLIA_MODEL)")
        scorer = Scorer.open(model, device)
        if debug:
            _say(scorer.choice)
        if self_test:
            difference, tolerance = scorer.self_test(), scorer.manifest.probe.tolerance
            _say(f"self-test passed: largest difference {difference:.3g}, tolerance {tolerance:.3g}")
        return _write_results(scorer, images, batch_size, format_, stream, page, maps) if images else SCORED


def _write_results(
    scorer: "Scorer",
    images: list[str],
    batch_size: int | None,
    format_: Format,
    stream: BinaryIO,
    page: Path | None,
    maps: Path | None,
) -> int:
    from glia_runtime.writers import WRITERS

    writer = WRITERS[format_.value](stream, scorer.manifest.score_scale)
    failed = False
    report, thumbnails = None, None
    if page is not None:
        from glia_runtime.report import Report
        from glia_runtime.thumbnails import THUMBNAIL_SIDE

        report, thumbnails = Report(scorer.manifest, scorer.artifact), THUMBNAIL_SIDE
    draw_map = None
    if maps is not None:
        from glia_runtime.maps import MapWriter

        draw_map = MapWriter(scorer, maps).write
    results = scorer.stream(_paths(images), batch_size=batch_size, thumbnails=thumbnails)
    total = None if "-" in images else len(images)
    # Rows that scroll by on the terminal show the progress themselves, and a bar would be drawn over them; only the
    # table comes in blocks and makes room for itself.
    quiet = stream.isatty() and format_ is not Format.table
    try:
        with contextlib.closing(results), _progress(results, total, quiet) as shown:
            writer.begin()
            for result in shown:
                if result.error is not None:
                    failed = True
                    _say(result.error)
                elif draw_map is not None:
                    draw_map(result.path)
                if report is not None:
                    report.add(result)
                writer.write(result)
        writer.end()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        _discard_stdout()
    if report is not None and page is not None:
        report.write(page)
    return SOME_FAILED if failed else SCORED


def _pick_format(format_: Format | None, output: Path | None) -> Format:
    if format_ is not None:
        return format_
    if output is None:
        return Format.table if sys.stdout is not None and sys.stdout.isatty() else Format.csv
    try:
        return _SUFFIXES[output.suffix.lower()]
    except KeyError:
        known = ", ".join(suffix for suffix in _SUFFIXES if suffix)
        raise UsageError(
            f"{output}: no format goes with {output.suffix}; add --format, or use one of {known}"
        ) from None


@contextlib.contextmanager
def _open_output(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        if sys.stdout is None:
            raise OutputError("standard output is closed; open it or use --output FILE")
        try:
            yield sys.stdout.buffer
        except OSError as error:
            _discard_stdout()
            raise OutputError(
                f"standard output cannot be written ({error.strerror}); free some space or use --output FILE"
            ) from error
        return
    from glia_runtime.atomic import atomic_write

    with atomic_write(output) as temporary, temporary.open("wb") as stream:
        yield stream


def _open_report(report: Path | None) -> contextlib.AbstractContextManager[Path | None]:
    if report is None:
        return contextlib.nullcontext()
    from glia_runtime.atomic import atomic_write

    return atomic_write(report)


def _paths(images: Iterable[str]) -> Iterator[str]:
    for image in images:
        if image != "-":
            yield image
            continue
        if sys.stdin is None:
            raise UsageError("standard input is closed, so - names no paths")
        for line in sys.stdin.buffer:
            if path := line.rstrip(b"\r\n"):
                yield os.fsdecode(path)


@contextlib.contextmanager
def _progress(results: Iterator["Result"], total: int | None, quiet: bool) -> Iterator[Iterator["Result"]]:
    """A progress bar on standard error when that is a terminal, else nothing."""
    if quiet or sys.stderr is None or not sys.stderr.isatty() or (total is not None and total < 2):
        yield results
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield iter(progress.track(results, total=total))


def _say(line: str) -> None:
    say("glia-infer", line)


def _discard_stdout() -> None:
    """Point descriptor 1 at nothing, so that Python's own flush at exit does not fail on it again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
