"""gMAD pairs against an exhaustive search; the page as it is written and as a browser shows it."""

import csv
import itertools
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from glia.evaluation.cli import app
from glia.evaluation.gmad import Pool, Rival, find_duels, rivals, score_pool
from glia.evaluation.gmad_page import write_duels
from glia.evaluation.scoring import open_scorer
from glia.models import create_model, save_checkpoint
from glia_runtime.errors import UsageError
from glia_runtime.manifest import ScoreScale
from tests.glia_runtime.chromium import CHROMIUM
from tests.glia_runtime.chromium import Page as Browser
from tests.glia_runtime.test_report import HOSTILE, Reader, displayed

RISING = ScoreScale(0, 100, True, "rising")
FALLING = ScoreScale(0, 1, False, "falling")


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 20), st.integers(0, 2**31), st.integers(1, 3))
def test_a_duel_is_the_pair_that_the_attacker_finds_most_different(bins: int, more: int, seed: int, pairs: int) -> None:
    scores = np.random.default_rng(seed).permuted(np.tile(np.arange(2.0 * bins + more), (2, 1)), axis=1)
    duels = find_duels(scores, bins, pairs)
    assert [(duel.defender, duel.level) for duel in duels] == [(1, "low"), (1, "high"), (0, "low"), (0, "high")]
    for duel in duels:
        defends, attacks = scores[duel.defender], scores[1 - duel.defender]
        # the scores are 0 to N-1, each once, so those of an extreme bin are known
        limit = duel.pictures if duel.level == "low" else len(defends) - duel.pictures
        alike = np.flatnonzero(defends < limit if duel.level == "low" else defends >= limit)
        assert len(alike) == duel.pictures and abs(duel.pictures - len(defends) / bins) < 1
        worse, better = duel.pairs[0]
        assert {worse, better} <= set(alike.tolist())
        assert attacks[better] - attacks[worse] == np.ptp(attacks[alike])
        assert len(duel.pairs) == min(pairs, duel.pictures // 2)
        differences = [attacks[high] - attacks[low] for low, high in duel.pairs]
        assert differences == sorted(differences, reverse=True) and min(differences) > 0
        assert len({index for pair in duel.pairs for index in pair}) == 2 * len(duel.pairs)


def test_equal_scores_keep_the_order_of_the_pictures() -> None:
    duels = find_duels(np.zeros((2, 8)), bins=2)
    assert [duel.pairs for duel in duels] == [((0, 3),), ((4, 7),)] * 2


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(UsageError, match="19 pictures are too few for 10 bins"):
        find_duels(np.zeros((2, 19)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "inner").mkdir()
    rng = np.random.default_rng(0)
    for index in range(8):
        pixels = rng.integers(0, 32 * (index + 1), (64, 80 + index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / ("inner" if index % 2 else ".") / f"{index}.png")
    (folder / "broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "falling.pt"
    torch.manual_seed(0)
    model = create_model("glianet", backbone="test_vit", latent_dim=16, heads=2)
    model.set_scale(FALLING, mean=0.5, std=0.1)
    save_checkpoint(model, path)
    return path


def test_a_pool_holds_what_both_could_score(pictures: Path, checkpoint: Path, views_artifact: Path) -> None:
    scorers = [open_scorer(str(views_artifact)), open_scorer(str(checkpoint))]
    paths = [str(pictures / "0.png"), str(pictures / "broken.png"), str(pictures / "inner" / "1.png")]
    taken: list[int] = []
    pool = score_pool(rivals(scorers), scorers, paths, lambda: taken.append(1))
    assert len(taken) == 6 and pool.paths == (paths[0], paths[2]) and list(pool.failures) == [paths[1]]
    for scorer, scores in zip(scorers, pool.scores, strict=True):
        wanted = [result.score for result in scorer.stream([paths[0], paths[2]])]
        assert scores == pytest.approx(wanted, rel=1e-4)  # batches of other sizes, in float32
    assert [rival.name for rival in pool.rivals] == ["views.onnx", "falling.pt"]
    assert (pool.qualities == [pool.scores[0], -pool.scores[1]]).all()


def pool_of(paths: list[str], seed: int = 0) -> Pool:
    scores: npt.NDArray[np.float64] = np.random.default_rng(seed).uniform(0, 1, (2, len(paths))) * [[100], [1]]
    both = (Rival("<b>rising</b>", "glianet", RISING), Rival("$style", "glianet", FALLING))
    return Pool(both, tuple(paths), scores, {"gone.png": "gone.png: no such file"})


def test_names_are_text_and_links_lead_to_the_files(tmp_path: Path) -> None:
    files = [tmp_path / name.replace("/", "_") for name in HOSTILE]
    for file in files:
        Image.new("RGB", (8, 6)).save(file, "PNG")
    pool = pool_of([str(file) for file in files])
    duels = find_duels(pool.qualities, bins=2, pairs=3)
    write_duels(pool, duels, tmp_path, tmp_path / "page.html")
    page = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    shown = [index for duel in duels for pair in duel.pairs for index in reversed(pair)]
    assert len(shown) == len(page.all("figure")) == 24
    for index, link, image in zip(shown, page.all("a"), page.all("img"), strict=True):
        assert tmp_path / os.fsdecode(unquote_to_bytes(link["href"] or "")) == files[index]
        assert image["alt"] == displayed(files[index].name)
        assert (image["src"] or "").startswith("data:image/jpeg;base64,")
    assert not page.all("script") and not page.all("b b")
    assert "<b>rising</b> fixed at high quality" in "".join(page.texts["h2"])


def test_the_command(pictures: Path, checkpoint: Path, views_artifact: Path, tmp_path: Path) -> None:
    page, table = tmp_path / "gmad.html", tmp_path / "gmad.csv"
    line = ["--attacker", checkpoint, "--defender", views_artifact, "--images", pictures, "--html", page]
    result = CliRunner().invoke(app, ["gmad", *map(str, line), "--bins", "4", "--csv", str(table)])
    assert result.exit_code == 1 and result.stdout == ""  # a picture failed
    assert "broken.png: not a picture" in result.stderr and len(result.stderr.splitlines()) == 1
    assert len(Reader(page.read_text(encoding="utf-8")).all("figure")) == 8
    with table.open(newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert len(rows) == 9 and rows["broken.png"]["attacker"] == "" and rows["broken.png"]["error"]
    (wanted,) = open_scorer(str(views_artifact)).stream([pictures / "0.png"])
    assert float(rows["0.png"]["defender"]) == pytest.approx(wanted.score, rel=1e-4)  # as above

    result = CliRunner().invoke(app, ["gmad", *map(str, line)])
    assert result.exit_code == 2 and "8 pictures are too few for 10 bins" in result.stderr
    result = CliRunner().invoke(app, ["gmad", *map(str, line[:6]), "--html", str(tmp_path / "gone" / "page.html")])
    assert result.exit_code == 2 and "gone" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_every_picture_and_loads_nothing(tmp_path: Path, width: int) -> None:
    files = [tmp_path / f"{index}-{'long-name' * 12}.png" for index in range(12)]
    for index, file in enumerate(files):
        Image.new("RGB", (40 + 90 * (index % 2), 90), (20 * index, 90, 90)).save(file)
    pool = pool_of([str(file) for file in files])
    write_duels(pool, find_duels(pool.qualities, bins=3, pairs=2), tmp_path, tmp_path / "page.html")
    with Browser(tmp_path / "profile", width=width, dark=width == 390) as browser:
        browser.open(tmp_path / "page.html")
        kinds = [event["method"] for event in browser.seen]
        assert "Log.entryAdded" not in kinds and "Runtime.exceptionThrown" not in kinds
        loaded = [e["params"]["request"]["url"][:5] for e in browser.seen if e["method"] == "Network.requestWillBeSent"]
        assert sorted(set(loaded)) == ["data:", "file:"] and loaded.count("file:") == 1
        assert browser.evaluate("[...document.images].filter(image => image.naturalWidth > 0).length") == 16
        assert browser.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
        boxes = '[...document.querySelectorAll("figure")].map(figure => figure.getBoundingClientRect().toJSON())'
        for one, other in itertools.combinations(browser.evaluate(boxes), 2):
            beside = one["right"] <= other["left"] or other["right"] <= one["left"]
            assert beside or one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
