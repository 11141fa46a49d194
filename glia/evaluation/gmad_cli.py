"""``glia-eval gmad``: two models against each other on a folder of pictures."""

import sys
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from glia_runtime.command import Debug, errors_on_one_line


class Role(str, Enum):
    """One of the two models, as `glia.evaluation.gmad_rivals.ROLES`."""

    attacker = "attacker"
    defender = "defender"


def gmad(
    attacker: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="A checkpoint, an exported artifact, or: bundled. Or FILE.csv with path,score: another's scores.",
        ),
    ],
    defender: Annotated[str, typer.Option(metavar="MODEL", help="The other model, likewise.")],
    images: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of pictures; those of the folders in it count, too.")
    ],
    html: Annotated[
        Path, typer.Option(metavar="FILE", help="Write the page of pairs here: one file that loads nothing.")
    ],
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write both scores of every picture here.")] = None,
    lower_is_better: Annotated[
        list[Role] | None,
        typer.Option(help="Whose FILE.csv holds scores that fall with quality (DMOS). May be repeated."),
    ] = None,
    bins: Annotated[
        int, typer.Option(min=2, help="Parts of equally many pictures that the defender's order is cut into.")
    ] = 10,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of each of the four columns.")] = 1,
    debug: Debug = False,
) -> None:
    """Show the pairs of pictures on which two models contradict each other: a gMAD competition, the paper's Fig. 4.

    Among the pictures that the defender scores lowest, and among those it scores highest, the two that the attacker
    scores most differently; then the same with the roles exchanged. A picture that cannot be read is one line on
    standard error; the exit status is then 1.

    A model that cannot run here takes part by its scores, in a file that has a header with path and score, such as
    glia-infer writes. Pictures without a score in it are left out. Higher scores are better there unless
    --lower-is-better says otherwise.

    \b
    glia-eval gmad --attacker mine.pt --defender theirs.onnx --images photographs --html gmad.html
    glia-eval gmad --attacker mine.pt --defender deiqt.csv --images photographs --html gmad.html
    """  # noqa: D301 (click takes a real backspace for: do not rewrap)
    with errors_on_one_line("glia-eval", debug):
        from rich.console import Console

        from glia.evaluation.gmad import find_duels, score_pool, write_scores
        from glia.evaluation.gmad_page import write_duels
        from glia.evaluation.gmad_rivals import open_rivals
        from glia.evaluation.progress import say_failures, steps
        from glia_runtime.atomic import atomic_write
        from glia_runtime.listing import some_pictures

        # paths may look like markup
        progress = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        pictures = [str(path) for path in some_pictures(images, sys.maxsize, progress.print)]
        falling = [role.value for role in lower_is_better or ()]
        rivals, paths = open_rivals((attacker, defender), falling, pictures, images, progress.print)
        # both find out now whether they can be written
        with atomic_write(html) as page, atomic_write(csv) if csv else nullcontext() as table:
            pool = score_pool(rivals, paths, steps(2 * len(paths), "scoring", progress))
            say_failures(list(pool.failures.values()), progress)
            write_duels(pool, find_duels(pool.qualities, bins, pairs), html.resolve().parent, page)
            if table:
                write_scores(pool, table)
        if pool.failures:
            raise typer.Exit(1)
