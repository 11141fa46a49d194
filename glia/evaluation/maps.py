"""Where a trained model looks, beside where its backbone did before: the paper's Fig. 3, without DEIQT."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glia.evaluation.pages import inline_image, style
from glia.models import GLIANet, load_checkpoint
from glia.models.attention import class_attention
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError, UsageError
from glia_runtime.fragments import Image
from glia_runtime.manifest import View
from glia_runtime.maps import overlay
from glia_runtime.markup import as_text, common_folder, in_thousandths, link, scale_line, write_page

_TITLE = "Where the model looks"


@dataclass(frozen=True)
class Look:
    """What a model makes of a picture.

    Attributes:
        score: on the model's scale.
        before: float32 [G, G], the share of its attention that the class token of the backbone alone gives to each
            patch of the resized picture.
        after: float32 [G, G], the same of the trained model and its main view.
    """

    score: float
    before: npt.NDArray[np.float32]
    after: npt.NDArray[np.float32]


def open_looking(checkpoint: Path) -> tuple[GLIANet, View]:
    """A model that can say where it looks, and the view that its maps are of.

    Raises:
        CheckpointError: it cannot be read.
        UsageError: another architecture, or a GLIANet whose score is read from the prior.
    """
    model = load_checkpoint(checkpoint)
    if not isinstance(model, GLIANet) or model.map_view is None:
        raise UsageError(f"{checkpoint}: this {model.architecture} cannot say where it looked; name a GLIANet with lgf")
    return model, model.map_view


@torch.inference_mode()
def look(model: GLIANet, image: Image) -> Look:
    """Look at a picture, uint8 [H, W, 3], with a model, and with its frozen backbone alone.

    Both maps are of the last ViT block's class token, mean over its heads.

    Raises:
        ImageError: the picture is too narrow to be enlarged.
    """
    semantic, detail = (torch.from_numpy(view)[None] for view in model.view_spec.sample(image))
    score, after = model.look(semantic, detail)
    return Look(float(score), _look_untouched(model, semantic)[0].numpy(), after[0].numpy())


def _look_untouched(model: GLIANet, semantic: Tensor) -> Tensor:
    """[B, G, G] of the frozen ViT alone, shown the resized picture as in its pretraining."""
    vit = model.backbone
    pixels = ((semantic - model.mean) / model.std).permute(0, 3, 1, 2)
    before_last = len(vit.blocks) - 2
    ((patches, class_token),) = cast(
        "list[tuple[Tensor, Tensor]]",
        vit.forward_intermediates(
            pixels, [before_last], return_prefix_tokens=True, output_fmt="NLC", stop_early=True, intermediates_only=True
        ),
    )
    shares: Tensor = class_attention(vit.blocks[-1], torch.cat([class_token, patches], dim=1))
    side, _ = vit.patch_embed.grid_size
    return shares.reshape(-1, side, side)


def write_maps(
    checkpoint: Path, paths: Sequence[str], folder: Path, path: Path, advance: Callable[[], object]
) -> list[str]:
    """Write a page: each picture, where the backbone alone looks, and where the model does.

    Args:
        checkpoint: a GLIANet.
        paths: the pictures.
        folder: where the page will lie, from which the links to the pictures start.
        path: the file to write.
        advance: called after each picture.

    Returns:
        One line for each picture that cannot be read.

    Raises:
        CheckpointError, UsageError: as `open_looking`; none of the pictures can be read.
    """
    model, view = open_looking(checkpoint)
    failures: list[str] = []
    common = common_folder(paths)

    def sections() -> Iterator[str]:
        for picture in paths:
            try:
                image = decode(picture)
                found = look(model, image)
            except ImageError as error:
                line = str(error)
                failures.append(line if line.startswith(picture) else f"{picture}: {line}")
            else:
                yield _section(picture, picture.removeprefix(common), image, found, view, model, folder)
            advance()

    main = "\n".join(sections())
    if not main:
        raise UsageError(f"none of {len(paths)} pictures could be read; the first: {failures[0]}")
    scale = model.score_scale
    fragments = ", which sees the framed fragments at full resolution" if view == "detail" else ""
    lead = (
        f"<p>Scores by <b>{as_text(str(checkpoint))}</b>, {as_text(scale_line(scale))}. The colour says how much of "
        "its attention the class token gives to each place in the last block, from the map's smallest share, violet, "
        f"to its largest, yellow: <b>before</b>, of {as_text(model.config.backbone)} alone, which sees the picture "
        f"resized; <b>after</b>, of the trained model{fragments}.</p>"
    )
    write_page(path, _TITLE, [f'<div class="maps">\n{main}\n</div>\n'], lead=lead, style=style())
    return failures


def _section(path: str, name: str, image: Image, found: Look, view: View, model: GLIANet, folder: Path) -> str:
    score = in_thousandths(found.score, model.score_scale)
    columns = {
        "picture": inline_image(image, name),
        "before": inline_image(overlay(image, found.before, "semantic"), f"{name}, before"),
        "after": inline_image(overlay(image, found.after, view), f"{name}, after"),
    }
    figures = "\n".join(
        f"<figure>{picture}<figcaption>{caption}</figcaption></figure>" for caption, picture in columns.items()
    )
    heading = f'<a href="{link(path, folder)}">{as_text(name)}</a>: {score}'
    return f"<section><h2>{heading}</h2>\n{figures}</section>"
