"""Datasets by name. A reader registers here in one line; callers stay as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from glia.data.samples import Dataset
from glia_runtime.errors import UsageError


def _synthetic(root: Path | None, **options: Any) -> Dataset:
    from glia.data.synthetic import SyntheticDataset

    return SyntheticDataset(cache=root, **options)


_READERS: dict[str, Callable[..., Dataset]] = {"synthetic": _synthetic}


def list_datasets() -> list[str]:
    """Names that `open_dataset` accepts, sorted."""
    return sorted(_READERS)


def open_dataset(name: str, root: Path | None = None, **options: Any) -> Dataset:
    """Open a dataset.

    Args:
        name: one of `list_datasets()`.
        root: where its files lie; for "synthetic", where rendered series are kept, or None to keep none.
        **options: the reader's own; for "synthetic" `pictures` and `seed`.

    Raises:
        UsageError: an unknown name.
    """
    if name not in _READERS:
        raise UsageError(f"unknown dataset {name!r}; known: {', '.join(list_datasets())}")
    return _READERS[name](root, **options)
