"""Whether a model was trained on what it is evaluated on, as far as its checkpoint can tell."""

from pathlib import Path

from glia.data import Dataset, Subset
from glia.evaluation.scoring import is_checkpoint
from glia.models.checkpoint import read_training
from glia.training.record import labels_digest
from glia.training.run import ALL, OFFICIAL, SYNTHETIC, split_dataset
from glia_runtime.errors import UsageError

# Datasets of one's own are known by their labels; published ones, by their name.
_OWN = ("csv", "hf", "saqt")


def seen_in_training(model: str, name: str, dataset: Dataset, root: str | None, tested: str | None) -> str:
    """One line for people where pictures that a model was trained on are among those that it is evaluated on.

    Args:
        model: a checkpoint; of anything else nothing is known.
        name: of the dataset, in the registry.
        dataset: the whole of it.
        root: where it lies.
        tested: the split of which the test part alone is evaluated; None for more than a test part.

    Returns:
        The line; "" where nothing is known, or all is well.
    """
    facts = read_training(Path(model)) if is_checkpoint(Path(model)) else {}
    split = facts.get("split")  # earlier checkpoints have none
    if split is None or name == SYNTHETIC or facts.get("dataset") != name or tested == split:
        return ""
    if name in _OWN and facts.get("labels") != _labels(dataset, root or "", split, facts.get("train_share", 0.8)):
        return ""
    if split == ALL:
        return f"{model} was trained on every picture of {name}, so these figures are too good"
    shown = OFFICIAL if split == OFFICIAL else f"split {split}"
    return (
        f"{model} was trained on part of these pictures of {name} ({shown}), so these figures are too good; "
        f"evaluate it with --split {split}"
    )


def _labels(dataset: Dataset, root: str, split: str, share: float) -> str | None:
    """What the labels of a run on this dataset would be recorded as."""
    try:
        parts = split_dataset(dataset, split, share)
    except UsageError:  # no such split here, so it is another dataset
        return None
    return labels_digest((Subset(dataset, parts.train), Subset(dataset, parts.test)), root)
