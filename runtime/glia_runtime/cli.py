"""``glia-infer``: score pictures from the command line."""

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glia_runtime.command import Command, Debug, Version, errors_on_one_line, given_options, say
from glia_runtime.errors import UsageError

if TYPE_CHECKING:
    from glia_runtime.output import Output
    from glia_runtime.pipeline import Result
    from glia_runtime.report import Report
    from glia_runtime.scorer import Scorer

SCORED, SOME_FAILED = 0, 1  # the others come from errors_on_one_line

# rich_markup_mode and pretty exceptions off: they import rich, some 100 ms, to print help and bugs in colour.
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Format(str, Enum):
    """Output formats."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    table = "table"


class Sort(str, Enum):
    """Orders by quality."""

    worst = "worst"
    best = "best"


_SUFFIXES = {
    "": Format.csv,
    ".csv": Format.csv,
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".parquet": Format.parquet,
    ".txt": Format.table,
}


@app.command(cls=Command)
def infer(
    context: typer.Context,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES",
            help="Pictures, folders of pictures, patterns; - reads pictures' paths from stdin, one a line.",
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into the folders of a folder too.")
    ] = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Paths on stdin end with a zero byte, as find -print0 writes them.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Artifact made by glia-export. Default: $GLIA_MODEL, else the bundled model."
        ),
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by OUTPUT's suffix; else table on a terminal, csv if piped."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OUTPUT", help="Write scores to this file, which appears when it is whole."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with OUTPUT.part, which keeps the rows of a run that was stopped or killed."
        ),
    ] = False,
    sort: Annotated[
        Sort | None, typer.Option(help="Rows by quality, worst or best first, once all are scored.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the N worst pictures, or with --sort best the N best.")
    ] = None,
    below: Annotated[
        float | None, typer.Option(metavar="T", help="Only pictures of a quality (0 worst, 100 best) below T.")
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first picture that fails; --resume tries it again.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE.html", help="Also write a page of all pictures scored: thumbnails, worst first."
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="FOLDER",
            help="Also draw where the model looked, a JPEG a picture; for models exported with --maps.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pictures handed over at once; over the artifact's limit they run in parts. Default: 8."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that decode pictures and make their views. Default: one a CPU core."),
    ] = None,
    draft: Annotated[
        bool,
        typer.Option(
            "--draft",
            help="Average large pictures over blocks before they are resized: the views of 12 megapixels take 9 "
            "instead of 54 ms, and scores differ a little (docs/runtime.md). For models exported with --input views.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")] = "auto",
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto: the fastest here whose parity row in the manifest passes. Or, for .onnx files: "
            "onnxruntime, openvino, openvino:bf16.",
        ),
    ] = "auto",
    self_test: Annotated[
        bool, typer.Option("--self-test", help="First check the artifact on this machine by its probe.")
    ] = False,
    info: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Check an artifact's hash, show its manifest, and exit.")
    ] = None,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Score pictures with an exported model: one row each, on standard output.

    Columns: path, score (on the model's own scale), quality (the same from 0 to 100, higher is better), width, height,
    error. Rows come in the order of the pictures; those of a folder are sorted by name.

    Errors go to standard error, one line each. Exit status: 0 all scored, 1 some pictures failed, 2 nothing
    could start or the output could not be written, 130 interrupted, 141 the reader of standard output left.

    \b
    glia-infer photos --recursive                          a folder, and the folders in it
    glia-infer photos --top 10                             its ten worst pictures
    glia-infer photos --report report.html                 a page to look through
    find photos -name '*.jpg' -print0 | glia-infer -0 -    whatever another program lists
    glia-infer photos --model model.onnx                   by a model of your own
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    failures = _Failures(fail_fast)
    with errors_on_one_line("glia-infer", debug):
        from glia_runtime.journal import Way
        from glia_runtime.output import check_complete, is_complete, open_output
        from glia_runtime.selection import Selection

        if info is not None and images:
            raise UsageError("--info takes no pictures; leave them out, or name the model with --model")
        if info is not None:
            if idle := _given(context, but=("info", "debug")):
                raise UsageError(f"--info shows a manifest and nothing else: {idle} would do nothing; leave that out")
            _show_info(info)
        elif resume and report is not None:
            raise UsageError("--report shows thumbnails, which rows of an earlier run lack; leave out --resume")
        elif (report or maps) and not images:
            raise UsageError("--report and --maps show pictures, and none were given; name some files")
        elif null and "-" not in (images or ()):
            raise UsageError("--null is for the list that - reads from stdin; name - among the pictures")
        elif images:
            selection = Selection(sort.value if sort else None, top, below)
            written_as = _pick_format(format_, output).value
            if resume and output is not None and is_complete(output):
                if maps is not None:
                    raise UsageError(
                        f"{output}: is complete, so that --maps has nothing to draw; leave out --resume to score all "
                        "anew, or leave out --maps"
                    )
                _open(model, device, backend, self_test, debug).stream((), draft=draft)  # what cannot work, says so
                named = filter(None, _named(images, recursive, null, failures))
                failed, unnamed = check_complete(output, written_as, selection, named)
                failures.number += failed
                said = f" (pictures that failed: {failed:,})" if failed else ""
                said += " and not sorted again" if sort else ""
                say("glia-infer", f"{output}: is complete{said}; without --resume it is made anew")
                _say_unnamed(unnamed)
                raise typer.Exit(SOME_FAILED if failures.number else SCORED)
            tell = partial(say, "glia-infer")
            with _open_report(report) as page, open_output(output, written_as, selection, resume, tell) as target:
                scorer = _open(model, device, backend, self_test, debug)
                target.begin(scorer.manifest, Way(scorer.backend, scorer.device, draft))
                stream = partial(scorer.stream, batch_size=batch_size, workers=workers, draft=draft)
                _score(scorer, stream, images, recursive, null, target, page, maps, failures)
        elif self_test:
            if idle := _given(context, but=("self_test", "model", "device", "backend", "debug")):
                raise UsageError(f"no pictures given, so that {idle} would do nothing; name some, or leave that out")
            _open(model, device, backend, self_test, debug)
        else:
            raise UsageError("no pictures given; name some files, or - to read paths from stdin (see --help)")
    raise typer.Exit(SOME_FAILED if failures.number else SCORED)


def _given(context: typer.Context, but: tuple[str, ...]) -> str:
    """The options on the command line as they are written in full, `but` for some parameters."""
    given = given_options(context).keys() - set(but)
    return ", ".join(max(found.opts, key=len) for found in context.command.params if found.name in given)


class _Failures:
    """Says what failed on standard error, and counts it."""

    def __init__(self, fail_fast: bool) -> None:
        self.number = 0
        self._fail_fast = fail_fast

    def add(self, line: str) -> None:
        """Say `line`; with --fail-fast, end the run."""
        self.number += 1
        say("glia-infer", line)
        if self._fail_fast:
            raise typer.Exit(SOME_FAILED)


def _open(model: str | None, device: str, backend: str, self_test: bool, debug: bool) -> "Scorer":
    from glia_runtime.scorer import Scorer

    if not (model or os.environ.get("GLIA_MODEL")):
        say("glia-infer", "using the bundled demonstration model (name another with --model or $GLIA_MODEL)")
    scorer = Scorer.open(model, device, backend)
    if backend == "auto" or debug:
        say("glia-infer", scorer.choice)
    if self_test:
        difference = scorer.self_test()
        say("glia-infer", f"self-test passed: largest difference {difference:.3g}, tolerance {scorer.tolerance:.3g}")
    return scorer


def _open_report(path: Path | None) -> contextlib.AbstractContextManager["Report | None"]:
    if path is None:
        return contextlib.nullcontext()
    from glia_runtime.report import open_report

    return open_report(path)


def _score(
    scorer: "Scorer",
    stream: Callable[..., Generator["Result", None, None]],
    images: list[str],
    recursive: bool,
    null: bool,
    target: "Output",
    page: "Report | None",
    maps: Path | None,
    failures: _Failures,
) -> None:
    from glia_runtime.listing import STDIN, find_pictures
    from glia_runtime.progress import progress
    from glia_runtime.thumbnails import THUMBNAIL_SIDE

    if target.done or target.again:
        again = f", trying {target.again:,} again that failed" if target.again else ""
        say("glia-infer", f"going on after {target.done:,} pictures{again}")

    def checked(results: Iterator["Result"]) -> Iterator["Result"]:
        for result in results:
            if result.error is not None:
                failures.add(result.error)
            yield result

    def everything() -> Iterator[str]:
        return find_pictures(images, recursive, complain=lambda line: None)

    paths = target.without_done(_named(images, recursive, null, failures))
    thumbnails = None if page is None else THUMBNAIL_SIDE
    with contextlib.closing(stream(paths, thumbnails=thumbnails)) as scored:
        results = checked(scored)
        if maps is not None:
            from glia_runtime.maps import MapWriter

            results = MapWriter(scorer, maps).draw(results, complain=failures.add)
        if page is not None:
            page.begin(scorer.manifest, scorer.artifact)
            results = page.watch(results)
        if target.scrolls:
            target.take(results)
            return
        with progress(results, target.done, None if STDIN in images else everything) as shown:
            target.take(shown)
    _say_unnamed(target.unnamed)
    failures.number += target.unnamed_failed


def _named(images: list[str], recursive: bool, null: bool, failures: _Failures) -> Iterator[str | None]:
    """Yield the paths of all pictures that `images` stand for, and None where standard input pauses."""
    from glia_runtime.listing import STDIN, find_pictures, paths_from_stdin

    for name in images:
        yield from paths_from_stdin(null) if name == STDIN else find_pictures([name], recursive, failures.add)


def _say_unnamed(number: int) -> None:
    if number:
        say("glia-infer", f"{number:,} kept rows are of pictures that this run does not name")


def _show_info(artifact: Path) -> None:
    from glia_runtime.info import info_text
    from glia_runtime.output import stdout

    with stdout() as stream:
        stream.write(info_text(artifact, stream.isatty()).encode("utf-8", "surrogateescape"))
        stream.flush()


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
