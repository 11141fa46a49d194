"""Konstanz Artificially Distorted Image quality Database (Lin, Hosu, Saupe)."""

from pathlib import Path

from glia.data.readers.published import Published
from glia.data.readers.tables import read_csv
from glia.data.samples import ListedDataset, Sample
from glia.data.synthetic import KADID_DISTORTIONS
from glia_runtime.manifest import ScoreScale

KADID = Published(
    title="KADID-10k",
    page="https://database.mmsp-kn.de/kadid-10k-database.html",
    scale=ScoreScale(1, 5, True, "kadid"),  # the column is called dmos, and higher is better
    pictures=10125,
    references=81,
)


def open_kadid(root: Path) -> ListedDataset:
    """Read dmos.csv (dist_img, ref_img, dmos, var); pictures lie in images, "I01_02_03.png": picture, type, level."""
    labels = KADID.require(root, "dmos.csv")
    samples = []
    with KADID.reading(labels):
        for row in read_csv(labels, "dist_img", "ref_img", "dmos"):
            name, reference = row["dist_img"], Path(row["ref_img"]).stem
            picture, kind, level = Path(name).stem.split("_")
            if picture.lower() != reference.lower():
                raise KADID.error(f"{labels}: {name} is listed as made from {reference}; download it again")
            distortion = KADID_DISTORTIONS[int(kind) - 1]
            samples.append(Sample(Path(name), float(row["dmos"]), reference, distortion, float(level)))
    return KADID.dataset(labels, KADID.require(root, "images"), samples)
