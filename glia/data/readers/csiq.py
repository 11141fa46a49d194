"""Categorical Subjective Image Quality database (Larson, Chandler)."""

from pathlib import Path

from glia.data.readers.published import Published
from glia.data.readers.tables import read_xlsx
from glia.data.samples import ListedDataset, Sample
from glia_runtime.manifest import ScoreScale

CSIQ = Published(
    title="CSIQ",
    page="https://s2.smu.edu/~eclarson/csiq.html",
    scale=ScoreScale(0, 1, False, "csiq"),
    pictures=866,
    references=30,
)
# What csiq.DMOS.xlsx calls a type, and what the names of its pictures do.
_TYPES = {
    "noise": "AWGN",
    "blur": "BLUR",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "jpeg": "JPEG",
    "jpeg 2000": "jpeg2000",
}


def open_csiq(root: Path) -> ListedDataset:
    """Read csiq.DMOS.xlsx or, where it is missing, csiq_label.txt, the same in the form that HyperIQA ships it.

    Pictures lie in one folder (dst_imgs_all, all_dis_imgs or dst_imgs), or in dst_imgs in one per type.
    """
    labels = CSIQ.require(root, "csiq.DMOS.xlsx", "csiq_label.txt")
    with CSIQ.reading(labels):
        scores = _from_workbook(labels) if labels.suffix.lower() == ".xlsx" else _from_text(labels)
        folder = CSIQ.require(root, "dst_imgs_all", "all_dis_imgs", "dst_imgs")
        by_type = CSIQ.find(folder, "AWGN") is not None
        samples = []
        for name in sorted(scores):  # so that splits do not depend on which file was read
            reference, kind, level, _ = name.rsplit(".", 3)
            path = Path(kind, name) if by_type else Path(name)
            samples.append(Sample(path, scores[name], reference, kind, float(level)))
    return CSIQ.dataset(labels, folder, samples)


def _from_workbook(path: Path) -> dict[str, float]:
    rows = read_xlsx(path, "image", "dst_type", "dst_lev", "dmos", sheet="all_by_image")
    return {f"{row['image']}.{_TYPES[row['dst_type']]}.{int(row['dst_lev'])}.png": float(row["dmos"]) for row in rows}


def _from_text(path: Path) -> dict[str, float]:
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {name: float(score) for name, score in rows}
