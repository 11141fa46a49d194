"""Rated pictures: samples, datasets, splits and training views."""

from glia.data.registry import list_datasets, open_dataset
from glia.data.samples import Dataset, ListedDataset, Sample, Subset
from glia.data.splits import Split, make_split, make_splits, official_split

__all__ = [
    "Dataset",
    "ListedDataset",
    "Sample",
    "Split",
    "Subset",
    "list_datasets",
    "make_split",
    "make_splits",
    "official_split",
    "open_dataset",
]
