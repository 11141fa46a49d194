"""``glia-eval maps``: where a model looks, on a page."""

from pathlib import Path
from typing import Annotated

import typer

from glia_runtime.command import Debug, errors_on_one_line


def maps(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A GLIANet's checkpoint.")],
    images: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of pictures; those of the folders in it count, too.")
    ],
    html: Annotated[Path, typer.Option(metavar="FILE", help="Write the page here: one file that loads nothing.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures to take from the folder, spread evenly.")] = 20,
    debug: Debug = False,
) -> None:
    """Show where a model looks, beside where its backbone did before it was trained: the paper's Fig. 3.

    For an exported model, and for any number of pictures, glia-infer --maps draws the former. A picture that cannot be
    read is one line on standard error; the exit status is then 1.
    """
    with errors_on_one_line("glia-eval", debug):
        from rich.console import Console

        from glia.evaluation.maps import write_maps
        from glia.evaluation.progress import say_failures, steps
        from glia_runtime.atomic import atomic_write
        from glia_runtime.listing import some_pictures

        progress = Console(stderr=True, markup=False, highlight=False)  # paths may look like markup
        paths = [str(path) for path in some_pictures(images, count, progress.print)]
        with atomic_write(html) as page:
            failures = write_maps(model, paths, html.resolve().parent, page, steps(len(paths), "looking", progress))
        say_failures(failures, progress)
        if failures:
            raise typer.Exit(1)
