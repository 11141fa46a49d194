"""A user's own pictures and ratings as a dataset of the Hugging Face library `datasets`."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from glia.data.readers.ratings import finite, rating_scale, refuse
from glia.data.samples import ListedDataset, Picture, Sample
from glia_runtime.decode import decode_picture
from glia_runtime.errors import DatasetError, ImageError, MissingExtraError
from glia_runtime.views import pixels


def open_huggingface(
    root: Path,
    *,
    split: str = "train",
    image: str = "image",
    score: str = "score",
    reference: str = "reference",
    higher_is_better: bool = True,
    minimum: float | None = None,
    maximum: float | None = None,
) -> ListedDataset:
    """Read a folder that `save_to_disk` wrote, or a dataset of the hub; pictures are decoded as files are.

    Args:
        root: the folder, or the hub's name ("owner/name").
        split: which part, where there are several.
        image: the column of the pictures.
        score: the column of the scores.
        reference: the column of the references' names; where there is none each picture stands for itself.
        higher_is_better: False for DMOS.
        minimum: lower end of the rating scale; None takes the lowest score.
        maximum: upper end; None takes the highest score.

    Raises:
        DatasetError: no such dataset, split or column, or rows without a finite score.
        MissingExtraError: the library is not installed.
    """
    try:
        library = import_module("datasets")
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("datasets", "hf", f"opening {root}") from error
    table = _table(library, root, split)
    missing = [column for column in (image, score) if column not in table.column_names]
    if missing:
        raise DatasetError(
            f"{root}: has the columns {', '.join(table.column_names)}, but no {' and no '.join(missing)}"
        )
    places = [f"row {row}" for row in range(len(table))]
    values = list(table[score])
    bad = [f"{place}: {score} {value!r}" for place, value in zip(places, values, strict=True) if finite(value) is None]
    refuse(root, bad, "a row needs a finite number")
    scores = [float(value) for value in values]
    scale = rating_scale(root, scores, places, higher_is_better, minimum, maximum)
    references = table[reference] if reference in table.column_names else places
    encoded = table.select_columns([image]).cast_column(image, library.Image(decode=False))
    samples = [
        Sample(partial(_picture, encoded, row, f"{root}, row {row}"), value, str(name))
        for row, (value, name) in enumerate(zip(scores, references, strict=True))
    ]
    return ListedDataset(scale.dataset, scale, samples)


def _table(library: Any, root: Path, split: str) -> Any:
    try:
        if not root.exists():
            return library.load_dataset(root.as_posix(), split=split)
        stored = library.load_from_disk(str(root))
        return stored[split] if isinstance(stored, dict) else stored
    except Exception as error:  # the library's own errors, those of the network's and of damaged files
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise DatasetError(
            f"{root}: no dataset on disk or on the hub with a split {split!r} ({type(error).__name__}: {reason}); "
            "name a folder that save_to_disk wrote, or owner/name"
        ) from error


def _picture(encoded: Any, row: int, name: str) -> Picture:
    (cell,) = encoded[row].values()
    if cell is None or not (cell["bytes"] or cell["path"]):
        raise ImageError(f"{name}: holds no picture; remove the row")
    return pixels(decode_picture(cell["bytes"] or cell["path"], name))
