"""Training and test parts that never share a reference picture, and are the same on every machine."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from glia.data.samples import Dataset, ListedDataset
from glia_runtime.errors import UsageError


@dataclass(frozen=True)
class Split:
    """Indices of the samples to train on and of those to test on, ascending."""

    train: tuple[int, ...]
    test: tuple[int, ...]


class _Referenced(Protocol):
    @property
    def reference(self) -> str: ...


class _Samples(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> _Referenced: ...


def make_splits(dataset: _Samples, count: int = 10, seed: int = 0, train_share: float = 0.8) -> list[Split]:
    """Random splits by reference picture, as the field makes them (pictures without a reference stand for themselves).

    A split orders the references by the SHA-256 of seed, split and name and trains on the first `train_share` of
    them. That depends on nothing but the names: not on the order of a folder, nor on the version of a library's
    random numbers. LIVE trains on 23 references of 29, CSIQ on 24 of 30, TID2013 on 20 of 25, KADID-10k on 65 of 81.

    Args:
        dataset: anything whose elements have a `reference`.
        count: how many splits; the first ones stay the same when more are asked for.
        seed: which endless sequence of splits.
        train_share: share of the references to train on, rounded to whole ones; at least one stays on either side.

    Raises:
        UsageError: fewer than two references, or a share that is not between 0 and 1.
    """
    return _splits(dataset, range(count), seed, train_share)


def make_split(dataset: _Samples, number: int, seed: int = 0, train_share: float = 0.8) -> Split:
    """Element `number` of what `make_splits` returns, alone; the arguments and errors are its."""
    return _splits(dataset, [number], seed, train_share)[0]


def _splits(dataset: _Samples, numbers: Iterable[int], seed: int, train_share: float) -> list[Split]:
    if not 0 < train_share < 1:
        raise UsageError(f"a training share of {train_share} leaves one side empty; choose one between 0 and 1")
    references = [dataset[index].reference for index in range(len(dataset))]
    names = sorted(set(references))
    if len(names) < 2:
        raise UsageError(f"{len(names)} reference picture(s) cannot be split in two; at least two are needed")
    wanted = min(max(1, round(train_share * len(names))), len(names) - 1)
    return [_split(references, frozenset(_order(names, seed, number)[:wanted])) for number in numbers]


def _order(names: Sequence[str], seed: int, number: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{number}/{name}".encode()).digest())


def _split(references: Sequence[str], chosen: frozenset[str]) -> Split:
    def indices(trained: bool) -> Iterator[int]:
        return (index for index, name in enumerate(references) if (name in chosen) is trained)

    return Split(tuple(indices(True)), tuple(indices(False)))


def official_split(dataset: Dataset) -> Split:
    """The division that the dataset's authors publish: training and test; what they keep for validation is in neither.

    Raises:
        UsageError: the dataset has none, or the file that holds it is missing.
    """
    sets = dataset.sets if isinstance(dataset, ListedDataset) else {}
    if not {"training", "test"} <= sets.keys():
        raise UsageError(
            f"{dataset.name}: no official split; koniq has one where koniq10k_distributions_sets.csv, from "
            "https://github.com/subpic/koniq (metadata/), lies beside its scores"
        )
    return Split(tuple(sets["training"]), tuple(sets["test"]))
