"""The commands of glia-bench that set one thing against another: parity, compare, peers and training."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from glia_bench.options import (
    ALL_BACKENDS,
    Backends,
    Csv,
    Device,
    Html,
    Images,
    Models,
    Output,
    Quick,
    measuring,
    needing,
    say,
)
from glia_runtime.command import Debug
from glia_runtime.errors import UsageError


def parity(
    models: Annotated[
        list[str], typer.Argument(metavar="MODELS", help="Artifacts and checkpoints to compare with the reference.")
    ],
    reference: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE",
            help="Checkpoint that is run in PyTorch fp32; may be repeated: each model is compared with the one it was "
            "exported from, else with the first.",
        ),
    ],
    images: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of photographs, 200 at most.")],
    max_difference: Annotated[
        float | None,
        typer.Option(
            help="Bound on a score's difference, as a part of the scale's range. Default: export's for the precision, "
            "1e-4 in fp32."
        ),
    ] = None,
    max_mean_difference: Annotated[
        float | None,
        typer.Option(
            help="Bound on the mean difference, as a part of the scale's range. Default: export's for the precision, "
            "0.01 in bf16, none in others."
        ),
    ] = None,
    min_srcc: Annotated[
        float | None,
        typer.Option(
            help="Bound on SRCC. Default: export's for the precision where the scores spread enough to be ranked, "
            "0.998 in bf16, 0.999 in others."
        ),
    ] = None,
    backend: Backends = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """Compare scores with the PyTorch fp32 model's, picture by picture.

    Largest and mean |difference|, SRCC, PLCC, KRCC, the worst pictures by name; with --html a scatter plot. Exit status
    1 when a bound is missed, 2 when a model that was named cannot run here.

    \b
    glia-bench parity --reference model.pt model.onnx model16.onnx model.ts --images photos
    glia-bench parity --reference model.pt model.onnx --images photos --max-difference 0.01 --html parity.html
    glia-bench parity --reference glianet.pt --reference glintiqa.pt glianet.onnx glintiqa.onnx --images photos
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    names = ", ".join(path.name for path in reference)
    settings = {
        "reference": names,
        "images": images.name,
        "max_difference": max_difference,
        "max_mean_difference": max_mean_difference,
        "min_srcc": min_srcc,
        "quick": quick,
    }
    packages = (("torch", "torch"), ("scipy", "scipy"))
    with measuring("parity", debug, (output, csv, html), *packages, **settings) as session:
        from glia_bench.parity import QUICK_PICTURES, by_reference, measure_parity
        from glia_export.parity import MOST_PICTURES

        subjects = session.open(session.specs(models, backend, device))
        step = session.progress(len(reference) + len(subjects))
        missed = [
            line
            for path, compared in by_reference(reference, subjects.values())
            for line in measure_parity(
                session.recorder,
                path,
                compared,
                images,
                max_difference=max_difference,
                max_mean_difference=max_mean_difference,
                min_srcc=min_srcc,
                most=QUICK_PICTURES if quick else MOST_PICTURES,
                step=step,
            )
        ]
        for line in missed:
            say(line)
    if missed:
        raise typer.Exit(1)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="The result to compare with.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The result to judge.")],
    margin: Annotated[
        float, typer.Option(min=0.0, help="Ratios this close to 1 are called the same; runs differ by as much.")
    ] = 0.02,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit status 1 when B is worse anywhere or lacks what A has, a Server rate aside."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Ratios of two results, with 95 % bootstrap intervals of the medians' ratio.

    B is called better or worse only where the whole interval lies beyond the margin and beyond what the machine itself
    changed by, the same only where it lies within the margin on a machine that changed by no more, and undecided
    otherwise. Of times with 662 samples or more the 99th percentile is compared as well. What speaks against comparing
    is named first: machines and their limits, versions, settings, pictures, files, noise. With fewer than five samples
    there is no interval and no verdict, but for counts, which are exact, for peak memory that differs by more than
    10 %, and for Server's rates under the same bound that differ by more than 40 %.

    \b
    glia-bench compare before.json after.json
    glia-bench compare main.json branch.json --check
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with needing(debug, ("scipy", "scipy")):
        from glia_bench.compare import compare_runs
        from glia_bench.results import read_run
        from glia_bench.tables import comparison_table, plain

        found = compare_runs(read_run(before), read_run(after), margin)
        for objection in found.objections:
            say(f"careful: {objection}")
        typer.echo(plain(comparison_table(found.shared)))
        for name, alone in (("A", found.only_before), ("B", found.only_after)):
            for quantity in alone:
                say(f"only in {name}: {quantity}")
        for quantity in found.unconfirmed:
            say(f"only in A: {quantity}; no verdict, since a restless machine confirms no rate")
        worse = found.of("worse")
        if check:
            if open_ := found.of("too few samples", "undecided"):
                say(f"no verdict on {len(open_)} of {len(found.shared)} quantities, see the table")
            if worse:
                say(f"B is worse in {len(worse)} of {len(found.shared)} quantities")
            if found.only_before:
                say(f"B lacks {len(found.only_before)} quantities of A")
            if worse or found.only_before:
                raise typer.Exit(1)


def peers(
    model: Models = None,
    images: Images = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="By IQA-PyTorch's name; may be repeated. Default: all, with --quick topiq_nr and musiq.",
        ),
    ] = None,
    with_peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Whether to run IQA-PyTorch at all.")] = True,
    backend: Backends = None,
    device: Device = "auto",
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """GLIANet beside what a user would take instead: the same photographs, the same machine, the same run.

    TOPIQ-NR, MUSIQ, HyperIQA, LIQE, CLIP-IQA+ and MANIQA from IQA-PyTorch, which is installed into an environment of
    its own in the cache directory (said before it starts). Weights that cannot be had are random: the table says so,
    and such a row is about speed only. --quick always takes random weights, and leaves out what takes longest.
    A peer that fails is left out with a remark, and the exit status is still 0; a model that fails makes it 2. A peer
    that is too slow for all files takes the first of them, and the table says how many.

    Without --backend an artifact runs in every backend that can run it here, and its architecture in eager PyTorch:
    its checkpoint where that is a --model as well, else with random weights. All run in rounds, in turn.

    \b
    glia-bench peers --images images --quick
    glia-bench peers --model model.onnx --model model.pt --images photos -o peers.json
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    packages = (("torch", "torch"), ("timm", "timm"), ("scipy", "scipy"))
    with measuring("peers", debug, (output, csv, html), *packages, quick=quick) as session:
        from glia_bench.peers import FULL, PEERS, QUICK, measure_peers
        from glia_bench.stand_ins import stand_ins

        if unknown := sorted(set(peer or ()) - {known.metric for known in PEERS}):
            raise UsageError(f"no peer is called {unknown[0]!r}; known: {', '.join(known.metric for known in PEERS)}")
        chosen = [known for known in PEERS if (known.metric in peer if peer else known.quick or not quick)]
        chosen = chosen if with_peers else []
        if left_out := [known.name for known in PEERS if with_peers and known not in chosen]:
            session.recorder.note(f"left out: {', '.join(left_out)}")
        effort = QUICK if quick else FULL
        specs = session.specs(model, backend or [ALL_BACKENDS], device)
        paths = session.photographs(images, effort.files)
        folder = Path(session.stack.enter_context(TemporaryDirectory(prefix="glia-bench-")))
        eager = {} if backend else stand_ins(specs, folder, session.recorder.note)
        step = session.progress(effort.rounds * (len(specs) + len(eager) + len(chosen)) + bool(chosen))
        measure_peers(
            session.recorder,
            specs,
            chosen,
            paths,
            effort,
            pretrained=not quick,
            device=device,
            step=step,
            standing_for=eager,
        )


def training(
    root: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rated pictures: a CSV file, see glia-train. Default: drawn ones."),
    ] = None,
    arch: Annotated[str, typer.Option(metavar="NAME", help="Architecture.")] = "glianet",
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="A plain timm ViT. Default: the architecture's.")
    ] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="As in glia-train; without any, and out of the hub's reach, they are random.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Samples a step.")] = 128,
    precision: Annotated[
        str, typer.Option(metavar="bf16|fp16", help="Of the faster loops: bf16, or fp16 on a GPU.")
    ] = "bf16",
    compiled: Annotated[bool, typer.Option("--compile", help="Measure torch.compile, too.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
    quick: Quick = False,
    output: Output = None,
    csv: Csv = None,
    html: Html = None,
    debug: Debug = False,
) -> None:
    """The plain training loop against autocast, cached tokens, cached pictures, and all of them.

    Samples a second of the steps, seconds of the whole run (caches filled in it), peak memory, and the SRCC of what was
    learnt: of the plain loop and of all together from three seeds, so that their difference can be set against noise.

    \b
    glia-bench training --backbone vit_tiny_patch16_224 --batch-size 16
    glia-bench training --arch glintiqa --batch-size 16
    glia-bench training --root my.csv --workers 8 --compile -o training.json
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    settings = {
        "arch": arch,
        "batch_size": batch_size,
        "precision": precision,
        "compile": compiled,
        "workers": workers,
        "quick": quick,
    }
    packages = (("torch", "torch"), ("timm", "timm"))
    with measuring("training", debug, (output, csv, html), *packages, **settings) as session:
        from glia.models.registry import model_config
        from glia.training.caches import has_tokens
        from glia_bench.training import FULL, QUICK, loops, measure_training, rated_pictures

        built = model_config(arch, **({"backbone": backbone} if backbone else {})).to_dict()
        effort = QUICK if quick else FULL
        session.recorder.settings["backbone"] = built["backbone"]
        session.recorder.settings["root"] = root.name if root else f"{effort.series} drawn series"
        chosen = loops(precision, compiled=compiled, has_tokens=has_tokens(arch, built))
        chosen = [chosen[0], chosen[-1]] if quick else chosen
        measure_training(
            session.recorder,
            chosen,
            session.stack.enter_context(rated_pictures(root, effort.series)),
            architecture=arch,
            model=built,
            backbone_weights=str(backbone_weights or ""),
            batch_size=batch_size,
            workers=workers,
            effort=effort,
            step=session.progress(len(chosen) + 2 * (effort.seeds - 1)),
        )
