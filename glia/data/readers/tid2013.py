"""Tampere Image Database 2013 (Ponomarenko et al.)."""

from pathlib import Path

from glia.data.readers.published import Published
from glia.data.samples import ListedDataset, Sample
from glia_runtime.manifest import ScoreScale

TID2013 = Published(
    title="TID2013",
    page="https://www.ponomarenko.info/tid2013.htm",
    scale=ScoreScale(0, 9, True, "tid2013"),
    pictures=3000,
    references=25,
)


def open_tid2013(root: Path) -> ListedDataset:
    """Read mos_with_names.txt ("5.51429 I01_01_1.bmp": picture, type, level); pictures lie in distorted_images."""
    labels = TID2013.require(root, "mos_with_names.txt")
    samples = []
    with TID2013.reading(labels):
        for line in labels.read_text(encoding="utf-8").splitlines():
            if line.strip():
                score, name = line.split()
                reference, kind, level = Path(name.lower()).stem.split("_")  # I25 and i25 are one picture
                samples.append(Sample(Path(name), float(score), reference, kind, float(level)))
    return TID2013.dataset(labels, TID2013.require(root, "distorted_images"), samples)
