"""``glia-export``: a checkpoint becomes a file that a runtime can open, verified on the spot."""

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glia_runtime.command import Command, Debug, Version, errors_on_one_line, say
from glia_runtime.errors import UsageError

if TYPE_CHECKING:
    from glia_runtime.manifest import Manifest

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class To(str, Enum):
    """Targets; `glia-export --list` says which can be made here."""

    onnx = "onnx"
    torchscript = "torchscript"
    trt = "trt"
    trt_rtx = "trt-rtx"
    pt2 = "pt2"


class Precision(str, Enum):
    """Weights and arithmetic of the network inside the artifact."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    fp16_weights = "fp16-weights"


class Device(str, Enum):
    """What a package is compiled for."""

    cpu = "cpu"
    cuda = "cuda"


class Input(str, Enum):
    """What the artifact is fed with."""

    image = "image"
    views = "views"


@app.command(cls=Command)
def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="Checkpoint made by glia-train, .pt or .safetensors."),
    ] = None,
    to: Annotated[To | None, typer.Option(help="Target; see --list.")] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp16-weights: fp16 weights in the file, fp32 arithmetic: half the size, full CPU speed. "
            "fp16: half the size, and fp16 arithmetic for GPUs; on CPUs it runs, but slower than fp32. "
            "bf16: the same for engines, with fp32's range and an eighth of fp16's accuracy."
        ),
    ] = Precision.fp32,
    input_: Annotated[
        Input,
        typer.Option(
            "--input",
            help="image: raw pictures of any size, no preprocessing code around the artifact. "
            "views: what the model is shown (GLIANet: two views of 224x224), for hosts that make that while decoding.",
        ),
    ] = Input.image,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUTPUT",
            help="The artifact; its manifest goes to OUTPUT.json. Default: MODEL's name.",
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="Packages (pt2): compile for this machine's CPU family, or for its GPU.")
    ] = Device.cpu,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder of pictures to compare scores on, 200 at most. Default: a built-in set."
        ),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X.Y",
            help="Engines: GPU to build for, 8.9 is an RTX 4090; may be repeated. Default: the GPU here, else 8.9.",
        ),
    ] = None,
    min_batch: Annotated[int | None, typer.Option(help="Engines: fewest pictures in one run. Default: 1.")] = None,
    opt_batch: Annotated[
        int | None, typer.Option(help="Engines: pictures in a run that it is tuned for. Default: 8.")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Engines: most pictures in one run. Default: 8, with --input views 64.")
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(help="Engines with --input image: longest side of a picture in pixels. Default: 4096."),
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="ONNX: add an output that says where the model looked.")] = False,
    plugin: Annotated[
        bool,
        typer.Option("--plugin", help="Classic TensorRT: sample fragments by a kernel of ours, not tried by us yet."),
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the targets, and why one cannot be made here; then exit.")
    ] = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Export a checkpoint to a file that glia-infer and other programs can run.

    The file is compared with the PyTorch model before it gets its name: the largest difference of a score may be
    1e-4 of the score's range in fp32, 1e-2 with fp16 weights, 4e-2 in bf16 (mean: 1e-2), and the order of the pictures
    has to stay (SRCC). The figures go into the manifest, OUTPUT.json, with what else a reader needs; keep the two files
    together. ONNX files are run in every backend that is installed, and one row of figures says how each did.
    An engine may be built where no GPU can run it: there the ONNX graph that it is compiled from is compared.

    \b
    glia-export model.pt --to onnx                            model.onnx, raw pictures in
    glia-export model.pt --to onnx --input views              for hosts that sample while decoding
    glia-export model.pt --to onnx --precision fp16-weights   half the size, for CPUs
    glia-export model.pt --to onnx --precision fp16           half the size, for GPUs
    glia-export model.pt --to torchscript                     model.ts
    glia-export model.pt --to trt --precision fp16            model.engine, an engine for the GPU here
    glia-export model.pt --to trt-rtx --precision fp16        model.rtx, an engine for RTX GPUs
    glia-export model.pt --to pt2                             model.pt2, compiled by PyTorch for CPUs

    Steps, with the time of long ones, and errors go to standard error, the parity report to standard output. Exit
    status: 0 exported, 2 nothing was written.
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with errors_on_one_line("glia-export", debug):
        if list_:
            _list_targets()
            return
        if checkpoint is None or to is None:
            missing = "MODEL" if checkpoint is None else "--to"
            raise UsageError(f"{missing} is missing; for example: glia-export model.pt --to onnx (see --help)")
        from glia_export.engine_options import EngineOptions
        from glia_export.exporter import export_checkpoint
        from glia_export.targets import target_info
        from glia_runtime.progress import stages

        info = target_info(to.value)

        options = EngineOptions(tuple(compute_capability or ()), min_batch, opt_batch, max_batch, max_size, plugin)
        with stages(lambda line: say("glia-export", line)) as running:
            manifest = export_checkpoint(
                checkpoint,
                info.name,
                output,
                precision=precision.value,
                input=input_.value,
                images=images,
                device=device.value,
                engine=None if options == EngineOptions() else options,
                maps=maps,
                say=running.begin,
                progress=running.part,
            )
        _print_report(manifest, output or Path(checkpoint.stem + info.suffix))


def _list_targets() -> None:
    from glia_export.targets import TARGETS

    for info in TARGETS:
        state = info.unavailable or "available"
        about = "; ".join(filter(None, (info.about, ", ".join(info.precisions))))
        typer.echo(f"{info.name:<12} {info.suffix:<8} {about}: {state}")


def _print_report(manifest: "Manifest", output: Path) -> None:
    scale = manifest.score_scale
    lines = [f"{output}  {output.stat().st_size / 1e6:.1f} MB, {manifest.precision}, input {manifest.input}"]
    of_graph = manifest.parity_graph != "this artifact"
    if of_graph and (engine := manifest.engine):
        gpus = ", ".join(engine.compute_capabilities)
        lines.append(f"  {engine.flavour} {engine.version} for compute capability {gpus}")
    rows = manifest.parity
    what = "the ONNX graph it was compiled from" if of_graph else "it"
    lines += [
        f"  {what} against PyTorch fp32 on {rows[0].images} pictures, scores on {scale.minimum:g}..{scale.maximum:g}:",
        "",
        f"  {'in':<22} {'largest difference':<23} {'mean':<23} {'SRCC':<24} PLCC",
    ]
    for row in rows:
        where = f"{row.backend} {row.precision}" + (f" on {row.device}" if row.device != "cpu" else "")
        largest = f"{row.max_abs:.2e} (bound {row.bound_max_abs:.0e})"
        mean = f"{row.mean_abs:.2e}" + (f" (bound {row.bound_mean_abs:.0e})" if row.bound_mean_abs is not None else "")
        rank = _correlation(row.srcc) + (f" (at least {row.bound_srcc})" if row.bound_srcc is not None else "")
        verdict = "" if row.passed else "  missed"
        lines.append(f"  {where:<22} {largest:<23} {mean:<23} {rank:<24} {_correlation(row.plcc)}{verdict}")
    if any(row.bound_srcc is None for row in rows):
        lines.append("  no SRCC is demanded where the scores hardly differ")
    lines.append("")
    from glia_export.exporter import cannot_run_here

    where = ", on a machine with such a GPU" if cannot_run_here(output, manifest) else ""
    lines.append(f"next{where}: glia-infer --model {output} PICTURES...")
    if sys.stdout is not None:
        typer.echo("\n".join(lines))


def _correlation(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
