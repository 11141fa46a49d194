"""What the documentation shows is what happens: commands run, the table is real, links lead somewhere."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .doc_blocks import ROOT, RUNNABLE, Block, blocks, documents, run_block

PHOTOGRAPHS = sorted(ROOT.glob("images/*.jpg"))


@pytest.fixture(scope="module")
def scores() -> dict[str, float]:
    """Score the photographs in images/ with the bundled model, by the command itself."""
    command = [str(Path(sys.executable).with_name("glia-infer")), *map(str, PHOTOGRAPHS), "--format", "jsonl"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {Path(row["path"]).name: row["score"] for row in map(json.loads, printed.splitlines())}


@pytest.mark.slow
def test_the_shown_commands_run(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "images", tmp_path / "images")
    found = [block for document in documents() for block in blocks(document) if block.language in RUNNABLE]
    failures = [run_block(block, tmp_path) for block in found if block.not_run is None]
    assert failures, "no document shows a command"
    assert not any(failures), "\n\n".join(failure for failure in failures if failure)


def test_the_main_path_of_the_readme_is_run() -> None:
    run = "".join(b.text for b in blocks(ROOT / "README.md") if b.language in RUNNABLE and b.not_run is None)
    for command in ("glia-train", "glia-export", "glia-infer"):
        assert command in run


def _block(language: str, text: str) -> Block:
    (block,) = blocks(Path("page.md"), f"Words.\n\n```{language}\n{text}\n```\n")
    return block


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "true\nfalse\ntrue"),
        ("sh", "glia-infer --no-such-option"),
        ("console", "$ echo one\ntwo"),
        ("console", "$ true\n$ false"),
        ("python", "raise SystemExit(3)"),
        ("sh", "echo 'Traceback (most recent call last)'"),
    ],
)
def test_a_wrong_block_is_reported(language: str, text: str, tmp_path: Path) -> None:
    assert run_block(_block(language, text), tmp_path) is not None


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "echo one > file\ntest -s file"),
        ("console", "$ false; echo status $?\nstatus 1"),
        ("console", "$ echo one two \\\n    three\none ... three\n$ ls missing || echo failed\n...\nfailed"),
        ("python", "print('fine')"),
    ],
)
def test_a_right_block_passes(language: str, text: str, tmp_path: Path) -> None:
    assert run_block(_block(language, text), tmp_path) is None


def test_a_reason_keeps_a_block_from_running() -> None:
    (marked,) = blocks(Path("page.md"), "<!-- not run: needs a GPU -->\n```sh\nfalse\n```\n")
    (bare,) = blocks(Path("page.md"), "<!-- not run: -->\n```sh\nfalse\n```\n")
    assert marked.not_run == "needs a GPU"
    assert bare.not_run is None


def test_the_links_lead_somewhere() -> None:
    broken = []
    for document in documents():
        text = re.sub(r"(?ms)^```.*?^```", "", document.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|<img src=\"([^\"]+)\"", text):
            link = "".join(target)
            if "://" not in link and not (document.parent / link).exists():
                broken.append(f"{document.relative_to(ROOT)}: {link}")
    assert not broken


def test_the_shown_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in documents():
        shown = re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(shown) <= targets, f"{document.name} shows a make target that is not there"


@pytest.mark.parametrize("script", ["make_cli.py", "make_benchmarks.py"])
def test_the_generated_pages_are_up_to_date(script: str) -> None:
    command = [sys.executable, str(ROOT / "docs" / script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_in_the_readme_is_real(scores: dict[str, float]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split("<!-- demo -->")[1].split("<!-- /demo -->")[0]
    rows = re.findall(r"\| (\S+\.jpg) \| (-?\d+(?:\.\d+)?) \|$", shown, re.MULTILINE)
    assert sorted(name for name, _ in rows) == [path.name for path in PHOTOGRAPHS], "type: make docs"
    # The table shows a thousandth of the scale. Half a unit of its last digit is rounding; the other half
    # leaves room for another CPU's arithmetic and another JPEG decoder, which stay well below it.
    tolerance = 10.0 ** -len(rows[0][1].partition(".")[2])
    for name, score in rows:
        assert float(score) == pytest.approx(scores[name], abs=tolerance), name
    for (better, _), (worse, _) in itertools.pairwise(rows):
        assert scores[better] > scores[worse] - tolerance, f"{better} stands above {worse}"


@pytest.mark.parametrize("damaged", [path.name for path in PHOTOGRAPHS if "-" in path.stem])
def test_a_damaged_photograph_scores_below_the_same_one_undamaged(damaged: str, scores: dict[str, float]) -> None:
    original = damaged.split("-")[0] + ".jpg"
    assert scores[damaged] < scores[original]
