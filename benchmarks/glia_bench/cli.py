"""``glia-bench``: how fast, how right, and against what, with every sample kept."""

from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from glia_runtime.command import errors_on_one_line, print_version, say
from glia_runtime.errors import MissingExtraError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Measure artifacts, the operator and peers; keep every sample; compare runs. Results go to standard output "
    "as a table, with --output to a file that `compare` reads; what goes on and what is wrong goes to standard error. "
    "Exit status: 0 measured, 1 a bound was missed (parity, compare --check), 2 nothing could start.",
)

Models = Annotated[
    list[str],
    typer.Option("--model", help="Artifact, checkpoint (runs in eager PyTorch) or 'bundled'. May be repeated."),
]
Device = Annotated[str, typer.Option(help="auto or cpu.")]
Images = Annotated[
    Path | None, typer.Option(help="Folder of photographs, 64 at most. Default: five built-in pictures.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Under a minute, for CI: few samples, not to be quoted.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the result with every sample, as JSON.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write one row for every sample.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with tables and plots, self-contained.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Scenario(str, Enum):
    """MLPerf's, by LoadGen's names."""

    single_stream = "SingleStream"
    multi_stream = "MultiStream"
    server = "Server"
    offline = "Offline"


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def latency(
    model: Models = ["bundled"],  # noqa: B006 -- typer copies it
    images: Images = None,
    scenario: Annotated[
        list[Scenario] | None, typer.Option(help="May be repeated. Default: all four, in this order.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Server, Offline: most pictures in one run of the graph.")] = 8,
    target_ms: Annotated[
        float | None,
        typer.Option(help="Server: bound on the 99th percentile. Default: three times SingleStream's median."),
    ] = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """MLPerf's scenarios through the real LoadGen.

    SingleStream is measured three times: host (decode, make views), engine (the graph on inputs in memory), file (all
    of it). The others load the engine: MultiStream with 8 pictures a query, Server with Poisson arrivals at the highest
    rate whose 99th percentile meets a bound, Offline with everything at once. LoadGen times every query; percentiles
    are its own.

    \b
    glia-bench latency --model bundled --quick
    glia-bench latency --model model.onnx --model model.ts --images photos -o latency.json
    glia-bench latency --model model.onnx --scenario Server --target-ms 50
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with errors_on_one_line("glia-bench", debug):
        _needs("mlperf_loadgen", "mlcommons-loadgen")
        from glia_bench.delivery import deliver
        from glia_bench.latency import FULL, QUICK, SCENARIOS, measure_latency
        from glia_bench.measure import photographs, progress
        from glia_bench.recording import Recorder
        from glia_bench.subjects import open_subjects

        wanted = [item.value for item in scenario] if scenario else list(SCENARIOS)
        subjects, refusals = open_subjects(model, device)
        with photographs(images, _say) as paths:
            settings = {
                "models": model,
                "images": _pictures(images, paths),
                "scenarios": wanted,
                "max_batch": max_batch,
                "target_ms": target_ms,
                "quick": quick,
            }
            recorder = Recorder("latency", settings, _say)
            for refusal in refusals:
                recorder.note(refusal)
            with progress(len(subjects) * len(wanted)) as step:
                for subject in subjects:
                    measure_latency(
                        recorder,
                        subject,
                        paths,
                        [name for name in SCENARIOS if name in wanted],
                        QUICK if quick else FULL,
                        max_batch=max_batch,
                        target_seconds=target_ms and target_ms / 1000,
                        step=step,
                    )
        deliver(recorder.finish(), output, csv, html)


@app.command()
def parity(
    models: Annotated[
        list[str], typer.Argument(metavar="MODELS", help="Artifacts and checkpoints to compare with the reference.")
    ],
    reference: Annotated[Path, typer.Option(help="Checkpoint that is run in PyTorch fp32.")],
    images: Annotated[Path, typer.Option(help="Folder of photographs, 200 at most.")],
    max_difference: Annotated[
        float | None,
        typer.Option(
            help="Bound on a score's difference, as a part of the scale's range. Default: export's for the precision, "
            "1e-4 in fp32."
        ),
    ] = None,
    min_srcc: Annotated[
        float | None, typer.Option(help="Bound on SRCC. Default: 0.999 where the scores spread enough to be ranked.")
    ] = None,
    device: Device = "auto",
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """Compare scores with the PyTorch fp32 model's, picture by picture.

    Largest and mean |difference|, SRCC, PLCC, KRCC, the worst pictures by name; with --html a scatter plot. Exit status
    1 when a bound is missed, or a model that was named cannot run here.

    \b
    glia-bench parity --reference model.pt model.onnx model16.onnx model.ts --images photos
    glia-bench parity --reference model.pt model.onnx --images photos --max-difference 0.01 --html parity.html
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with errors_on_one_line("glia-bench", debug):
        _needs("torch", "torch")
        from glia_bench.delivery import deliver
        from glia_bench.measure import progress
        from glia_bench.parity import measure_parity
        from glia_bench.recording import Recorder
        from glia_bench.subjects import open_subjects

        subjects, refusals = open_subjects(models, device)
        settings = {
            "reference": reference.name,
            "models": models,
            "images": images.name,
            "max_difference": max_difference,
            "min_srcc": min_srcc,
        }
        recorder = Recorder("parity", settings, _say)
        for refusal in refusals:
            recorder.note(refusal)
        with progress(1 + len(subjects)) as step:
            met = measure_parity(
                recorder,
                reference,
                subjects,
                images,
                max_difference=max_difference,
                min_srcc=min_srcc,
                say=recorder.note,
                step=step,
            )
        run = recorder.finish()
        deliver(run, output, csv, html)
        for item in run.measurements:
            if not item.facts["passed"]:
                worst = ", ".join(f"{row['picture']} {row['difference']:.3g}" for row in item.facts["worst"])
                _say(f"{item.subject}: misses its bound; worst pictures: {worst}")
        if refusals or not met:
            raise typer.Exit(1)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="The result to compare with.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The result to judge.")],
    margin: Annotated[
        float, typer.Option(min=0.0, help="Ratios this close to 1 are called the same; runs differ by as much.")
    ] = 0.02,
    check: Annotated[bool, typer.Option("--check", help="Exit status 1 when B is worse anywhere.")] = False,
    debug: Debug = False,
) -> None:
    """Ratios of two results, with 95 % bootstrap intervals of the medians' ratio.

    B is called better or worse only where the whole interval lies beyond the margin, the same where it lies within, and
    undecided otherwise. Machines, settings and noise that speak against comparing are named first.

    \b
    glia-bench compare before.json after.json
    glia-bench compare main.json branch.json --check
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with errors_on_one_line("glia-bench", debug):
        _needs("scipy", "scipy")
        from glia_bench.compare import compare_runs
        from glia_bench.results import read_run
        from glia_bench.tables import comparison_table, plain

        comparisons, objections = compare_runs(read_run(before), read_run(after), margin)
        for objection in objections:
            _say(f"careful: {objection}")
        typer.echo(plain(comparison_table(comparisons)))
        worse = [item for item in comparisons if item.verdict == "worse"]
        if check and worse:
            _say(f"B is worse in {len(worse)} of {len(comparisons)} quantities")
            raise typer.Exit(1)


@app.command()
def cold_start(
    quick: Quick = False, output: Output = None, csv: Csv = None, html: Html = None, debug: Debug = False
) -> None:
    """One picture from a cold start: the whole of glia-infer, against importing ONNX Runtime alone.

    \b
    glia-bench cold-start
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with errors_on_one_line("glia-bench", debug):
        from glia_bench.cold_start import measure_cold_start
        from glia_bench.delivery import deliver
        from glia_bench.measure import photographs
        from glia_bench.recording import Recorder

        recorder = Recorder("cold-start", {"quick": quick}, _say)
        with photographs(None, _say, most=1) as (picture,):
            measure_cold_start(recorder, picture, repeats=3 if quick else 15)
        deliver(recorder.finish(), output, csv, html)


def _pictures(folder: Path | None, paths: list[Path]) -> str:
    return f"{len(paths)} of {folder.name}" if folder is not None else f"{len(paths)} built-in"


def _needs(module: str, package: str) -> None:
    """Say which extra to install before anything is measured."""
    try:
        import_module(module)
    except ImportError as error:
        raise MissingExtraError.for_package(package, "bench", "this command") from error


def _say(line: str) -> None:
    say("glia-bench", line)


if __name__ == "__main__":
    app()
