"""``glia-train``: from rated pictures to a checkpoint."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from glia_runtime.command import Command, errors_on_one_line, print_version

train_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Precision(str, Enum):
    """Arithmetic of the training steps."""

    fp32 = "fp32"
    bf16 = "bf16"


class View(str, Enum):
    """A view of a picture."""

    semantic = "semantic"
    detail = "detail"


class Preset(str, Enum):
    """Named widths of the adapters."""

    default = "default"
    loda = "loda"


@train_app.command(cls=Command)
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, metrics.csv, run.json.")],
    dataset: Annotated[str, typer.Option(help="What to train on; so far: synthetic.")] = "synthetic",
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
        typer.Option(help="Keep rendered pictures here (2 MB a picture); without it each is drawn anew."),
    ] = None,
    arch: Annotated[str, typer.Option(help="Architecture.")] = "glianet",
    backbone: Annotated[str, typer.Option(help="A plain timm ViT.")] = "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    backbone_weights: Annotated[
        Path | None,
        typer.Option(
            help="Local weights of the backbone. Default: timm's hub, and random ones where it is out of reach."
        ),
    ] = None,
    pretrain_backbone: Annotated[
        bool,
        typer.Option("--pretrain-backbone", help="Train the backbone itself, from random or given weights."),
    ] = False,
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
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 5000,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="AdamW's peak; warm-up, then a cosine to zero.")] = 3e-4,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = 1e-2,
    precision: Annotated[
        Precision, typer.Option(help="bf16 is faster on CPUs and GPUs that have it.")
    ] = Precision.fp32,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of order, augmentation, initial weights and dropout.")
    ] = 0,
    evaluate_every: Annotated[int, typer.Option(min=1, help="Steps between evaluations and saved states.")] = 500,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out after a stop or a kill.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Train a quality model on top of a frozen backbone.

    Writes model.pt (best SRCC on validation), last.pt, metrics.csv, run.json and resume.pt to --out. With
    --pretrain-backbone it writes backbone.safetensors instead, for a later --backbone-weights.
    """
    with errors_on_one_line("glia-train", debug):
        from dataclasses import replace

        from rich.console import Console

        from glia.models import PRESETS
        from glia.training.fit import FitConfig
        from glia.training.run import RunConfig
        from glia.training.run import train as run

        chosen = replace(
            PRESETS[preset.value],
            backbone=backbone,
            lgf=lgf,
            glr=glr,
            guidance=guidance.value,
            main=main.value,
            token_drop=token_drop,
            latent_dim=latent_dim or PRESETS[preset.value].latent_dim,
            heads=heads or PRESETS[preset.value].heads,
        )
        fit = FitConfig(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            seed=seed,
            precision=precision.value,
            evaluate_every=evaluate_every,
            workers=workers,
        )
        config = RunConfig(
            dataset=dataset,
            pictures=pictures,
            validation_pictures=validation_pictures,
            architecture=arch,
            model=chosen.to_dict(),
            backbone_weights=str(backbone_weights or ""),
            pretrain_backbone=pretrain_backbone,
            fit=fit,
        )
        run(config, out, cache, resume, Console(stderr=True))


if __name__ == "__main__":
    train_app()
