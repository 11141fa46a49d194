"""A user's own pictures and ratings, saved by the Hugging Face library."""

import io
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from glia.data import make_splits, open_dataset
from glia.models import load_checkpoint
from glia.models.registry import model_config
from glia.training.fit import FitConfig
from glia.training.run import RunConfig, train
from glia_runtime.errors import DatasetError, ImageError, MissingExtraError, UsageError
from glia_runtime.manifest import ScoreScale

from .dataset_trees import PICTURE


def encoded(turned: bool = False) -> bytes:
    """A PNG; `turned` stores it on its side, with the EXIF tag that says so."""
    stored = Image.fromarray(np.rot90(PICTURE) if turned else PICTURE)  # quarter to the left
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def saved(folder: Path, **columns: Any) -> Path:
    features = datasets.Features({name: datasets.Value("float64") for name in columns})
    features["image"] = datasets.Image()
    for name in ("reference", "mos"):
        if name in columns:
            features[name] = datasets.Value("string" if name == "reference" else "int64")
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder / "rated")
    return folder / "rated"


def pictures(*data: bytes | None) -> list[dict[str, bytes | None] | None]:
    return [None if item is None else {"bytes": item, "path": None} for item in data]


def test_a_saved_dataset_is_read_as_files_are(tmp_path: Path) -> None:
    root = saved(tmp_path, image=pictures(encoded(), encoded(True), b"no picture", None), score=[1.5, 2, 3, 4.5])
    dataset = open_dataset("hf", root)
    assert (dataset.name, len(dataset)) == ("rated", 4) and dataset.scale == ScoreScale(1.5, 4.5, True, "rated")
    assert [dataset[row].score for row in range(4)] == [1.5, 2, 3, 4.5]
    assert dataset[0].path is None and len({dataset[row].reference for row in range(4)}) == 4
    for row in (0, 1):
        assert np.array_equal(dataset[row].image, PICTURE)
    for row, reason in ((2, "rated, row 2: "), (3, "rated, row 3: holds no picture")):
        with pytest.raises(ImageError, match=reason):
            _ = dataset[row].image


def test_a_model_trains_on_it(tmp_path: Path) -> None:
    root = saved(tmp_path, image=pictures(*[encoded()] * 10), score=[float(row) for row in range(10)])
    fit = FitConfig(steps=2, batch_size=4, evaluate_every=2, select="last")
    model = model_config("glianet", backbone="test_vit", latent_dim=16, heads=2).to_dict()
    config = RunConfig(dataset="hf", root=str(root), architecture="glianet", model=model, fit=fit)
    console = Console(file=io.StringIO())
    with pytest.raises(UsageError, match="rated has no picture files that could be kept decoded; leave out --cache"):
        train(config, tmp_path / "cached", tmp_path / "cache", False, console)
    train(config, tmp_path / "run", None, False, console)
    scale = load_checkpoint(tmp_path / "run" / "model.pt").score_scale
    assert (scale.minimum, scale.maximum, scale.dataset) == (0, 9, "rated")


def test_columns_references_and_the_scale_can_be_named(tmp_path: Path) -> None:
    root = saved(tmp_path, image=pictures(*[encoded()] * 4), mos=[1, 2, 3, 4], reference=["a", "a", "b", "b"])
    dataset = open_dataset("hf", root, score="mos", higher_is_better=False, minimum=0, maximum=9)
    assert dataset.scale == ScoreScale(0, 9, False, "rated")
    assert all({split.train, split.test} == {(0, 1), (2, 3)} for split in make_splits(dataset))
    with pytest.raises(DatasetError, match=r"has the columns image, mos, reference, but no score"):
        open_dataset("hf", root)
    with pytest.raises(DatasetError, match=r"row 3: score 4 \(outside 0 to 3\)"):
        open_dataset("hf", root, score="mos", minimum=0, maximum=3)


def test_a_part_is_chosen_by_name(tmp_path: Path) -> None:
    rated = datasets.load_from_disk(str(saved(tmp_path, image=pictures(*[encoded()] * 2), score=[1, 2])))
    datasets.DatasetDict({"test": rated}).save_to_disk(tmp_path / "parts")
    assert len(open_dataset("hf", tmp_path / "parts", split="test")) == 2
    with pytest.raises(DatasetError, match="no dataset on disk or on the hub with a split 'train'"):
        open_dataset("hf", tmp_path / "parts")


def test_rows_without_a_score_are_named(tmp_path: Path) -> None:
    root = saved(tmp_path, image=pictures(*[encoded()] * 3), score=[1, None, float("nan")])
    with pytest.raises(DatasetError, match=r"row 1: score None; row 2: score nan"):
        open_dataset("hf", root)


def test_what_is_neither_on_disk_nor_on_the_hub_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for root in (tmp_path, Path("nobody/has-this")):
        with pytest.raises(DatasetError, match="name a folder that save_to_disk wrote, or owner/name"):
            open_dataset("hf", root)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'glia\[hf\]'"):
        open_dataset("hf", tmp_path)
