"""``glia-bench``: how fast, how right, and against what, with every sample kept."""

from enum import Enum
from typing import Annotated

import typer

from glia_bench.comparisons_cli import compare, parity, peers, training
from glia_bench.options import (
    Backends,
    Csv,
    Device,
    Html,
    Images,
    Models,
    Output,
    Quick,
    measuring,
    pictures,
    recorded,
    say,
)
from glia_runtime.command import Command, Debug, Group, Version

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Measure artifacts, the operator and peers; keep every sample; compare runs. Results go to standard output "
    "as a table, with --output to a file that `compare` reads; what goes on and what is wrong goes to standard error. "
    "Exit status: 0 measured, 1 a bound was missed (parity, compare --check), 2 nothing could start.",
)


class Scenario(str, Enum):
    """MLPerf's, by LoadGen's names."""

    single_stream = "SingleStream"
    multi_stream = "MultiStream"
    server = "Server"
    offline = "Offline"


@app.callback()
def _main(
    version: Version = False,
) -> None:
    pass


@app.command(cls=Command)
def latency(
    model: Models = None,
    images: Images = None,
    scenario: Annotated[
        list[Scenario] | None, typer.Option(help="May be repeated. Default: all four, in this order.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Server, Offline: most pictures in one run of the graph.")] = 8,
    target_ms: Annotated[
        float | None,
        typer.Option(help="Server: bound on the 99th percentile. Default: four times SingleStream's median."),
    ] = None,
    backend: Backends = None,
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
    with measuring(debug, ("mlperf_loadgen", "mlcommons-loadgen")):
        from glia_bench.latency import FULL, QUICK, SCENARIOS, measure_latency
        from glia_bench.measure import photographs, progress
        from glia_bench.subjects import expand, open_subjects

        wanted = [name for name in SCENARIOS if scenario is None or Scenario(name) in scenario]
        specs = expand(model, backend, device)
        subjects, refusals = open_subjects(specs)
        with photographs(images, say) as paths:
            settings = {
                "models": [str(spec) for spec in specs],
                "images": pictures(images, paths),
                "scenarios": wanted,
                "max_batch": max_batch,
                "target_ms": target_ms,
                "quick": quick,
            }
            with (
                recorded("latency", settings, output, csv, html, refusals) as recorder,
                progress(len(subjects) * len(wanted)) as step,
            ):
                for subject in subjects:
                    measure_latency(
                        recorder,
                        subject,
                        paths,
                        wanted,
                        QUICK if quick else FULL,
                        max_batch=max_batch,
                        target_seconds=target_ms and target_ms / 1000,
                        step=step,
                    )


@app.command(cls=Command)
def throughput(
    model: Models = None,
    images: Images = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Pictures in a run of the graph; may be repeated. Default: 1 to 32.")
    ] = None,
    cores: Annotated[
        list[int] | None, typer.Option(min=1, help="Cores to run on; may be repeated. Default: 1, 2, 4, ... all.")
    ] = None,
    backend: Backends = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """Pictures a second over batch size, cores and graph input, with peak memory and energy.

    The graph alone, on inputs in memory. Every combination runs in a process of its own that may use so many cores:
    its peak memory is that of the combination, libraries included. Energy is shown where a driver tells it. Give the
    same model exported with --input image and with --input views to compare graph inputs.

    \b
    glia-bench throughput --quick
    glia-bench throughput --model image.onnx --model views.onnx --batch 1 --batch 8 --html throughput.html
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with measuring(debug, ("torch", "torch")):
        from glia_bench.measure import photographs, progress
        from glia_bench.roofline import measure_ceilings
        from glia_bench.subjects import expand
        from glia_bench.throughput import FULL, QUICK, measure_throughput
        from glia_runtime.backends.base import usable_cpus

        specs = expand(model, backend, device)
        here = usable_cpus()
        batches = batch or ([1, 8] if quick else [1, 2, 4, 8, 16, 32])
        counts = sorted({min(here, count) for count in cores or ([here] if quick else [1, 2, 4, 8, 16, here])})
        with photographs(images, say, most=max(batches)) as paths:
            settings = {
                "models": [str(spec) for spec in specs],
                "images": pictures(images, paths),
                "batches": batches,
                "cores": counts,
                "quick": quick,
            }
            with (
                recorded("throughput", settings, output, csv, html) as recorder,
                progress(len(specs) * len(batches) * len(counts)) as step,
            ):
                ceilings = measure_ceilings(recorder, quick=quick)
                effort = QUICK if quick else FULL
                measure_throughput(recorder, specs, paths, batches, counts, effort, ceilings, step)


@app.command(cls=Command)
def op(quick: Quick = False, output: Output = None, csv: Csv = None, html: Html = None, debug: Debug = False) -> None:
    """Every form of fragment sampling, and of the view pair, against its floor.

    The floor is a copy of the bytes that have to be read and written; the last column is the floor's part of the time.

    \b
    glia-bench op --quick
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with measuring(debug, ("torch", "torch"), ("onnx", "onnx")):
        from glia_bench.measure import progress
        from glia_bench.op import measure_operator

        with recorded("op", {"quick": quick}, output, csv, html) as recorder, progress() as step:
            measure_operator(recorder, quick=quick, step=step)


@app.command(cls=Command)
def stages(
    model: Models = None,
    images: Images = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in one run of the graph.")] = 8,
    backend: Backends = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """Where the time of a file goes: read, decode, orient, views, queue, inference, output.

    Stages are timed one by one; the queue is read off a real run of the pipeline, where a picture waits for a free core
    and for its batch. With --html as one picture.

    \b
    glia-bench stages --images photos --html stages.html
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with measuring(debug):
        from glia_bench.measure import MOST_PHOTOGRAPHS, photographs, progress
        from glia_bench.stages import measure_stages
        from glia_bench.subjects import expand, open_subjects

        specs = expand(model, backend, device)
        subjects, refusals = open_subjects(specs)
        with photographs(images, say, most=8 if quick else MOST_PHOTOGRAPHS) as paths:
            settings = {
                "models": [str(spec) for spec in specs],
                "images": pictures(images, paths),
                "batch_size": batch_size,
                "quick": quick,
            }
            with recorded("stages", settings, output, csv, html, refusals) as recorder, progress() as step:
                for subject in subjects:
                    measure_stages(recorder, subject, paths, batch_size=batch_size, step=step)


@app.command(cls=Command)
def roofline(
    model: Models = None,
    images: Images = None,
    backend: Backends = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """The machine's matrix peak and copy bandwidth, and how near each model comes to them.

    Both are measured here and now, by NumPy, PyTorch and OpenVINO where installed; the best is the limit. A model's
    operations are counted by PyTorch.

    \b
    glia-bench roofline --model model.onnx --model model.pt --html roofline.html
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with measuring(debug, ("torch", "torch")):
        from glia_bench.measure import photographs, progress
        from glia_bench.roofline import measure_ceilings, measure_roofline
        from glia_bench.subjects import expand, open_subjects
        from glia_bench.throughput import batch_of

        specs = expand(model, backend, device)
        subjects, refusals = open_subjects(specs)
        with photographs(images, say, most=8) as paths:
            settings = {"models": [str(spec) for spec in specs], "images": pictures(images, paths), "quick": quick}
            with recorded("roofline", settings, output, csv, html, refusals) as recorder, progress() as step:
                step("this machine")
                ceilings = measure_ceilings(recorder, quick=quick)
                for subject in subjects:
                    for batch in (1, 8):
                        step(f"{subject.name}: batch {batch}")
                        inputs = batch_of(subject, paths, batch)
                        measure_roofline(recorder, subject, inputs, ceilings, quick=quick)


@app.command(cls=Command)
def cold_start(
    quick: Quick = False, output: Output = None, csv: Csv = None, html: Html = None, debug: Debug = False
) -> None:
    """One picture from a cold start: the whole of glia-infer, against importing ONNX Runtime alone.

    \b
    glia-bench cold-start
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with measuring(debug):
        from glia_bench.cold_start import measure_cold_start
        from glia_bench.measure import photographs

        with (
            recorded("cold-start", {"quick": quick}, output, csv, html) as recorder,
            photographs(None, say, most=1) as (picture,),
        ):
            measure_cold_start(recorder, picture, repeats=3 if quick else 15)


app.command(cls=Command)(parity)
app.command(cls=Command)(peers)
app.command(cls=Command)(compare)
app.command(cls=Command)(training)


if __name__ == "__main__":
    app()
