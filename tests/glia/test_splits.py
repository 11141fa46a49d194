"""Splits never separate pictures of one reference, and are the same everywhere."""

import hashlib
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glia.data import ListedDataset, Sample, Split, Subset, make_splits, official_split
from glia.data.synthetic import SyntheticDataset
from glia_runtime.errors import UsageError
from glia_runtime.manifest import ScoreScale

from .dataset_trees import PICTURE


def dataset(references: Sequence[str]) -> ListedDataset:
    samples = [Sample(PICTURE, float(index), name) for index, name in enumerate(references)]
    return ListedDataset("some", ScoreScale(0, 100, True, "some"), samples)


def digest(splits: Sequence[Split]) -> str:
    """One number for all index lists of some splits."""
    return hashlib.sha256(json.dumps([(split.train, split.test) for split in splits]).encode()).hexdigest()[:16]


@given(st.lists(st.text(), min_size=2).filter(lambda names: len(set(names)) > 1), st.integers(0, 2**40))
def test_every_sample_is_on_one_side_with_its_reference(references: list[str], seed: int) -> None:
    for split in make_splits(dataset(references), count=3, seed=seed):
        assert sorted((*split.train, *split.test)) == list(range(len(references)))
        assert split.train and split.test
        assert not {references[i] for i in split.train} & {references[i] for i in split.test}


# int(.8 * 29), 24, 20 and round(.8 * 81): as many references as LoDa trains on.
@pytest.mark.parametrize(("references", "trained"), [(29, 23), (30, 24), (25, 20), (81, 65), (2, 1), (3, 2)])
def test_four_fifths_of_the_references_are_trained_on(references: int, trained: int) -> None:
    names = [str(index // 2) for index in range(2 * references)]
    splits = make_splits(dataset(names))
    assert [len(split.train) for split in splits] == [2 * trained] * 10
    assert len({split.test for split in splits}) > 1


def test_splits_depend_on_names_and_seed_alone() -> None:
    names = [f"reference {index % 40}" for index in range(100)]
    splits = make_splits(dataset(names), count=10, seed=0)
    assert digest(splits) == "464e20be9c500d95"
    assert splits[:3] == make_splits(dataset(names), count=3, seed=0)
    assert splits != make_splits(dataset(names), count=10, seed=1)
    backwards = make_splits(dataset(names[::-1]), count=10, seed=0)
    for forward, backward in zip(splits, backwards, strict=True):
        assert {names[i] for i in forward.train} == {names[::-1][i] for i in backward.train}


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^1 reference picture"):
        make_splits(dataset(["a", "a"]))
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            make_splits(dataset(["a", "b"]), train_share=share)
    with pytest.raises(UsageError, match="no official split"):
        official_split(dataset(["a", "b"]))


def test_a_series_of_the_synthetic_dataset_stays_together() -> None:
    series = SyntheticDataset(5)
    names = [f"synthetic/0/{index // 6}" for index in range(len(series))]
    (split,) = make_splits(dataset(names), count=1)
    test = Subset(series, split.test)
    assert len(test) == 6 and test.name == "synthetic" and test.scale == series.scale
    assert {tuple(group) for group in test.groups} == {tuple(range(6))}
    assert test[5].reference == names[split.test[5]] and test[5].level > 4


def test_a_subset_keeps_what_is_left_of_a_group() -> None:
    part = Subset(SyntheticDataset(2), [7, 0, 1])
    assert {tuple(group) for group in part.groups} == {(1, 2), (0,)}
