"""LIVE In the Wild Image Quality Challenge Database (Ghadiyaram, Bovik)."""

from pathlib import Path

from glia.data.readers.published import Published
from glia.data.readers.tables import read_mat
from glia.data.samples import ListedDataset, Sample
from glia_runtime.manifest import ScoreScale

LIVEC = Published(
    title="LIVE Challenge",
    page="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    scale=ScoreScale(0, 100, True, "livec"),
    pictures=1162,
)
_PRACTICE = 7  # pictures that raters were shown first, which the literature leaves out


def open_livec(root: Path) -> ListedDataset:
    """Read Data/AllImages_release.mat and Data/AllMOS_release.mat; pictures lie in Images."""
    names_file = LIVEC.require(root, "Data/AllImages_release.mat")
    with LIVEC.reading(names_file):
        names = [str(name) for name in read_mat(names_file)["AllImages_release"]]
    labels = LIVEC.require(root, "Data/AllMOS_release.mat")
    with LIVEC.reading(labels):
        scores = [float(score) for score in read_mat(labels)["AllMOS_release"]]
    if len(names) != len(scores):
        raise LIVEC.error(f"{labels}: {len(scores)} scores for {len(names)} names; download it again")
    samples = [Sample(Path(name), score, name) for name, score in zip(names, scores, strict=True)]
    return LIVEC.dataset(labels, LIVEC.require(root, "Images"), samples[_PRACTICE:])
