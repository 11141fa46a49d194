"""``glia-eval table1`` to ``table6``: the paper's tables, run and printed with ours beside the paper's."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from glia.cli import Precision
from glia.evaluation.paper import PAPER
from glia_runtime.command import Command, Debug, errors_on_one_line
from glia_runtime.errors import UsageError

_HELP = """The paper's Table {number}: {title}.

Trains and tests what it needs from the datasets found under --data, ten splits each, and prints the median and the mean
over the splits below the paper's figures. Each split is a run in a folder of its own under --out: one that is finished
is not repeated, one that was stopped goes on. The table is kept there, too, as Markdown and CSV.

Without data, --dataset synthetic adds a column of drawn pictures; with --quick it takes a minute.
"""


_PAGE = 160  # characters: no table is wider


def add_tables(app: typer.Typer) -> None:
    """Add a command for each table."""
    for number, table in PAPER.items():
        help_ = _HELP.format(number=number, title=table.title)
        app.command(f"table{number}", cls=Command, help=help_)(_command(number))


def _command(number: int) -> Callable[..., None]:
    def run(
        data: Annotated[
            Path | None,
            typer.Option(
                metavar="FOLDER",
                help="Folder with a folder for each dataset, named as usual: live, KonIQ-10k, kadid10k, ...",
            ),
        ] = None,
        dataset: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME",
                help="Only columns of this dataset; or synthetic, which needs no files. May be repeated.",
            ),
        ] = None,
        row: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME", help="Only this row, as the table calls it. May be repeated."),
        ] = None,
        out: Annotated[
            Path, typer.Option(metavar="FOLDER", help="Folder of the runs, one for all tables, and of the results.")
        ] = Path("runs/tables"),
        splits: Annotated[
            int | None,
            typer.Option(min=1, help="Splits of each dataset; default: 10, on synthetic 3 seeds, with --quick 1."),
        ] = None,
        quick: Annotated[
            bool,
            typer.Option("--quick", help="Ten steps of a tiny ViT, to see that it works; figures mean nothing."),
        ] = False,
        backbone_weights: Annotated[
            Path | None,
            typer.Option(help="Local weights of the ViT. Default: timm's hub; on synthetic, the bundled model's."),
        ] = None,
        cache: Annotated[
            Path | None,
            typer.Option(
                metavar="FOLDER",
                help="Keep decoded pictures here (3 bytes a pixel) and drawn ones; the latter by default in --out.",
            ),
        ] = None,
        precision: Annotated[Precision, typer.Option(help="Arithmetic of the training steps.")] = Precision.fp32,
        workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
        cache_tokens: Annotated[
            bool,
            typer.Option(
                "--cache-tokens",
                help="Compute the frozen semantic tokens of each picture in files once, for all splits, and keep them "
                "in --cache or in --out: 0.6 MB a picture with ViT-B/16. Rows whose model has none do without.",
            ),
        ] = False,
        compile_: Annotated[
            bool, typer.Option("--compile", help="Translate the training steps with torch.compile first.")
        ] = False,
        debug: Debug = False,
    ) -> None:
        with errors_on_one_line("glia-eval", debug):
            from rich.console import Console

            from glia.evaluation.table_runs import TableRuns, print_table

            slow = backbone_weights is not None or precision is not Precision.fp32 or cache_tokens or compile_
            if quick and slow:
                raise UsageError(
                    "--quick has a ViT of its own, in fp32, as it is; leave out --precision, --cache-tokens, --compile "
                    "and --backbone-weights"
                )
            runs = TableRuns(
                out=out,
                data=data,
                cache=cache,
                splits=splits,
                quick=quick,
                backbone_weights=str(backbone_weights or ""),
                precision=precision.value,
                workers=workers,
                cache_tokens=cache_tokens,
                compile=compile_,
            )
            width = None if Console().is_terminal else _PAGE
            # paths may look like markup
            page = Console(width=width, markup=False, highlight=False)
            progress = Console(stderr=True, markup=False, highlight=False)
            print_table(number, tuple(dataset or ()), tuple(row or ()), runs, page, progress)

    return run
