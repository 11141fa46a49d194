"""What is read of a dataset before training starts: enough to learn the labels' mean and spread."""

import numpy as np
from rich.console import Console

from glia.data import Dataset, Sample, Subset
from glia.training.log import progress

SERIES_READ = 40
"""Of drawn ones: 200 labels give both to a few percent, all that scaling needs."""
# The same of files: more than any rated dataset has, but datasets of transferred labels have millions.
_FILES_READ = 50_000


def labelled_samples(dataset: Dataset, console: Console) -> list[Sample]:
    """Samples to learn the labels from: all where nothing is drawn for it, else some series, which takes its time."""
    if isinstance(dataset, Subset):
        chosen = np.random.default_rng(0).permutation(len(dataset))[:_FILES_READ]
        return [dataset[index] for index in sorted(chosen.tolist())]
    groups = dataset.groups
    spread = np.linspace(0, len(groups) - 1, min(len(groups), SERIES_READ)).astype(int)
    samples: list[Sample] = []
    with progress(console, "reading labels", len(spread)) as advance:
        for place in spread:
            samples += [dataset[index] for index in groups[place]]
            advance()
    return samples
