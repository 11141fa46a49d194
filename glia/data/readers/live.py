"""LIVE Image Quality Assessment Database, release 2 (Sheikh, Wang, Cormack, Bovik)."""

from dataclasses import replace
from pathlib import Path

from glia.data.readers.published import Published
from glia.data.readers.tables import read_mat
from glia.data.samples import ListedDataset, Sample
from glia_runtime.manifest import ScoreScale

LIVE = Published(
    title="LIVE",
    page="https://live.ece.utexas.edu/research/quality/subjective.htm",
    scale=ScoreScale(0, 100, False, "live"),
    pictures=779,
    references=29,
    overshoot=12,  # the realigned DMOS go from -2.64 to 111.77
)
# The order of the scores, as the readme says: folder by folder, img1.bmp onwards.
_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def open_live(root: Path) -> ListedDataset:
    """Read dmos_realigned.mat, where it is missing dmos.mat, and refnames_all.mat; undistorted pictures are left out.

    The realigned DMOS are those that the literature reports on; the scale's `dataset` says so where others were read.
    """
    labels = LIVE.require(root, "dmos_realigned.mat", "dmos.mat")
    realigned = "realigned" in labels.name.lower()
    with LIVE.reading(labels):
        table = read_mat(labels)
        scores, original = table["dmos_new" if realigned else "dmos"], table["orgs"].astype(bool)
    references = LIVE.require(root, "refnames_all.mat")
    with LIVE.reading(references):
        names = read_mat(references)["refnames_all"]
    places = [(folder, number) for folder, count in _FOLDERS.items() for number in range(1, count + 1)]
    if not len(places) == len(scores) == len(original) == len(names):
        raise LIVE.error(f"{labels}: {len(scores)} scores and {len(names)} reference names instead of {len(places)}")
    if scores[original].sum() > 0 and scores[original].mean() > scores[~original].mean():
        raise LIVE.error(f"{labels}: undistorted pictures score worse than distorted ones; download it again")
    samples = [
        Sample(Path(folder, f"img{number}.bmp"), float(score), str(name), folder)
        for (folder, number), score, name, left_out in zip(places, scores, names, original, strict=True)
        if not left_out
    ]
    dataset = LIVE.dataset(labels, root, samples)
    return dataset if realigned else replace(dataset, scale=replace(LIVE.scale, dataset="live (dmos.mat)"))
