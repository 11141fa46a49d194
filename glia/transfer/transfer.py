"""One transfer from its options: what `glia-transfer-labels` does."""

import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from torch import Tensor

from glia.data.samples import Picture
from glia.data.synthetic import RECIPE
from glia.evaluation.processes import in_processes
from glia.training.log import progress
from glia.transfer.backbone import Backbone, nearest
from glia.transfer.folder import (
    LABELS_FILE,
    RENDERED_FOLDER,
    REPORT_FILE,
    Neighbours,
    Row,
    Transfer,
    picture_path,
    read_features,
    read_rows,
    refuse_occupied,
    write_labels,
    write_transfer,
)
from glia.transfer.labelled import SYNTHETIC, Drawn, Kadid, Labelled
from glia.transfer.rendering import PER_PICTURE, read_bounded, render_to_files, rendered_folder
from glia.transfer.report import write_report
from glia_runtime.errors import ImageError, OutputError, UsageError
from glia_runtime.listing import find_pictures
from glia_runtime.manifest import ScoreScale
from glia_runtime.markup import counted

Item = TypeVar("Item")

_DECODERS = 4  # threads; shrinking 12 megapixels takes as long as ResNet-50 on a GPU takes for a hundred pictures


@dataclass(frozen=True)
class TransferConfig:
    """Everything that decides the result of a transfer.

    Attributes:
        labelled: KADID-10k's folder, or "synthetic".
        drawn: references to draw (synthetic).
        pictures: folder of the new pictures; folders in it are looked through as well.
        backbone: name of the timm model whose features are compared.
        weights: local file of its weights, or None for timm's hub.
        side: longer sides are shrunk to this many pixels.
        top: references whose labels are averaged.
        threshold: pictures less similar than this to their nearest reference are left out.
        scale: ends of the scale that the labels are stretched to, or None for the labelled set's own.
        render: write the distorted pictures to files.
        batch_size: pictures that the backbone sees at once.
        processes: how many label drawn references, and render.
    """

    labelled: str
    drawn: int
    pictures: Path
    backbone: str
    weights: Path | None
    side: int
    top: int
    threshold: float
    scale: tuple[float, float] | None
    render: bool
    batch_size: int
    processes: int


def transfer_labels(
    config: TransferConfig, out: Path, resume: bool, complain: Callable[[str], None], console: Console
) -> Transfer:
    """Find the references that new pictures resemble, and carry their labels over.

    Args:
        config: what to do.
        out: the folder to make, as `glia.transfer.folder` describes it, with a page to look through.
        resume: go on with the transfer in `out`; pictures that failed are tried again, those that are no longer among
            `config.pictures` left out.
        complain: called with one line for each picture that cannot be read.
        console: for progress and remarks.

    Raises:
        UsageError: options that do not fit together, no pictures, or none similar enough.
        DatasetError: the labelled set is not as it should be.
        CheckpointError: weights that cannot be read.
        OutputError: `out` holds a transfer already, or cannot be written.
    """
    if not config.pictures.is_dir():
        raise UsageError(f"{config.pictures}: no such folder; name one that holds pictures")
    if out.resolve().is_relative_to(config.pictures.resolve()):
        raise UsageError(f"{out}: lies among the pictures themselves; choose another --out")
    if config.scale and not 0 < config.scale[1] - config.scale[0] < math.inf:
        raise UsageError("--scale {:g} {:g}: not a scale; give its lower end, then its higher".format(*config.scale))
    if math.isnan(config.threshold):
        raise UsageError("--threshold nan: not a similarity; give a number from -1 to 1")
    if not resume:
        refuse_occupied(out)  # before a backbone is fetched for nothing
    # Of folders that may be links; a link among the pictures stays what it is called.
    found = find_pictures([str(config.pictures.resolve())], True, complain)
    names = [os.path.relpath(path, out.resolve()) for path in found]
    if not names:
        raise UsageError(f"{config.pictures}: holds no pictures; name another folder")
    features = read_features(out) if resume else ""
    backbone = None if features else _load_backbone(config)  # nothing may be left for it to compare
    labelled = _open_labelled(config)
    recipe = _recipe(config, len(labelled.references), backbone.remark if backbone else features)
    console.print(recipe["features"], highlight=False, soft_wrap=True)
    with Neighbours(out, recipe, resume=resume) as neighbours:
        left = _left(names, neighbours)
        if left:
            backbone = backbone or _load_backbone(config)
            if backbone.remark != recipe["features"]:  # timm's hub was in reach, or was not
                raise UsageError(f"{out}: was started with {features}; now {backbone.remark}; choose another --out")
            _find_neighbours(config, left, labelled, backbone, neighbours, complain, console)
        if config.render:
            _render(config, neighbours, complain, console)
        rows = read_rows(out)
        transfer = _carry(config, rows, labelled, recipe["features"], console)
        carried = [(place, row) for place, row in enumerate(rows) if transfer.carries(row)]
        if config.render:
            write_labels(out, transfer, carried)
        else:
            _remove(out / LABELS_FILE)  # of a finish with files; these labels may be others
        write_report(out / REPORT_FILE, rows, transfer, labelled)
        write_transfer(out, transfer)
    console.print(
        f"{len(carried):,} of {len(rows):,} pictures resemble {len(transfer.labels)} of {len(labelled.references)} "
        f"references: {len(carried) * PER_PICTURE:,} labels in {out}",
        highlight=False,
        soft_wrap=True,
    )
    return transfer


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be removed ({error.strerror}); remove it, then go on with --resume"
        ) from error


def _recipe(config: TransferConfig, references: int, features: str) -> dict[str, Any]:
    """What decides the rows. Paths are what they lead to, so that a run goes on from another working directory."""
    drawn = config.labelled == SYNTHETIC
    labelled = f"{SYNTHETIC}, recipe {RECIPE}" if drawn else str(Path(config.labelled).resolve())
    return {
        "labelled": [labelled, references],
        "backbone": [config.backbone, str(config.weights.resolve()) if config.weights else None],
        "features": features,
        "side": config.side,
        "top": config.top,
    }


def _load_backbone(config: TransferConfig) -> Backbone:
    weights = config.weights and config.weights.resolve()
    return Backbone(config.backbone, weights, random_will_do=config.labelled == SYNTHETIC)


def _open_labelled(config: TransferConfig) -> Labelled:
    drawn = config.labelled == SYNTHETIC
    labelled: Labelled = Drawn(config.drawn) if drawn else Kadid(Path(config.labelled), config.side)
    count = len(labelled.references)
    if config.top > count:
        raise UsageError(f"{config.labelled}: has {counted(count, 'reference')}; --top {config.top} is too many")
    return labelled


def _left(names: Sequence[str], neighbours: Neighbours) -> list[str]:
    """The pictures to compare; rows of pictures that are not among `names` become failures."""
    folder = neighbours.path.parent
    rows = read_rows(folder)
    named, done = set(names), {row.path for row in rows if not row.error}
    gone = done - named
    neighbours.append([Row(row.path, error=f"{row.path}: no longer there") for row in rows if row.path in gone])
    for place, row in enumerate(rows):
        if row.error and row.path in named:  # it may be another picture than the one that was rendered
            shutil.rmtree(rendered_folder(folder / RENDERED_FOLDER, place), ignore_errors=True)
    return [name for name in names if name not in done]


def _render(config: TransferConfig, neighbours: Neighbours, complain: Callable[[str], None], console: Console) -> None:
    """Write the distorted pictures; rows of those that can no longer be read become failures."""
    folder = neighbours.path.parent
    rows = [(place, row) for place, row in enumerate(read_rows(folder)) if row.resembles(config.threshold)]
    tasks = ((folder / RENDERED_FOLDER, place, picture_path(folder, row.path), config.side) for place, row in rows)
    with closing(in_processes(render_to_files, tasks, config.processes)) as rendered:
        errors = _progress(rendered, "rendering", len(rows), console)
        for (_, row), error in zip(rows, errors, strict=True):
            if error:
                complain(error)
                neighbours.append([Row(row.path, error=error)])


def _find_neighbours(
    config: TransferConfig,
    names: Sequence[str],
    labelled: Labelled,
    backbone: Backbone,
    neighbours: Neighbours,
    complain: Callable[[str], None],
    console: Console,
) -> None:
    """Write a row for each picture, a batch at a time; neither pictures nor features are kept."""
    known = _progress(labelled.references, "references", len(labelled.references), console)
    references = torch.stack([_features(backbone, labelled.picture(reference)) for reference in known])
    folder = neighbours.path.parent
    batches = _read_ahead(names, folder, config)
    for batch in _progress(batches, "pictures", -(-len(names) // config.batch_size), console):
        errors = {name: str(picture) for name, picture in batch if isinstance(picture, ImageError)}
        read = {name: picture for name, picture in batch if not isinstance(picture, ImageError)}
        features: dict[str, Tensor] = {}
        for name, found in zip(read, backbone(list(read.values())), strict=True):
            if isinstance(found, ImageError):
                errors[name] = f"{picture_path(folder, name)}: {found}"
            else:
                features[name] = found
        for error in errors.values():
            complain(error)
        rows = {name: Row(name, error=error) for name, error in errors.items()}
        if features:
            similarities, numbers = nearest(torch.stack(list(features.values())), references, config.top)
            for name, cosines, places in zip(features, similarities.tolist(), numbers.tolist(), strict=True):
                nearby = tuple(labelled.references[place] for place in places)
                rows[name] = Row(name, nearby, tuple(round(cosine, 6) for cosine in cosines))
        neighbours.append([rows[name] for name, _ in batch])


def _features(backbone: Backbone, reference: Picture) -> Tensor:
    (features,) = backbone([reference])
    if isinstance(features, ImageError):
        raise UsageError(f"a reference has {features}; choose another --backbone") from features
    return features


_Read = tuple[str, Picture | ImageError]


def _read_ahead(names: Sequence[str], folder: Path, config: TransferConfig) -> Iterator[list[_Read]]:
    """Batches of decoded pictures; the next one is decoded while the caller works on this one."""

    def read(name: str) -> _Read:
        try:
            return name, read_bounded(picture_path(folder, name), config.side)
        except ImageError as error:
            return name, error

    pending: deque[list[Future[_Read]]] = deque()
    with ThreadPoolExecutor(_DECODERS) as pool:
        for start in range(0, len(names), config.batch_size):
            pending.append([pool.submit(read, name) for name in names[start : start + config.batch_size]])
            if len(pending) > 1:
                yield [future.result() for future in pending.popleft()]
        yield [future.result() for future in pending.popleft()]


def _carry(
    config: TransferConfig, rows: Sequence[Row], labelled: Labelled, features: str, console: Console
) -> Transfer:
    best = max((row.similarities[0] for row in rows if not row.error), default=None)
    if best is None:
        raise UsageError(f"{config.pictures}: none of {len(rows)} pictures could be read; name another folder")
    if best < config.threshold:
        raise UsageError(
            f"{config.pictures}: no picture is as similar as {config.threshold:g} to a reference, the most similar "
            f"{best:.3f}; go on with --resume and a lower --threshold"
        )
    used = {name for row in rows if row.resembles(config.threshold) for name in row.references}
    order = [reference for reference in labelled.references if reference in used]
    labels = _progress(labelled.labels(order, config.processes), "labels", len(order), console)
    low, high = labelled.extremes
    new_low, new_high = config.scale or (low, high)
    ends = config.scale or (labelled.scale.minimum, labelled.scale.maximum)

    def stretch(score: float) -> float:
        return round(new_low + (score - low) / (high - low) * (new_high - new_low), 4)

    return Transfer(
        scale=ScoreScale(*ends, labelled.scale.higher_is_better, f"saqt of {labelled.name}"),
        labels={
            reference: {name: [stretch(score) for score in series] for name, series in of_reference.items()}
            for reference, of_reference in zip(order, labels, strict=True)
        },
        side=config.side,
        threshold=config.threshold,
        rendered=config.render,
        facts={"labelled": config.labelled, "references": len(labelled.references), "backbone": features},
    )


def _progress(items: Iterable[Item], words: str, total: int, console: Console) -> Iterator[Item]:
    """Pass `items` on and say how many are done and how long the rest takes."""
    with progress(console, words, total) as advance:
        for item in items:
            yield item
            advance()
