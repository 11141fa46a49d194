"""The readers of published datasets, each on a tree in the dataset's own format."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from glia.data import Dataset, Sample, Split, make_splits, official_split, open_dataset
from glia.training.run import split_dataset
from glia_runtime.errors import DatasetError, UsageError
from glia_runtime.manifest import ScoreScale

from . import dataset_trees as trees
from .dataset_trees import PICTURE, TREES, Labels

WHERE = {
    "live": "https://live.ece.utexas.edu/",
    "csiq": "https://s2.smu.edu/",
    "tid2013": "https://www.ponomarenko.info/",
    "kadid": "https://database.mmsp-kn.de/",
    "livec": "https://live.ece.utexas.edu/",
    "koniq": "https://database.mmsp-kn.de/",
    "spaq": "https://github.com/h4nwei/SPAQ",
    "flive": "https://github.com/baidut/PaQ-2-PiQ",
}
# Of the index lists of ten splits with seed 0. A change here is a change of every published result.
MADE_UP_SPLITS = {
    "live": "c56d73549c0acf23",
    "csiq": "f811c32c270d3c8c",
    "tid2013": "5b1335819fa084b1",
    "kadid": "ce95f69235c097b8",
    "livec": "5cfd0967b462f3a3",
    "koniq": "f5aec594b5ffc3ba",
    "spaq": "ad64a89603d76512",
    "flive": "a1e36636c1f47d28",
}
# The made-up names of TID2013, KADID-10k and SPAQ are the true ones.
TRUE_SPLITS = MADE_UP_SPLITS | {
    "live": "3c832c1d8104d12f",
    "csiq": "60732596417660e6",
    "livec": "a2da903b14fa09fe",
    "koniq": "3980482fd9b69cba",
}


def digest(splits: Sequence[Split]) -> str:
    return hashlib.sha256(json.dumps([(split.train, split.test) for split in splits]).encode()).hexdigest()[:16]


def samples_of(dataset: Dataset) -> list[Sample]:
    return [dataset[index] for index in range(len(dataset))]


def key(name: str, path: str | Path) -> str:
    """What tells pictures apart: LIVE's folders each begin with img1.bmp."""
    return "/".join(Path(path).parts[-2 if name == "live" else -1 :]).lower()


def check(name: str, root: Path, labels: Labels) -> list[Split]:
    """Everything that must come out of a tree; returns the splits."""
    tree = TREES[name]
    dataset = open_dataset(name, root)
    samples = samples_of(dataset)
    assert (dataset.name, len(dataset)) == (name, tree.pictures)
    assert dataset.scale == ScoreScale(*tree.ends, tree.higher_is_better, name)
    assert len({sample.reference for sample in samples}) == tree.references
    scores = {key(name, label.path): label.score for label in labels}
    assert len({sample.path for sample in samples}) == len(scores) == tree.pictures
    read = np.array([sample.score for sample in samples])
    listed = np.array([scores[key(name, sample.path)] for sample in samples if sample.path])
    np.testing.assert_allclose(read, listed, rtol=0, atol=1e-6)  # the text files have five or six decimals
    quality = {level: [dataset.scale.quality(s.score) for s in samples if s.level == level] for level in (1, 5)}
    assert not quality[1] or np.mean(quality[1]) > np.mean(quality[5]) + 20  # DMOS, too, turned the right way
    assert np.abs(samples[-1].image - PICTURE.astype(float)).max() <= 2  # JPEG is not exact
    splits = make_splits(dataset)
    for split in splits:
        trained, tested = ({samples[i].reference for i in side} for side in (split.train, split.test))
        assert not trained & tested and len(trained) == tree.trained
        assert sorted((*split.train, *split.test)) == list(range(tree.pictures))
    return splits


@pytest.mark.parametrize("name", TREES)
def test_a_tree_of_made_up_labels(name: str, tmp_path: Path) -> None:
    labels = TREES[name].made_up()
    TREES[name].lay(tmp_path / name, labels)
    assert digest(check(name, tmp_path / name, labels)) == MADE_UP_SPLITS[name]


@pytest.mark.skipif(not trees.TRUE_LABELS.is_dir(), reason="the true label lists do not lie beside the checkout")
@pytest.mark.parametrize("name", [name for name, tree in TREES.items() if tree.true])
def test_a_tree_of_the_true_labels(name: str, tmp_path: Path) -> None:
    true = TREES[name].true
    assert true is not None
    labels = true()
    TREES[name].lay(tmp_path / name, labels)
    assert digest(check(name, tmp_path / name, labels)) == TRUE_SPLITS[name]


def small(name: str, root: Path) -> Labels:
    """A tree that is quickly made and damaged."""
    labels = TREES[name].made_up()
    TREES[name].lay(root, labels)
    return labels


def test_live_reads_the_older_scores_where_the_realigned_are_missing(tmp_path: Path) -> None:
    labels = trees.made_up_live()
    trees.lay_live(tmp_path / "live", labels, realigned=False)
    dataset = open_dataset("live", tmp_path / "live")
    assert len(dataset) == 779 and dataset.name == "live"
    assert dataset.scale == ScoreScale(0, 100, False, "live (dmos.mat)")


@pytest.mark.parametrize("folder", ["dst_imgs_all", "ALL_dis_imgs", "dst_imgs"])
def test_csiq_as_others_lay_it_out_has_the_same_splits(folder: str, tmp_path: Path) -> None:
    labels = trees.made_up_csiq()
    trees.lay_csiq_flat(tmp_path / "csiq", labels, folder)
    assert digest(check("csiq", tmp_path / "csiq", labels)) == MADE_UP_SPLITS["csiq"]


def test_the_official_split_of_koniq_and_its_other_scores(tmp_path: Path) -> None:
    root = tmp_path / "koniq"
    labels = small("koniq", root)
    with pytest.raises(UsageError, match=r"koniq10k_distributions_sets\.csv"):
        official_split(open_dataset("koniq", root))
    trees.lay_koniq_sets(root, labels)
    dataset = open_dataset("koniq", root, column="MOS_zscore")
    assert dataset.scale == ScoreScale(0, 100, True, "koniq") and dataset[0].score == pytest.approx(2.5)
    split = official_split(dataset)
    assert (len(split.train), len(split.test)) == (7058, 2015)
    assert split_dataset(dataset, "official") == split  # what --split official says
    assert split.test == tuple(range(2015))  # the tests' own list runs backwards: names count, not places


@pytest.mark.parametrize("name", ["live", "csiq", "tid2013", "livec"])
def test_an_incomplete_download_says_how_many_files_are_missing(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    small(name, root)
    whole = samples_of(open_dataset(name, root))
    gone = [whole[place].path for place in (4, 5, 6, 7)]
    for path in gone:
        assert path is not None
        path.unlink()
    with pytest.raises(DatasetError) as raised:
        open_dataset(name, root)
    message = str(raised.value)
    assert f": 4 of {len(whole)} pictures are missing (" in message and ", ...)" in message and "\n" not in message
    assert all(path is not None and path.name.lower() in message.lower() for path in gone[:3])
    assert WHERE[name] in message


@pytest.mark.parametrize("name", TREES)
def test_a_folder_without_the_dataset_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"^\S*none: no such folder; name the one that holds .*; .* offered at "
    ) as raised:
        open_dataset(name, tmp_path / "none")
    assert WHERE[name] in str(raised.value)
    with pytest.raises(DatasetError, match=r"holds no .*; name the folder that does; .* offered at "):
        open_dataset(name, tmp_path)
    with pytest.raises(UsageError, match="--root"):
        open_dataset(name)


def test_a_folder_of_pictures_that_is_missing(tmp_path: Path) -> None:
    small("tid2013", tmp_path / "tid")
    shutil.rmtree(tmp_path / "tid" / "distorted_images")
    with pytest.raises(DatasetError, match=r"holds no distorted_images; .* https://www\.ponomarenko\.info/"):
        open_dataset("tid2013", tmp_path / "tid")


def test_a_damaged_list_is_one_line(tmp_path: Path) -> None:
    for name, lists in {
        "livec": "Data/AllMOS_release.mat",
        "spaq": "Annotations/MOS and Image attribute scores.xlsx",
        "flive": "labels_image.csv",
        "tid2013": "mos_with_names.txt",
        "csiq": "csiq.DMOS.xlsx",
    }.items():
        root = tmp_path / name
        if name == "livec":
            small(name, root)
        (root / lists).parent.mkdir(parents=True, exist_ok=True)
        (root / lists).write_bytes(b"cut \xff short")
        with pytest.raises(DatasetError, match="not as it was published") as raised:
            open_dataset(name, root)
        assert str(root / lists) in str(raised.value) and "\n" not in str(raised.value)


def test_a_scores_file_cut_short_is_one_line(tmp_path: Path) -> None:
    small("livec", tmp_path / "livec")
    path = tmp_path / "livec" / "Data" / "AllMOS_release.mat"
    whole = path.read_bytes()
    for length in (0, 100, 130, 200, len(whole) - 100):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"AllMOS_release\.mat: (not as it was published|\d+ scores)"):
            open_dataset("livec", tmp_path / "livec")


def changed_at(labels: Labels, place: int, **fields: Any) -> Labels:
    return [replace(label, **fields) if index == place else label for index, label in enumerate(labels)]


def test_a_list_of_another_length_scale_or_pairing_is_refused(tmp_path: Path) -> None:
    labels = trees.made_up_kadid()
    other = changed_at(labels, 7, reference="I02.png")
    cases = [
        (labels[:-5], "lists 10120 pictures instead of 10125"),
        (changed_at(labels, 7, score=5.5), "I01_02_03.png has a score of 5.5, outside 1 to 5"),
        (changed_at(labels, 7, score=float("nan")), "a score of nan"),
        (other, r"I01_02_03\.png is listed as made from I02"),
    ]
    for number, (changed, message) in enumerate(cases):
        root = tmp_path / str(number)
        (root / "images").mkdir(parents=True)
        rows = [(label.path, label.reference, label.score, 0.5) for label in changed]
        trees.write_csv(root / "dmos.csv", "dist_img,ref_img,dmos,var", rows)
        with pytest.raises(DatasetError, match=message):
            open_dataset("kadid", root)


def test_scores_that_run_the_wrong_way_are_refused(tmp_path: Path) -> None:
    for name in ("csiq", "tid2013"):
        low, high = TREES[name].ends
        labels = [replace(label, score=low + high - label.score) for label in TREES[name].made_up()]
        TREES[name].lay(tmp_path / name, labels)
    trees.lay_live(tmp_path / "live", trees.made_up_live())
    live = loadmat(tmp_path / "live" / "dmos_realigned.mat")
    savemat(tmp_path / "live" / "dmos_realigned.mat", {"dmos_new": 100 - live["dmos_new"], "orgs": live["orgs"]})
    (tmp_path / "koniq" / "1024x768").mkdir(parents=True)
    rows = [(place, *(0, 10_073 - place, 0, place, 0), 10_073, 4.5 - place / 5000) for place in range(10_073)]
    path = tmp_path / "koniq" / "koniq10k_scores_and_distributions.csv"
    trees.write_csv(path, "image_name,c1,c2,c3,c4,c5,c_total,MOS", rows)
    (tmp_path / "spaq" / "TestImage").mkdir(parents=True)
    ranks = [(f"{place:05}.jpg", 90 - place / 200, 10 + place / 200) for place in range(1, 11_126)]
    trees.write_xlsx(
        tmp_path / "spaq" / "MOS and Image attribute scores.xlsx", (("Image name", "MOS", "Sharpness"), *ranks)
    )
    for name in ("csiq", "tid2013", "live", "koniq", "spaq"):
        with pytest.raises(DatasetError, match=r"run the wrong way|undistorted pictures score worse"):
            open_dataset(name, tmp_path / name)
