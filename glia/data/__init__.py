"""Rated pictures: samples, datasets and training views."""

from glia.data.registry import list_datasets, open_dataset
from glia.data.samples import Dataset, Sample

__all__ = ["Dataset", "Sample", "list_datasets", "open_dataset"]
