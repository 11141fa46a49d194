"""The ranking of photographs against models whose answer is known."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from rich.console import Console

from glia.data.synthetic import DISTORTIONS, LEVELS, draw_picture, quality
from glia.evaluation import photographs
from glia.evaluation.photographs import rank_photographs
from glia.evaluation.report import evaluate_photographs
from glia.evaluation.scoring import open_scorer
from glia_runtime.errors import GliaError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "inner").mkdir()
    picture = Image.fromarray(draw_picture(9, 0)[:160, :160])
    picture.save(folder / "inner" / "a.png")
    (folder / "broken.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def test_an_all_knowing_model_ranks_perfectly(folder: Path) -> None:
    original = np.asarray(Image.open(folder / "inner" / "a.png"))

    def oracle(images: object) -> npt.NDArray[Any]:
        return np.array([quality(original, image) for image in images], np.float32)  # type: ignore[attr-defined]

    paths = [folder / "broken.jpg", folder / "inner" / "a.png"]
    report = rank_photographs(oracle, paths)
    assert report.photographs == 1 and len(report.failures) == 1 and "broken.jpg" in report.failures[0]
    assert report.srcc == pytest.approx(1, abs=1e-4)  # float32 scores of float64 labels: near ties
    assert report.within_kadid > 0.95
    upside_down = rank_photographs(lambda images: -oracle(images), paths[1:], higher_is_better=False, processes=2)
    assert upside_down.within == report.within and upside_down.srcc == report.srcc


def flat(images: object) -> npt.NDArray[np.float32]:
    return np.zeros(len(images), np.float32)  # type: ignore[arg-type]


def test_a_constant_model_ranks_nothing(folder: Path) -> None:
    report = rank_photographs(flat, [folder / "inner" / "a.png"])
    assert report.srcc == 0 and set(report.within.values()) == {0.0}


def test_a_tiny_picture_is_one_failure(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "tiny.png")
    with pytest.raises(UsageError, match=r"tiny\.png: too small"):
        rank_photographs(flat, [tmp_path / "tiny.png"])


def test_a_picture_too_long_to_be_shown_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (16, 60000)).save(tmp_path / "long.png")
    with pytest.raises(UsageError, match=r"the first: \S*long\.png: the picture is 16x60000 pixels"):
        rank_photographs(flat, [tmp_path / "long.png"])


def test_one_type_at_a_time_is_distorted_and_scored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 130 distorted pictures of a photograph of 12 megapixels would take 5 GB."""
    events: list[str] = []

    def untouched(original: photographs.Picture, *_: object) -> photographs.Picture:
        events.append("distort")
        return original

    monkeypatch.setattr(photographs, "distort", untouched)
    monkeypatch.setattr(photographs, "quality", lambda *_: 0.0)

    def score(images: object) -> npt.NDArray[np.float32]:
        events.append("score")
        return flat(images)

    rank_photographs(score, [folder / "inner" / "a.png"], advance=lambda: events.append("advance"))
    assert events == [*[*["distort"] * len(LEVELS), "score"] * len(DISTORTIONS), "advance"]


def test_none_that_can_be_read(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"none of 1 photographs.*broken\.jpg"):
        rank_photographs(flat, [folder / "broken.jpg"])


def test_the_report_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_photographs(open_scorer("bundled"), folder, 5, 1, Console(width=100), Console(stderr=True, width=100))
    printed = capsys.readouterr()
    assert "artifact glianet-vit-tiny.onnx on 1 photographs, damaged" in printed.out
    assert "mean of KADID-10k's 25 types" in printed.out and "gaussian_blur" in printed.out and "SRCC" in printed.out
    assert "broken.jpg" in printed.err


def test_models_that_cannot_be_opened(tmp_path: Path) -> None:
    for name in ("missing.pt", "missing.onnx"):
        with pytest.raises(GliaError, match=name):
            open_scorer(str(tmp_path / name))
