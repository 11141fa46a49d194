"""A user's own list of pictures and ratings."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glia.data import make_splits, open_dataset
from glia_runtime.errors import DatasetError, GliaError, ImageError, UsageError
from glia_runtime.manifest import ScoreScale

from .dataset_trees import PICTURE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three readable pictures, and one that is not."""
    (tmp_path / "my pictures").mkdir()
    for name in ("a.png", "b.png", "ü,c.png"):
        Image.fromarray(PICTURE).save(tmp_path / "my pictures" / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def listed(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "my.csv"
    path.write_text(text, encoding=encoding, newline="")
    return path


def test_paths_scores_and_references(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = folder / "my pictures" / "b.png"
    text = f'path,rater,score\r\nmy pictures/a.png,x,3.5\r\n{absolute},y,1\r\n\r\n"my pictures/ü,c.png",z, 2e0 \r\n'
    path = listed(folder, text, "utf-8-sig")  # as Excel writes it
    monkeypatch.chdir("/")  # relative paths start from the file's folder
    dataset = open_dataset("csv", path)
    assert (dataset.name, len(dataset)) == ("my", 3)
    assert dataset.scale == ScoreScale(1.0, 3.5, True, "my")
    assert [sample.score for sample in map(dataset.__getitem__, range(3))] == [3.5, 1.0, 2.0]
    assert [dataset[i].path for i in range(3)] == [folder / "my pictures" / n for n in ("a.png", "b.png", "ü,c.png")]
    assert [dataset[i].reference for i in (0, 2)] == ["my pictures/a.png", "my pictures/ü,c.png"]
    assert np.array_equal(dataset[2].image, PICTURE)
    assert dataset.groups == [(0,), (1,), (2,)]


def test_a_scale_of_ones_own_and_references(folder: Path) -> None:
    names = ["my pictures/a.png", "my pictures/b.png", "broken.png"]
    rows = "".join(f"{name},{index},scene {index // 2}\n" for index, name in enumerate(names))
    path = listed(folder, f"path,score,reference\n{rows}")
    dataset = open_dataset("csv", str(path), higher_is_better=False, minimum=0, maximum=9)
    assert dataset.scale == ScoreScale(0, 9, False, "my")
    for split in make_splits(dataset):
        assert {split.train, split.test} == {(0, 1), (2,)}


def test_no_picture_is_decoded_before_it_is_asked_for(folder: Path) -> None:
    dataset = open_dataset("csv", listed(folder, "path,score\nbroken.png,1\nmy pictures/a.png,2\n"))
    assert [dataset[i].score for i in range(2)] == [1.0, 2.0]
    assert len(make_splits(dataset)) == 10
    with pytest.raises(ImageError, match=r"broken\.png"):
        _ = dataset[0].image


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("broken.png,3\n", "no column path and no column score"),
        ("path,mos\nbroken.png,3\n", "no column score; its first line must be: path,score"),
        ("", "no column"),
        ("path,score\n", "holds no rows"),
        ("path,score\nbroken.png,3\nbroken.png,three\nbroken.png\n", r"line 3: score 'three'; line 4: score ''"),
        ("path,score\nbroken.png,nan\n,1\n", "line 2: score 'nan'; line 3: no path"),
        ("path,score\nbroken.png,1\nbroken.png,1\n", "at least two must differ"),
        ("path,score\nbroken.png,1\ngone.png,2\n", r"line 3: .*gone\.png \(no such file\)"),
        ("path,score\n" + "gone.png,1\n" * 5 + "broken.png,2\n", "and 2 more"),
        ("path,score\nbroken.png,1\nbroken.png,\udce9\n", "cannot be read as CSV"),
    ],
)
def test_what_is_wrong_is_named_by_line(folder: Path, text: str, message: str) -> None:
    path = folder / "my.csv"
    path.write_bytes(os.fsencode(text))
    with pytest.raises(DatasetError, match=message) as raised:
        open_dataset("csv", path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_a_score_outside_the_given_scale_is_named_by_line(folder: Path) -> None:
    path = listed(folder, "path,score\nbroken.png,1\nbroken.png,6\n")
    with pytest.raises(DatasetError, match=r"line 3: score 6 \(outside 1 to 5\)"):
        open_dataset("csv", path, minimum=1, maximum=5)


def test_no_file_is_one_line(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(DatasetError, match="cannot be read as CSV"):
            open_dataset("csv", root)
    with pytest.raises(UsageError, match="--root"):
        open_dataset("csv")
    with pytest.raises(GliaError, match="unknown dataset"):
        open_dataset("cvs", tmp_path)
