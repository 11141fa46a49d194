"""The loops are measured as the command says, and their difference is told with what they learnt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.results import read_run
from glia_bench.training import loops, rated_pictures
from tests.glia.rated import write_rated


@pytest.mark.parametrize("arch", ["glianet", "glintiqa"])
def test_the_plain_loop_and_all_together_are_measured(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(function: Callable[..., Any], *arguments: object) -> Any:
        return function(*arguments)  # a process of its own takes seconds to begin, and serves the memory alone

    monkeypatch.setattr("glia_bench.training.in_fresh_process", here)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    output = tmp_path / "training.json"
    backbone = {"glianet": "test_vit", "glintiqa": "vit_tiny_patch16_224"}[arch]
    options = ["--arch", arch, "--backbone", backbone, "--batch-size", "4", "--quick", "-o", str(output)]
    done = CliRunner().invoke(app, ["training", "--root", str(write_rated(tmp_path / "rated", 10)), *options])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert run.subjects() == ["plain", "all together"]
    paces = [found for found in run.measurements if found.metric == "pace of the steps"]
    assert all(found.samples[0] > 0 and found.better == "higher" for found in paces)
    learnt = [found.samples for found in run.measurements if found.metric == "SRCC on the test part"]
    assert all(-1 <= srcc <= 1 for samples in learnt for srcc in samples)
    ratio = paces[1].samples[0] / paces[0].samples[0]
    assert any(f"all together: {ratio:.2f} times the pace" in note for note in run.notes)


def test_every_means_is_measured_alone_and_the_last_has_them_all() -> None:
    plain, *others = loops("bf16", compiled=True, has_tokens=True)
    assert (plain.fit, plain.cache_tokens, plain.cache_pictures) == ({}, False, False)
    last = others[-1]
    assert last.fit == {"precision": "bf16", "compile": True} and last.cache_tokens and last.cache_pictures
    assert [loop.name for loop in others[:-1]] == ["bf16", "cached tokens", "cached pictures", "compiled"]
    without = loops("bf16", compiled=False, has_tokens=False)
    assert [loop.name for loop in without] == ["plain", "bf16", "cached pictures", "all together"]
    assert not any(loop.cache_tokens for loop in without)


def test_pictures_are_drawn_where_none_are_given() -> None:
    with rated_pictures(None, 1) as path:
        assert path.read_text().count("\n") == 7 and len(list(path.parent.glob("*.jpg"))) == 6
    assert not path.exists()
