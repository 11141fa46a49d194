"""The stages of a long run, as a log and as a terminal show them."""

from __future__ import annotations

import os
import re
import sys

import pytest

from glia_runtime.progress import stages
from tests.glia_runtime.test_terminal import shown_on_a_terminal


@pytest.mark.parametrize("long", [0.0, 3600.0])
def test_a_log_gets_the_stages_and_the_time_of_long_ones(long: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glia_runtime.progress._LONG", long)
    said: list[str] = []
    with stages(said.append) as running:
        running.begin("reading")
        running.begin("compiling")
        running.part("tactics", 1, 2)
    took = ["that took 0:00:00"] if long == 0 else []
    assert said == ["reading", *took, "compiling", *took]


def test_a_stage_that_fails_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glia_runtime.progress._LONG", 0)
    said: list[str] = []
    with pytest.raises(ValueError, match="no"), stages(said.append) as running:
        running.begin("reading")
        raise ValueError("no")
    assert said == ["reading"]


_RUN = """
from glia_runtime.command import say
from glia_runtime.progress import stages

with stages(lambda line: say("glia-export", line)) as running:
    running.begin("reading " + "x" * 250)
    running.begin("compiling")
    running.part("tactics [b]", 3, 12)
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_terminal_shows_the_time_of_the_stage_that_goes_on() -> None:
    shown = shown_on_a_terminal("-c", _RUN, status=0, command=[sys.executable])
    assert f"glia-export: reading {'x' * 250}\r\n" in shown
    stage, _, running = shown.partition("glia-export: compiling\r\n")
    assert stage and re.search(r"0:00:00 tactics \[b\] 3/12", running)
    assert "that took" not in shown
