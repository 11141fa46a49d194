"""``glia-transfer-labels``: a training set from pictures that nobody rated, by the labels of rated ones like them."""

from pathlib import Path
from typing import Annotated

import typer

from glia_runtime.command import Command, Debug, Version, errors_on_one_line, say

COMMAND = "glia-transfer-labels"

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(cls=Command)
def transfer(
    labelled: Annotated[
        str, typer.Option(metavar="FOLDER", help="Rated pictures: the folder of KADID-10k, or: synthetic.")
    ],
    pictures: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Folder of undistorted pictures that nobody rated, and folders in it."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder to make: the dataset saqt, and report.html to look through.")
    ],
    references: Annotated[int, typer.Option(min=1, help="References to draw (synthetic).")] = 20,
    backbone: Annotated[
        str, typer.Option(metavar="NAME", help="The timm model whose pooled features are compared.")
    ] = "resnet50.tv_in1k",
    backbone_weights: Annotated[
        Path | None, typer.Option(help="Local weights of the backbone. Default: timm's hub.")
    ] = None,
    side: Annotated[
        int, typer.Option(min=32, help="Pictures with a longer side than this are shrunk to it: KADID-10k's are 512.")
    ] = 512,
    top: Annotated[int, typer.Option(min=1, help="Average the labels of so many of the nearest references.")] = 1,
    threshold: Annotated[
        float,
        typer.Option(min=-1, max=1, help="Leave out pictures less similar (cosine) to their nearest reference."),
    ] = -1.0,
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Stretch the labels from lowest and highest (drawn: 0, 100) to these; the authors' scale: 0 9.",
        ),
    ] = None,
    render: Annotated[
        bool,
        typer.Option("--render", help="Write the distorted pictures (125 of each) to files, with labels.csv."),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures that the backbone sees at once.")] = 16,
    processes: Annotated[int, typer.Option(min=1, help="Processes that label drawn references, and render.")] = 1,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on after a stop or a kill; or finish again with another --threshold, --scale or --render.",
        ),
    ] = False,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Carry the labels of rated pictures over to new ones that look alike (SAQT, of GlintIQA).

    Each new picture is given the labels of the rated reference most similar to it: what people said of that
    reference's distorted versions is taken for what they would say of the new picture, distorted in the same way.
    The result opens as --dataset saqt of glia-train, which distorts the pictures as it reads them.
    """
    with errors_on_one_line(COMMAND, debug):
        from rich.console import Console

        from glia.transfer.transfer import TransferConfig, transfer_labels

        config = TransferConfig(
            labelled=labelled,
            drawn=references,
            pictures=pictures,
            backbone=backbone,
            weights=backbone_weights,
            side=side,
            top=top,
            threshold=threshold,
            scale=scale,
            render=render,
            batch_size=batch_size,
            processes=processes,
        )
        console = Console(stderr=True, markup=False, highlight=False)  # paths may look like markup
        transfer_labels(config, out, resume, lambda line: say(COMMAND, line), console)


if __name__ == "__main__":
    app()
