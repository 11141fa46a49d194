"""``glia-train``: from rated pictures to a checkpoint."""

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glia_runtime.command import Command, Debug, Version, errors_on_one_line, given_options
from glia_runtime.errors import UsageError

if TYPE_CHECKING:
    from glia.training.run import RunConfig

train_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_STEPS, _EPOCHS, _EVALUATE_EVERY = 5000, 30, 500


class Precision(str, Enum):
    """Arithmetic of the training steps."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class View(str, Enum):
    """A view of a picture."""

    semantic = "semantic"
    detail = "detail"


class Preset(str, Enum):
    """Named widths of the adapters."""

    default = "default"
    loda = "loda"


class Loss(str, Enum):
    """What is minimised."""

    quality = "quality"
    correlation = "correlation"
    l1 = "l1"


class Select(str, Enum):
    """What is kept as the result."""

    last = "last"
    best = "best"


def _list_configs(wanted: bool) -> None:
    """The callback of ``--list-configs``."""
    if wanted:
        with errors_on_one_line("glia-train", False):
            from glia.training.recipes import NAMED

            for recipe in NAMED.values():
                typer.echo(f"{recipe.name}\n    {recipe.about}\n    {recipe.command}")
                typer.echo(f"    the paper: {recipe.paper_line}; {recipe.hardware}; time {recipe.time}")
            raise typer.Exit


@train_app.command(cls=Command)
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the run: checkpoints, metrics.csv, run.json.")],
    config: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A row of the paper's tables, table1/koniq say, or glintiqa/koniq; other options override it.",
        ),
    ] = None,
    list_configs: Annotated[
        bool,
        typer.Option("--list-configs", callback=_list_configs, is_eager=True, help="Show every --config and exit."),
    ] = False,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="What to train on: csv, koniq, ... or synthetic.")
    ] = "synthetic",
    root: Annotated[
        str | None,
        typer.Option(help="Where the dataset lies: its folder; for csv the file with path,score[,reference]."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="N|official|all",
            help="Number of the 80/20 split by reference, official (koniq), or all to train on every picture.",
        ),
    ] = "0",
    train_share: Annotated[
        float, typer.Option(help="Share of the pictures to train on, at most 0.8; the test part stays the same.")
    ] = 0.8,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="The scores of a csv are DMOS.")] = False,
    dataset_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the dataset's reader: column=MOS_zscore (koniq), say."),
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pictures to draw (synthetic): 6 samples each (itself, and one distortion at five levels).",
        ),
    ] = 4000,
    validation_pictures: Annotated[int, typer.Option(min=1, help="The same, for validation.")] = 26,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep drawn pictures (2 MB each) or decoded ones (3 bytes a pixel) here; "
            "without it each is drawn or decoded anew.",
        ),
    ] = None,
    cache_tokens: Annotated[
        bool,
        typer.Option(
            "--cache-tokens",
            help="Compute the frozen semantic tokens once for each picture and its mirror image and keep them in "
            "--cache or in --out: 0.6 MB a picture with ViT-B/16.",
        ),
    ] = False,
    arch: Annotated[str, typer.Option(metavar="NAME", help="Architecture.")] = "glianet",
    backbone: Annotated[
        str, typer.Option(metavar="NAME", help="A plain timm ViT.")
    ] = "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            help="Local weights of the backbone, or a folder with a file for each. Default: timm's hub; where it is "
            "out of reach, random ones, and with --config none."
        ),
    ] = None,
    pretrain_backbone: Annotated[
        bool,
        typer.Option("--pretrain-backbone", help="Train the backbone itself, from random or given weights."),
    ] = False,
    model_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A field of the architecture's config: rank=16 (lora), say."),
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="Widths of the adapters: ours (8 M on ViT-B/16) or LoDa's.")
    ] = Preset.default,
    latent_dim: Annotated[
        int | None, typer.Option(min=1, help="Width of the latent space; default: the preset's.")
    ] = None,
    heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads of the adapters; default: the preset's.")
    ] = None,
    lgf: Annotated[bool, typer.Option(help="Local-global fusion, Eq. 3 (Table 4).")] = True,
    glr: Annotated[bool, typer.Option(help="Global-local refinement, Eq. 4 (Table 4).")] = True,
    guidance: Annotated[View, typer.Option(help="The view that guides (Table 5).")] = View.semantic,
    main: Annotated[View, typer.Option(help="The view that is guided (Table 5).")] = View.detail,
    token_drop: Annotated[
        float, typer.Option(help="Share of tokens left out while training: half of them train twice as fast.")
    ] = 0.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help=f"Optimiser steps; default: {_STEPS} on synthetic, else --epochs.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help=f"Times to see every picture, instead of --steps; default: {_EPOCHS}.")
    ] = None,
    views: Annotated[int, typer.Option(min=1, help="Fragment mosaics of each picture in an epoch.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step, over all processes.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="AdamW's peak; warm-up, then a cosine to zero.")] = 3e-4,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = 1e-2,
    loss: Annotated[
        Loss,
        typer.Option(
            help="quality: correlation, differences within a series, and scale. correlation: LoDa's. l1: GlintIQA's."
        ),
    ] = Loss.quality,
    select: Annotated[
        Select | None,
        typer.Option(
            help="Keep the last step or the best evaluation as model.pt; default: best on synthetic, else last, since "
            "the best one is chosen on the test part."
        ),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="bf16 is faster on CPUs and GPUs that have it, fp16 on GPUs.")
    ] = Precision.fp32,
    compile_: Annotated[bool, typer.Option("--compile", help="Translate the steps with torch.compile first.")] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of order, augmentation, initial weights and dropout.")
    ] = 0,
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Steps between evaluations and saved states; default: an epoch, or {_EVALUATE_EVERY} of --steps.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Decode every picture first, and name those that cannot be used.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves to --out/tensorboard, too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out after a stop or a kill.")] = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Train a quality model on top of a frozen backbone.

    Writes model.pt, metrics.csv, run.json and resume.pt to --out (and last.pt where model.pt is the best evaluation).
    With --pretrain-backbone it writes backbone.safetensors instead, for a later --backbone-weights. In several
    processes, a GPU each: torchrun --nproc-per-node 4 -m glia.cli ...
    """
    names = {"arch": "architecture", "compile_": "compile"}
    given = {names.get(name, name): value for name, value in given_options(context).items()}
    with errors_on_one_line("glia-train", debug):
        from rich.console import Console

        from glia.training.run import train as run

        run(
            _run_config(config, given),
            out,
            cache,
            resume,
            Console(stderr=True, markup=False, highlight=False),  # paths may look like markup
            check=check,
            tensorboard=tensorboard,
            random_backbone=config is None,  # a recipe's figures stand beside the paper's
        )


def _run_config(name: str | None, given: dict[str, Any]) -> "RunConfig":
    """A recipe, or the defaults of the dataset, with what was given on the command line in its place.

    Raises:
        UsageError: no such recipe, or values that cannot be.
    """
    from dataclasses import fields

    from glia.data.registry import option_types
    from glia.models import PRESETS
    from glia.models.glianet import GLIANetConfig
    from glia.models.registry import config_types, model_config
    from glia.options import read_options
    from glia.training.fit import FitConfig
    from glia.training.recipes import NAMED
    from glia.training.run import SYNTHETIC, RunConfig

    if name is not None and name not in NAMED:
        raise UsageError(f"no config {name!r}; glia-train --list-configs shows them all")
    if "steps" in given and "epochs" in given:
        raise UsageError("--steps and --epochs both say how long; give one of them")
    if name is not None:
        base = NAMED[name].config
    elif given.get("dataset", SYNTHETIC) == SYNTHETIC:
        fit = FitConfig(steps=_STEPS, evaluate_every=_EVALUATE_EVERY)
        base = RunConfig(dataset=SYNTHETIC, architecture="glianet", model={}, fit=fit)
    else:
        base = RunConfig("", "glianet", model={}, fit=FitConfig(epochs=_EPOCHS, select="last"))
    if "steps" in given:
        given = {"epochs": 0, "evaluate_every": _EVALUATE_EVERY, **given}
    elif "epochs" in given:
        given = {"steps": 0, "evaluate_every": 0, **given}
    if "preset" in given and given.get("architecture", base.architecture) != "glianet":
        raise UsageError("--preset names widths of glianet's adapters; leave it out, or leave out --arch")
    given["backbone_weights"] = str(given.get("backbone_weights", base.backbone_weights))

    def chosen(config: Any) -> Any:
        return replace(config, **{f.name: given[f.name] for f in fields(config) if f.name in given})

    architecture = given.get("architecture", base.architecture)
    model = dict(base.model) if architecture == base.architecture else {}
    if "preset" in given:
        model |= {name: getattr(PRESETS[given["preset"]], name) for name in ("latent_dim", "heads", "up")}
    model |= {f.name: given[f.name] for f in fields(GLIANetConfig) if f.name in given}
    if texts := given.get("model_option"):
        model |= read_options(architecture, texts, config_types(architecture))
    model = model_config(architecture, **model).to_dict()
    dataset = given.get("dataset", base.dataset)
    if texts := given.get("dataset_option"):
        unread = dict.fromkeys(texts)  # RunConfig refuses them all
        read = unread if dataset == SYNTHETIC else read_options(dataset, texts, option_types(dataset))
        given["dataset_options"] = read
    run: RunConfig = replace(chosen(base), model=model, fit=chosen(base.fit))
    return run


if __name__ == "__main__":
    train_app()
