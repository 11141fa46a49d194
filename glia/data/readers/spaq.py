"""Smartphone Photography Attribute and Quality database (Fang, Zhu, Zeng, Ma, Wang)."""

from pathlib import Path

from glia.data.readers.published import Published
from glia.data.readers.tables import read_xlsx
from glia.data.samples import ListedDataset, Sample
from glia_runtime.manifest import ScoreScale

SPAQ = Published(
    title="SPAQ",
    page="https://github.com/h4nwei/SPAQ",
    scale=ScoreScale(0, 100, True, "spaq"),
    pictures=11125,
)
_WORKBOOK = "MOS and Image attribute scores.xlsx"


def open_spaq(root: Path) -> ListedDataset:
    """Read "Annotations/MOS and Image attribute scores.xlsx"; pictures lie in TestImage."""
    labels = SPAQ.require(root, f"Annotations/{_WORKBOOK}", _WORKBOOK)
    with SPAQ.reading(labels):
        rows = read_xlsx(labels, "Image name", "MOS")
        samples = [Sample(Path(row["Image name"]), float(row["MOS"]), row["Image name"]) for row in rows]
        # What raters said of sharpness goes along with what they said of quality. Scores alone can be used, too.
        rated = all(row.get("Sharpness") is not None for row in rows)
        evidence = [float(row["Sharpness"]) for row in rows] if rated else None
    return SPAQ.dataset(labels, SPAQ.require(root, "TestImage", "Dataset/TestImage"), samples, evidence=evidence)
