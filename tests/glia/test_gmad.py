"""gMAD pairs against an exhaustive search; the page as it is written and as a browser shows it."""

import csv
import itertools
import os
from collections.abc import Sequence
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
from glia.evaluation.gmad import Pool, Rival, find_duels, score_pool
from glia.evaluation.gmad_page import write_duels
from glia.evaluation.gmad_rivals import open_rivals
from glia.evaluation.scoring import open_scorer
from glia.models import create_model, save_checkpoint
from glia_runtime.errors import DatasetError, UsageError
from glia_runtime.manifest import ScoreScale
from glia_runtime.pipeline import Result
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
    sources = str(views_artifact), str(checkpoint)
    wanted = [str(pictures / "0.png"), str(pictures / "broken.png"), str(pictures / "inner" / "1.png")]
    taken: list[int] = []
    rivals, paths = open_rivals(sources, (), wanted, pictures, print)
    pool = score_pool(rivals, paths, lambda: taken.append(1))
    assert len(taken) == 6 and pool.paths == (paths[0], paths[2]) and list(pool.failures) == [paths[1]]
    for source, scores in zip(sources, pool.scores, strict=True):
        alone = [result.score for result in open_scorer(source).stream([paths[0], paths[2]])]
        assert scores == pytest.approx(alone, rel=1e-4)  # batches of other sizes, in float32
    assert [rival.name for rival in pool.rivals] == ["views.onnx", "falling.pt"]
    assert pool.rivals[1].about == "glianet, 0 to 1, lower is better, trained on falling"
    assert (pool.qualities == [pool.scores[0], -pool.scores[1]]).all()


def score_list(path: Path, *rows: str, header: str = "path,score") -> str:
    path.write_text("\n".join([header, *rows]))
    return str(path)


def test_a_file_of_scores_stands_for_a_model(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths from the folder of the pictures, from the file's own folder, from here, and from the root."""
    found = [str(path) for path in sorted(pictures.rglob("?.png"))]
    monkeypatch.chdir(pictures / "inner")
    rows = ["0.png,7.5,", f"{os.path.relpath(pictures, tmp_path)}/2.png,8,", f"{pictures / '4.png'},9.25,", "1.png,6,"]
    one = score_list(tmp_path / "a.csv", *rows, "6.png,,not a picture", "else.png,1,", header="path,score,error")
    other = score_list(tmp_path / "b.csv", *(f"{path},{-place}" for place, path in enumerate(found)))
    said: list[str] = []
    rivals, paths = open_rivals((one, other), ("defender",), found, pictures, said.append)
    assert [Path(path).name for path in paths] == ["0.png", "2.png", "4.png", "1.png"]
    assert said == [f"{one}: no score for 4 of 8 pictures; they are left out"]
    pool = score_pool(rivals, paths, lambda: None)
    assert pool.scores[0].tolist() == [7.5, 8, 9.25, 6] and not pool.failures
    assert pool.qualities.tolist() == [pool.scores[0].tolist(), (-pool.scores[1]).tolist()]
    assert [rival.name for rival in rivals] == ["a.csv", "b.csv"]
    assert [rival.about for rival in rivals] == [
        "scores from a file, 6 to 9.25, higher is better",
        "scores from a file, -7 to 0, lower is better",
    ]
    (tmp_path / "c").mkdir()
    copy = score_list(tmp_path / "c" / "a.csv", "0.png,1", "2.png,2")
    rivals, _ = open_rivals((one, copy), (), found, pictures, said.append)
    assert [rival.name for rival in rivals] == [one, copy]  # else nobody could tell them apart


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["path,mos", "0.png,1"], "no column score; its first line must be: path,score"),
        (["path,score", "0.png,1", "2.png,bad", ",3"], "line 3: score 'bad'; line 4: no path"),
        (["path,score", "0.png,1", "2.png,2", "0.png,3"], r"line 4: .*0\.png \(a picture that an earlier line has\)"),
        (["path,score", "0.png,1", "2.png,1"], "all scores are 1"),
        (["path,score", "gone.png,1"], r"none of the 2 pictures of .* \(its first path is gone\.png\)"),
        (["path,score"], "holds no rows"),
    ],
)
def test_what_is_wrong_with_a_file_of_scores_is_one_line(
    rows: list[str], says: str, pictures: Path, tmp_path: Path
) -> None:
    source = score_list(tmp_path / "a.csv", *rows[1:], header=rows[0])
    found = [str(pictures / "0.png"), str(pictures / "2.png")]
    with pytest.raises(DatasetError, match=says) as raised:
        open_rivals((source, "never opened.onnx"), (), found, pictures, print)
    assert str(raised.value).startswith(f"{source}: ") and "\n" not in str(raised.value)


def unasked(paths: Sequence[str]) -> list[Result]:
    raise AssertionError("its scores are in the pool")


def pool_of(paths: list[str], seed: int = 0) -> Pool:
    scores: npt.NDArray[np.float64] = np.random.default_rng(seed).uniform(0, 1, (2, len(paths))) * [[100], [1]]
    both = (Rival("<b>rising</b>", "a <model>", RISING, unasked), Rival("$style", "glianet", FALLING, unasked))
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

    # its own scores in a file, as a model that falls with quality, are where it ranks everything the same way
    falling = score_list(tmp_path / "falling.csv", *(f"{row['path']},{row['attacker']}" for row in rows.values()))
    line = ["--attacker", checkpoint, "--defender", falling, "--images", pictures, "--html", page, "--bins", "4"]
    result = CliRunner().invoke(app, ["gmad", *map(str, line), "--lower-is-better", "defender"])
    assert result.exit_code == 0 and result.stderr == f"{falling}: no score for 1 of 9 pictures; they are left out\n"
    assert "<dd>1.000</dd>" in page.read_text(encoding="utf-8")
    result = CliRunner().invoke(app, ["gmad", *map(str, line), "--lower-is-better", "attacker"])
    assert result.exit_code == 2 and "falling.pt is a model, which knows its direction" in result.stderr


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
