"""Datasets by name. A reader registers here in one line; callers stay as they are."""

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from glia.data.samples import Dataset
from glia_runtime.errors import UsageError

# Module and function, imported when asked for: the synthetic dataset alone brings torch and scikit-image.
_READERS: dict[str, tuple[str, str]] = {
    "live": ("glia.data.readers.live", "open_live"),
    "csiq": ("glia.data.readers.csiq", "open_csiq"),
    "tid2013": ("glia.data.readers.tid2013", "open_tid2013"),
    "kadid": ("glia.data.readers.kadid", "open_kadid"),
    "livec": ("glia.data.readers.livec", "open_livec"),
    "koniq": ("glia.data.readers.koniq", "open_koniq"),
    "spaq": ("glia.data.readers.spaq", "open_spaq"),
    "flive": ("glia.data.readers.flive", "open_flive"),
    "csv": ("glia.data.readers.csv", "open_csv"),
    "hf": ("glia.data.readers.huggingface", "open_huggingface"),
    "saqt": ("glia.data.readers.saqt", "open_saqt"),
    "synthetic": ("glia.data.synthetic", "open_synthetic"),
}
_NEEDS_NO_FILES = ("synthetic",)


def list_datasets() -> list[str]:
    """Names that `open_dataset` accepts, sorted."""
    return sorted(_READERS)


def open_dataset(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """Open a dataset; docs/datasets.md says what each name needs.

    Args:
        name: one of `list_datasets()`.
        root: where its files lie: a folder, for "csv" the file; for "synthetic", where rendered series are kept, or
            None to keep none.
        **options: the reader's own; for "synthetic" `pictures` and `seed`.

    Raises:
        UsageError: an unknown name or option, or no root where files are needed.
        DatasetError: files that are missing or not as the dataset's authors ship them.
    """
    _reader(name)
    if root is None and name not in _NEEDS_NO_FILES:
        raise UsageError(f"dataset {name!r} needs to know where its files lie; name them as root (--root)")
    known, reader = option_types(name), _reader(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(f"dataset {name!r} has no option {', '.join(unknown)}; known: {', '.join(known) or 'none'}")
    return reader(None if root is None else Path(root), **options)


def option_types(name: str) -> dict[str, Any]:
    """The options of a dataset's reader with the types of their values.

    Raises:
        UsageError: an unknown name.
    """
    reader = _reader(name)
    hints = get_type_hints(reader)
    return {option: hints.get(option, str) for option in list(signature(reader).parameters)[1:]}


def _reader(name: str) -> Callable[..., Dataset]:
    if name not in _READERS:
        raise UsageError(f"unknown dataset {name!r}; known: {', '.join(list_datasets())}")
    module, function = _READERS[name]
    reader: Callable[..., Dataset] = getattr(import_module(module), function)
    return reader
