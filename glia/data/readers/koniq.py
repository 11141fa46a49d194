"""KonIQ-10k (Hosu, Lin, Sziranyi, Saupe)."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from glia.data.readers.published import Published
from glia.data.readers.tables import read_csv
from glia.data.samples import ListedDataset, Sample
from glia_runtime.manifest import ScoreScale

KONIQ = Published(
    title="KonIQ-10k",
    page="https://database.mmsp-kn.de/koniq-10k-database.html",
    scale=ScoreScale(1, 5, True, "koniq"),
    pictures=10073,
)
_VOTES = ("c1", "c2", "c3", "c4", "c5")


def open_koniq(root: Path, *, column: Literal["MOS", "MOS_zscore"] = "MOS") -> ListedDataset:
    """Read koniq10k_scores_and_distributions.csv; pictures lie in 1024x768.

    Where koniq10k_distributions_sets.csv lies beside it (from the authors' https://github.com/subpic/koniq), the
    dataset has their sets: training, validation and test. That file's own MOS is on another scale and is not read.

    Args:
        root: the folder.
        column: the scores. LoDa, and so GLIANet, trains on MOS (1 to 5), HyperIQA and DEIQT on MOS_zscore (0 to 100).
    """
    published = KONIQ if column == "MOS" else replace(KONIQ, scale=replace(KONIQ.scale, minimum=0, maximum=100))
    labels = published.require(root, "koniq10k_scores_and_distributions.csv")
    with published.reading(labels):
        rows = read_csv(labels, "image_name", column, *_VOTES)
        samples = [Sample(Path(row["image_name"]), float(row[column]), row["image_name"]) for row in rows]
        votes = [sum(rating * float(row[c]) for rating, c in enumerate(_VOTES, 1)) for row in rows]
        raters = [sum(float(row[c]) for c in _VOTES) for row in rows]
        evidence = [total / max(count, 1) for total, count in zip(votes, raters, strict=True)]
    folder = published.require(root, "1024x768")
    return published.dataset(labels, folder, samples, evidence=evidence, sets=_sets(root, samples))


def _sets(root: Path, samples: list[Sample]) -> dict[str, list[int]]:
    path = KONIQ.find(root, "koniq10k_distributions_sets.csv", "metadata/koniq10k_distributions_sets.csv")
    if path is None:
        return {}
    sets: dict[str, list[int]] = {}
    with KONIQ.reading(path):
        belongs = {row["image_name"]: row["set"] for row in read_csv(path, "image_name", "set")}
        for index, sample in enumerate(samples):
            sets.setdefault(belongs[sample.reference], []).append(index)
    return sets
