"""Scores of a dataset's pictures: in order, the right way up, and a bad picture costs one line."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from glia.data import ListedDataset, Sample, make_splits, open_dataset
from glia.evaluation.cli import app
from glia.evaluation.datasets import Prediction, compare, predict
from glia.evaluation.scoring import open_scorer
from glia.models import create_model, load_checkpoint, save_checkpoint
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError, UsageError
from glia_runtime.manifest import ScoreScale
from glia_runtime.views import sample_views

RISING = ScoreScale(0, 10, True, "rising")
FALLING = ScoreScale(0, 10, False, "falling")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.manual_seed(0)
    model = create_model("glianet", backbone="test_vit", latent_dim=16, heads=2)
    model.set_scale(RISING, mean=5.0, std=2.0)
    save_checkpoint(model, path, {"selected": "best SRCC of those evaluated"})
    return path


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of four references; the fifth file is no picture."""
    folder = tmp_path_factory.mktemp("ratings")
    rng = np.random.default_rng(0)
    lines = ["path,score,reference"]
    for index in range(12):
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (64 + index, 80, 3), dtype=np.uint8)).save(path)
        lines.append(f"{path.name},{rng.uniform(0, 10):.2f},r{index % 4}")
    (folder / "4.png").write_text("no picture")
    (folder / "ratings.csv").write_text("\n".join(lines))
    return folder / "ratings.csv"


def invoke(*line: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in line])
    return result.exit_code, result.stdout, result.stderr


def test_predictions_are_the_models_scores_in_the_datasets_order(checkpoint: Path, ratings: Path) -> None:
    taken: list[int] = []
    predictions = predict(open_scorer(str(checkpoint)), open_dataset("csv", ratings), lambda: taken.append(1))
    assert len(taken) == len(predictions) == 12
    assert [Path(row.path).name for row in predictions] == [f"{index}.png" for index in range(12)]
    bad = predictions.pop(4)
    assert bad.score is None and bad.error is not None and bad.error.startswith(str(ratings.parent / "4.png"))
    model = load_checkpoint(checkpoint)
    with torch.inference_mode():
        for row in predictions:
            views = (torch.from_numpy(view)[None] for view in sample_views(decode(row.path)))
            # one picture alone against a batch of eleven: sums in another order, on scores near 5
            assert row.score == pytest.approx(float(model(*views)), abs=1e-4)


def test_pictures_without_files_are_named_by_their_place(checkpoint: Path) -> None:
    def broken() -> np.ndarray:
        raise ImageError("row 1: truncated")

    pixels = np.zeros((64, 80, 3), np.uint8)
    pictures: list[np.ndarray | Callable[[], np.ndarray]] = [pixels, broken, lambda: pixels]
    samples = [Sample(picture, float(score), f"r{score}") for score, picture in enumerate(pictures)]
    predictions = predict(open_scorer(str(checkpoint)), ListedDataset("drawn", RISING, samples))
    assert [row.path for row in predictions] == ["drawn/0", "drawn/1", "drawn/2"]
    assert [row.error for row in predictions] == [None, "row 1: truncated", None]
    assert predictions[0].score == predictions[2].score is not None


def test_scores_that_fall_where_the_datasets_rise_are_turned() -> None:
    rows = [Prediction(str(number), float(number), 9 - number + (number == 3), None) for number in range(8)]
    rows.append(Prediction("bad", 100.0, None, "bad"))
    upright, turned = compare(rows, RISING, RISING), compare(rows, FALLING, RISING)
    assert upright.pictures == turned.pictures == 8
    assert (upright.srcc, upright.krcc, upright.plcc) == (-turned.srcc, -turned.krcc, -turned.plcc)
    assert turned.srcc > 0.9
    # the search comes from the other side to the same minimum, which is flat: the relation is nearly straight
    assert turned.plcc_fitted == pytest.approx(upright.plcc_fitted, abs=1e-6)
    with pytest.raises(UsageError, match="none of 1 pictures could be scored; the first: bad"):
        compare(rows[-1:], RISING, RISING)


def test_the_command_on_a_dataset(checkpoint: Path, ratings: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    status, said, complained = invoke(checkpoint, "--dataset", "csv", "--root", ratings, "--csv", out)
    assert status == 1  # a picture failed
    assert f"glianet checkpoint {checkpoint} (best SRCC of those evaluated) on 11 samples of ratings" in said
    assert all(heading in said for heading in ("SRCC", "PLCC", "KRCC", "fitted", "RMSE")) and "turned" not in said
    (line,) = complained.splitlines()
    assert "4.png: not a picture" in line
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "target", "score", "error"] and len(rows) == 12
    assert rows[4]["score"] == "" and "not a picture" in rows[4]["error"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_command_on_a_side_of_a_split(checkpoint: Path, ratings: Path, tmp_path: Path, part: str) -> None:
    out = tmp_path / "scores.csv"
    line = ("--dataset", "csv", "--root", ratings, "--lower-is-better", "--split", "1", "--part", part, "--csv", out)
    _, said, _ = invoke(checkpoint, *line)
    assert "lower is better there, unlike the model's scores" in said.replace("\n", " ")
    dataset = open_dataset("csv", ratings)
    with out.open(newline="") as file:
        written = [row["path"] for row in csv.DictReader(file)]
    assert written == [str(dataset[index].path) for index in getattr(make_splits(dataset, 2)[1], part)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--dataset", "csv"], "--root"),
        (["--dataset", "csv", "--root", "gone.csv"], "gone.csv"),
        (["--dataset", "synthetic", "--lower-is-better"], "leave out --lower-is-better"),
        (["--pictures", "1", "--csv", "gone/scores.csv"], "gone"),
        (["--pictures", "1", "--split", "first"], "not 'first'"),
        (["--dataset", "csv", "--cache", "kept"], "--cache keeps drawn pictures"),
        (["--dataset", "synthetic", "--root", "kept"], "leave out --root"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(checkpoint: Path, line: list[str], says: str) -> None:
    status, said, complained = invoke(checkpoint, *line)
    assert (status, said) == (2, "") and says in complained
    assert complained.count("\n") == 1 and complained.startswith("glia-eval: ")
