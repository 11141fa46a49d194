"""``glia-eval``: what a model is worth, and how it stands against others."""

from collections.abc import Mapping
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from glia.evaluation.gmad_cli import gmad
from glia.evaluation.maps_cli import maps
from glia.evaluation.tables_cli import add_tables
from glia_runtime.command import Command, Debug, DefaultGroup, Version, errors_on_one_line, given_options
from glia_runtime.errors import UsageError

_HELP = """Say what a model is worth: how its scores agree with people's, how they follow damage done on purpose, and
where they contradict another model's.

Figures go to standard output; progress, and what is wrong, to standard error.

\b
glia-eval MODEL --dataset csv --root ratings.csv     agreement with people's scores
glia-eval MODEL --dataset koniq --root koniq10k      of a published dataset
glia-eval MODEL --photos photographs                 your own photographs, damaged on purpose
glia-eval table1 --data DATASETS                     the paper's Table 1, run; table2 to table6 likewise
glia-eval gmad --attacker A --defender B ...         pictures on which two models contradict each other
glia-eval maps MODEL --images photographs ...        where a model looks

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
    version: Version = False,
) -> None:
    pass


class Part(str, Enum):
    """A side of a split."""

    train = "train"
    test = "test"


@app.command("model", cls=Command)
def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint, an exported artifact, or: bundled.")],
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of photographs: damage them in 26 ways and see how the model ranks the results.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Photographs to take from the folder, spread evenly.")] = 20,
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Without --photos, the dataset to evaluate on: csv, koniq, ... or synthetic."
        ),
    ] = "synthetic",
    root: Annotated[
        str | None,
        typer.Option(help="Where the dataset lies: its folder; for csv the file with path,score[,reference]."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="N|official",
            help="Evaluate on one side of a --split of glia-train: number or official. Default: on all.",
        ),
    ] = None,
    part: Annotated[Part, typer.Option(help="Which side of --split.")] = Part.test,
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
    ] = 52,
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep rendered pictures here (synthetic).")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write path, target, score and error of each picture here.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that distort photographs.")] = 1,
    debug: Debug = False,
) -> None:
    """Evaluate a model on a dataset, or on photographs that are damaged.

    With --dataset: SRCC, PLCC and KRCC of its scores with the dataset's, and RMSE where both are on one scale; PLCC and
    RMSE also after a logistic fit of four parameters, as papers give them. A picture that cannot be read is one line on
    standard error; the exit status is then 1.

    With --photos every photograph gets 26 distortions (KADID-10k's 25 and downscaling) at five levels. Reported: the
    Spearman correlation of score and level within a photograph, by type, and the correlations of the score with
    the full-reference label over all of them.
    """
    with errors_on_one_line("glia-eval", debug):
        from rich.console import Console

        from glia.data import Subset, open_dataset
        from glia.data.registry import option_types
        from glia.data.synthetic import DrawnFor
        from glia.evaluation.datasets import write_predictions
        from glia.evaluation.report import evaluate_dataset, evaluate_photographs
        from glia.evaluation.scoring import open_scorer
        from glia.evaluation.seen import seen_in_training
        from glia.options import read_options, with_direction
        from glia_runtime.atomic import atomic_write

        _refuse_useless(given_options(context), photos is not None, dataset)
        scorer = open_scorer(model)
        # paths may look like markup
        out = Console(markup=False, highlight=False)
        progress = Console(stderr=True, markup=False, highlight=False)
        if photos is not None:
            evaluate_photographs(scorer, photos, count, processes, out, progress)
            return
        if lower_is_better and dataset not in ("csv", "hf"):
            raise UsageError(f"{dataset} knows which scores are better; leave out --lower-is-better")
        if dataset == "synthetic":
            if root is not None:
                raise UsageError("synthetic is drawn, not read; leave out --root (--cache keeps what is drawn)")
            opened = open_dataset(dataset, cache, pictures=pictures, seed=DrawnFor.TEST)
        else:
            if cache is not None:
                raise UsageError("--cache keeps drawn pictures, of synthetic; leave it out, and name files by --root")
            options = read_options(dataset, dataset_option or (), option_types(dataset))
            opened = open_dataset(dataset, root, **with_direction(options, lower_is_better))
        whole = opened
        if split is not None:
            from glia.training.run import split_dataset

            chosen = split_dataset(opened, split)
            opened = Subset(whole, chosen.train if part is Part.train else chosen.test)
        remark = seen_in_training(model, dataset, whole, root, split if part is Part.test else None)
        if remark:
            progress.print(remark, soft_wrap=True)
        with atomic_write(csv) if csv else nullcontext() as temporary:  # which finds out now whether it can be written
            predictions = evaluate_dataset(scorer, opened, out, progress)
            if temporary:
                write_predictions(predictions, temporary)
        if any(row.error for row in predictions):
            raise typer.Exit(1)


def _refuse_useless(given: Mapping[str, object], photos: bool, dataset: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        UsageError: they are named.
    """
    of_photos = ("count", "processes")
    of_datasets = ["dataset", "root", "split", "part", "lower_is_better", "dataset_option", "pictures", "cache", "csv"]
    if useless := [name for name in (of_datasets if photos else of_photos) if name in given]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in useless)
        raise UsageError(f"{options}: {'not with' if photos else 'only with'} --photos; leave out")
    if "dataset_option" in given and dataset == "synthetic":
        raise UsageError("--dataset-option: for datasets of files, not for synthetic; leave out")
    if "part" in given and "split" not in given:
        raise UsageError("--part is a side of a split; name the split by --split, or leave out --part")
    if "pictures" in given and dataset != "synthetic":
        raise UsageError(f"--pictures are drawn, of synthetic; {dataset} has its own, so leave it out")


app.command(cls=Command)(gmad)
app.command(cls=Command)(maps)
add_tables(app)


if __name__ == "__main__":
    app()
