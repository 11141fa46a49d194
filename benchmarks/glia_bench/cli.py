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
)
from glia_runtime.command import Command, Debug, Group, Version
from glia_runtime.errors import UsageError

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Measure artifacts, the operator and peers; keep every sample; compare runs. Results go to standard output "
    "as a table, with --output to a file that `compare` reads; what goes on and what is wrong goes to standard error. "
    "Exit status: 0 measured, 1 a bound was missed (parity, compare --check), 2 nothing could start, or a part failed; "
    "what was measured until then, or until Ctrl-C (130), is printed and written.",
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
        typer.Option(min=0.001, help="Server: bound on the 99th percentile. Default: 4 times SingleStream's median."),
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
    are its own, and left out where they are of too few queries for it: under 64 for p90, under 662 for p99. The engine
    stands beside what this machine allows at most, as by glia-bench roofline.

    Server's rate is found by bisection on short runs. Without --quick LoadGen then has to call it VALID on 700 queries:
    up to five rates are tried for that, each 15 % below the one before, so that a rate is exact to no more than this.

    \b
    glia-bench latency --model bundled --quick
    glia-bench latency --model model.onnx --model model.ts --images photos -o latency.json
    glia-bench latency --model model.onnx --scenario Server --target-ms 50
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    files = (output, csv, html)
    settings = {"max_batch": max_batch, "target_ms": target_ms, "quick": quick}
    with measuring("latency", debug, files, ("mlperf_loadgen", "mlcommons-loadgen"), **settings) as session:
        from glia_bench.latency import FULL, QUICK, SCENARIOS, measure_latency
        from glia_bench.measure import MOST_PHOTOGRAPHS
        from glia_bench.roofline import measure_ceilings

        wanted = [name for name in SCENARIOS if scenario is None or Scenario(name) in scenario]
        session.recorder.settings["scenarios"] = wanted
        subjects = session.open(session.specs(model, backend, device))
        paths = session.photographs(images, 8 if quick else MOST_PHOTOGRAPHS)
        step = session.progress(1 + len(subjects) * len(wanted))
        step("this machine")
        ceilings = measure_ceilings(session.recorder, subjects.values(), quick=quick)
        for subject in subjects.values():
            with session.recorder.part(subject.name):
                measure_latency(
                    session.recorder,
                    subject,
                    paths,
                    wanted,
                    QUICK if quick else FULL,
                    max_batch=max_batch,
                    target_seconds=None if target_ms is None else target_ms / 1000,
                    ceilings=ceilings,
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
    with measuring("throughput", debug, (output, csv, html), ("torch", "torch"), quick=quick) as session:
        from glia_bench.roofline import measure_ceilings
        from glia_bench.throughput import FULL, QUICK, measure_throughput
        from glia_runtime.backends.base import usable_cpus

        here = usable_cpus()
        batches = batch or ([1, 8] if quick else [1, 2, 4, 8, 16, 32])
        if cores and max(cores) > here:
            raise UsageError(f"--cores {max(cores)}: this process may use {here}; name no more than that")
        counts = sorted({min(here, count) for count in cores or ([here] if quick else [1, 2, 4, 8, 16, here])})
        session.recorder.settings.update(batches=batches, cores=counts)
        subjects = session.open(session.specs(model, backend, device))
        paths = session.photographs(images, max(batches))
        step = session.progress(1 + len(subjects) * len(batches) * len(counts))
        step("this machine")
        ceilings = measure_ceilings(session.recorder, subjects.values(), quick=quick)
        effort = QUICK if quick else FULL
        measure_throughput(session.recorder, subjects, paths, batches, counts, effort, ceilings, step)


@app.command(cls=Command)
def stream(
    model: Models = None,
    images: Images = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures in a round, the files over and over. Default: 64, with --quick 16."),
    ] = None,
    megapixels: Annotated[float | None, typer.Option(min=0.1, help="Resize every picture to this size.")] = None,
    backend: Backends = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """Files to scores, against the graph alone and against decoding alone.

    The same files go through each stage by itself and through all of the pipeline, in turn; Pillow alone stands beside
    the runtime's decoding, and draft, which scales while it decodes, beside the exact views. The ratios say how near
    the whole comes to its slowest stage, and the graph alone stands beside what this machine allows at most, as by
    glia-bench roofline.

    \b
    glia-bench stream --quick
    glia-bench stream --model model.onnx --images photos --megapixels 12 -o stream.json
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with measuring("stream", debug, (output, csv, html), megapixels=megapixels, quick=quick) as session:
        from itertools import cycle, islice

        from glia_bench.roofline import measure_ceilings
        from glia_bench.stream import measure_stream, resized

        pictures = count or (16 if quick else 64)
        session.recorder.settings["count"] = pictures
        subjects = session.open(session.specs(model, backend, device))
        step = session.progress(2 + len(subjects))
        step("pictures")
        files = session.stack.enter_context(resized(session.photographs(images, pictures), megapixels))
        step("this machine")
        ceilings = measure_ceilings(session.recorder, subjects.values(), quick=quick)
        for subject in subjects.values():
            step(subject.name)
            paths = list(islice(cycle(files), pictures))
            with session.recorder.part(subject.name):
                measure_stream(session.recorder, subject, paths, repeats=3 if quick else 5, ceilings=ceilings)


@app.command(cls=Command)
def memory(
    model: Models = None,
    few: Annotated[
        int | None, typer.Option(min=1, help="Pictures of the short stream. Default: 2000, with --quick 100.")
    ] = None,
    many: Annotated[
        int | None, typer.Option(min=1, help="Pictures of the long stream. Default: ten times as many.")
    ] = None,
    backend: Backends = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """Whether memory grows with the number of pictures, and what a stream leaves open.

    Peak memory of a long stream against that of a short one, each in a process of its own, over small pictures some of
    which are damaged; threads and handles that are left.

    \b
    glia-bench memory --quick
    glia-bench memory --model model.onnx --few 2000 --many 20000 -o memory.json
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    short = few or (100 if quick else 2000)
    long = many or 10 * short
    with measuring("memory", debug, (output, csv, html), few=short, many=long, quick=quick) as session:
        from glia_bench.memory import measure_memory

        if long <= short:
            raise UsageError(f"--many {long} is not more than --few {short}; give a larger --many")

        subjects = session.open(session.specs(model, backend, device))
        measure_memory(session.recorder, subjects, short, long, session.progress(2 * len(subjects)))


@app.command(cls=Command)
def op(
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """The forms of fragment sampling, and of the view pair, each against its own floor.

    The floor is a copy of the bytes that have to be read and written; the last column is the floor's part of the time.
    On the CPU the forms work on one picture, on a GPU on 64 of 1 and of 12 megapixels at once, where no floor is below
    the launch of a kernel.

    \b
    glia-bench op --quick
    glia-bench op --device cuda -o op.json
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    packages = (("torch", "torch"), ("onnx", "onnx"))
    with measuring("op", debug, (output, csv, html), *packages, device=device, quick=quick) as session:
        from glia_bench.op import measure_operator

        measure_operator(session.recorder, device, quick=quick, step=session.progress())


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
    with measuring("stages", debug, (output, csv, html), batch_size=batch_size, quick=quick) as session:
        from glia_bench.measure import MOST_PHOTOGRAPHS
        from glia_bench.stages import measure_stages

        subjects = session.open(session.specs(model, backend, device))
        paths = session.photographs(images, 8 if quick else MOST_PHOTOGRAPHS)
        step = session.progress()
        for subject in subjects.values():
            with session.recorder.part(subject.name):
                measure_stages(session.recorder, subject, paths, batch_size=batch_size, step=step)


@app.command(cls=Command)
def roofline(
    model: Models = None,
    images: Images = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Pictures in a run of the graph; may be repeated. Default: 1 and 8.")
    ] = None,
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
    operations are counted by PyTorch. The models run in turn; with a checkpoint among them, each one that was exported
    from it says how many times as fast as eager PyTorch fp32 it is.

    \b
    glia-bench roofline --model model.onnx --model model.pt --backend all --html roofline.html
    glia-bench roofline --device cuda --batch 1 --batch 64 --model model.pt --model model.ts --model model.pt2
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    batches = batch or [1, 8]
    packages = (("torch", "torch"), ("scipy", "scipy"))
    with measuring("roofline", debug, (output, csv, html), *packages, batches=batches, quick=quick) as session:
        from glia_bench.roofline import measure_ceilings, measure_roofline

        subjects = session.open(session.specs(model, backend, device)).values()
        paths = session.photographs(images, 8)
        step = session.progress(1 + len(batches))
        step("this machine")
        ceilings = measure_ceilings(session.recorder, subjects, quick=quick)
        measure_roofline(session.recorder, subjects, paths, batches, ceilings, quick=quick, step=step)


@app.command(cls=Command)
def cold_start(
    quick: Quick = False, output: Output = None, csv: Csv = None, html: Html = None, debug: Debug = False
) -> None:
    """One picture from a cold start: the whole of glia-infer, against importing ONNX Runtime alone.

    \b
    glia-bench cold-start
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with measuring("cold-start", debug, (output, csv, html), quick=quick) as session:
        from glia_bench.cold_start import measure_cold_start

        (picture,) = session.photographs(None, 1)
        measure_cold_start(session.recorder, picture, repeats=3 if quick else 15)


app.command(cls=Command)(parity)
app.command(cls=Command)(peers)
app.command(cls=Command)(compare)
app.command(cls=Command)(training)


if __name__ == "__main__":
    app()
