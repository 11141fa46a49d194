"""How decoded pictures become a graph's inputs, for both kinds of graph.

- ``views``: those of the artifact's `glia_runtime.view_spec.ViewSpec`. ``semantic`` and ``detail``, uint8
  [B, 224, 224, 3]; or ``crops``, uint8 [B, 25, 224, 224, 3].
- ``image``: ``images`` uint8 [B, H, W, 3], pictures padded with zeros at the bottom and right to the largest
  of the batch, and ``sizes`` int64 [B, 2], the true (height, width); the graph ignores the padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from glia_runtime.errors import ImageError
from glia_runtime.fragments import Image, check_image
from glia_runtime.manifest import Limits, Manifest
from glia_runtime.views import VIEW_SIZE, enlarge, enlarged_size, pixels

MAX_BATCH_PIXELS = 1 << 24
"""Padded pixels in one "image" batch: 50 MB as uint8, 200 MB once the graph has cast them to float.

A single picture larger than this makes a batch of its own.
"""

Inputs = dict[str, npt.NDArray[Any]]
Prepared = tuple[Image, ...]
K = TypeVar("K")


def prepare(image: Image | PillowImage.Image, manifest: Manifest, *, draft: bool = False) -> Prepared:
    """One picture, as in `glia_runtime.views`, as its part of a batch: its views, or itself, enlarged where needed.

    `draft` as in `ViewSpec.sample`.

    Raises:
        ImageError: no such picture, too narrow to enlarge, or larger than the graph accepts.
    """
    if manifest.input == "views":
        return manifest.view_spec.sample(image, draft=draft)
    if isinstance(image, PillowImage.Image):
        image = pixels(image)
    check_limits(image, manifest.limits)
    return (enlarge(image),)


def collate(pictures: Sequence[Prepared], manifest: Manifest) -> Inputs:
    """Batch what `prepare` made; see the module for names, shapes and dtypes."""
    if manifest.input == "views":
        views = zip(*pictures, strict=True)
        return {name: np.stack(view) for name, view in zip(manifest.input_names, views, strict=True)}
    sizes = np.array([picture[0].shape[:2] for picture in pictures], dtype=np.int64)
    height, width = sizes.max(axis=0)
    if len(pictures) == 1:
        return {"images": np.ascontiguousarray(pictures[0][0])[None], "sizes": sizes}
    images = np.zeros((len(pictures), height, width, 3), dtype=np.uint8)
    for index, (image,) in enumerate(pictures):
        images[index, : image.shape[0], : image.shape[1]] = image
    return {"images": images, "sizes": sizes}


def check_inputs(inputs: Inputs, manifest: Manifest) -> int:
    """Return the batch size; raise `ImageError` when a name, shape or dtype is not the graph's."""
    names = manifest.input_names
    if tuple(sorted(inputs)) != tuple(sorted(names)):
        raise ImageError(f"inputs are {sorted(inputs)}; the graph takes {list(names)}")
    batch = len(inputs[names[0]])
    if manifest.input == "views":
        for name in names:
            _check_array(name, inputs[name], np.uint8, (batch, *manifest.view_spec.shape))
        return batch
    images, sizes = (inputs[name] for name in names)
    _check_array(names[0], images, np.uint8, (None, None, None, 3))
    _check_array(names[1], sizes, np.int64, (batch, 2))
    height, width = images.shape[1:3]
    if batch and (sizes.min() < VIEW_SIZE or (sizes > (height, width)).any()):
        raise ImageError(
            f"sizes must lie between {VIEW_SIZE} and the padded {height}x{width}; enlarge small pictures first"
        )
    return batch


def in_batches(items: Iterable[tuple[K, Prepared | str]], max_items: int) -> Iterator[list[tuple[K, Prepared | str]]]:
    """Cut a stream of (key, picture or error line) into lists of at most `max_items`, order kept.

    A list of whole pictures also ends before its padded batch would exceed `MAX_BATCH_PIXELS`.
    """
    group: list[tuple[K, Prepared | str]] = []
    pictures = height = width = 0
    for key, prepared in items:
        if not isinstance(prepared, str) and len(prepared) == 1 and prepared[0].ndim == 3:
            rows, columns = prepared[0].shape[:2]
            padded = max(height, rows) * max(width, columns) * (pictures + 1)
            if pictures and padded > MAX_BATCH_PIXELS:
                yield group
                group, pictures, height, width = [], 0, 0, 0
            pictures, height, width = pictures + 1, max(height, rows), max(width, columns)
        group.append((key, prepared))
        if len(group) == max_items:
            yield group
            group, pictures, height, width = [], 0, 0, 0
    if group:
        yield group


def check_limits(image: Image, limits: Limits) -> None:
    """Raise `ImageError` unless `image`, uint8 [H, W, 3], has sides within `limits` once `enlarge` has enlarged it.

    Asked before it is enlarged: a strip of 20000x8 pixels becomes one of 560000x224, 376 MB.
    """
    height, width = check_image(image).shape[:2]
    new_height, new_width = enlarged_size(height, width)
    if (limits.max_height and new_height > limits.max_height) or (limits.max_width and new_width > limits.max_width):
        size = f"{width}x{height} pixels"
        if (new_height, new_width) != (height, width):
            size += f", enlarged to {new_width}x{new_height},"
        raise ImageError(
            f"{size} is over the artifact's limit of {limits.max_width or 'any'}x{limits.max_height or 'any'}; "
            "crop it or make it smaller, or export with --input views"
        )


def _check_array(name: str, array: npt.NDArray[Any], dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, side) for wanted, side in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = ", ".join("?" if side is None else str(side) for side in shape)
        raise ImageError(f"{name} is {array.dtype} {list(array.shape)}; the graph takes {np.dtype(dtype)} [{wanted}]")
