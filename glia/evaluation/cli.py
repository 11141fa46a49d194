"""``glia-eval``: what a model is worth, and how it stands against others."""

from pathlib import Path
from typing import Annotated

import typer

from glia.evaluation.options import Debug
from glia_runtime.command import Command, DefaultGroup, errors_on_one_line, print_version

_HELP = """Say what a model is worth: how its scores agree with people's, or how they follow damage done on purpose.

Figures go to standard output; progress, and what is wrong, to standard error.

\b
glia-eval MODEL --dataset synthetic    agreement with a dataset's scores
glia-eval MODEL --photos photographs   your own photographs, damaged on purpose

A first word that names no command is a MODEL, for the command `model`.
"""

app = typer.Typer(
    cls=DefaultGroup,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    subcommand_metavar="MODEL|COMMAND [ARGS]...",
    help=_HELP,
)


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command("model", cls=Command)
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint, an exported artifact, or: bundled.")],
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs: damage them in 26 ways and see how the model ranks the results."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Photographs to take from the folder, spread evenly.")] = 20,
    dataset: Annotated[
        str, typer.Option(help="Without --photos, the dataset to evaluate on; so far: synthetic.")
    ] = "synthetic",
    pictures: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pictures to draw (synthetic): 6 samples each (itself, and one distortion at five levels).",
        ),
    ] = 52,
    cache: Annotated[Path | None, typer.Option(help="Keep rendered pictures here.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that distort photographs.")] = 1,
    debug: Debug = False,
) -> None:
    """Evaluate a model on a dataset, or on photographs that are damaged.

    With --dataset: the correlations SRCC, PLCC and KRCC of its scores with the dataset's, and their RMSE.

    With --photos every photograph gets 26 distortions (KADID-10k's 25 and downscaling) at five levels. Reported: the
    Spearman correlation of score and level within a photograph, by type, and the correlations of the score with
    the full-reference label over all of them.
    """
    with errors_on_one_line("glia-eval", debug):
        from rich.console import Console

        from glia.evaluation.report import evaluate_dataset, evaluate_photographs
        from glia.evaluation.scoring import open_model

        opened = open_model(model)
        progress = Console(stderr=True)
        if photos is None:
            evaluate_dataset(opened, dataset, cache, pictures, Console(), progress)
        else:
            evaluate_photographs(opened, photos, count, processes, Console(), progress)


if __name__ == "__main__":
    app()
