"""FLIVE, also LIVE-FB: the pictures of PaQ-2-PiQ (Ying et al.)."""

from pathlib import Path

from glia.data.readers.published import Published
from glia.data.readers.tables import read_csv
from glia.data.samples import ListedDataset, Sample
from glia_runtime.manifest import ScoreScale

FLIVE = Published(
    title="FLIVE",
    page="https://github.com/baidut/PaQ-2-PiQ",
    scale=ScoreScale(0, 100, True, "flive"),
    pictures=39810,
)


def open_flive(root: Path) -> ListedDataset:
    """Read labels_image.csv (name with its folder, mos); pictures lie in database or beside it."""
    labels = FLIVE.require(root, "labels_image.csv")
    with FLIVE.reading(labels):
        rows = read_csv(labels, "name", "mos")
        samples = [Sample(Path(row["name"]), float(row["mos"]), row["name"]) for row in rows]
    return FLIVE.dataset(labels, FLIVE.find(root, "database") or root, samples)
