"""Tables, plots and pages of every kind of result, and the documentation made from results."""

import importlib.util
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from glia_bench.page import write_results
from glia_bench.plots import run_plot
from glia_bench.results import Measurement, Run, unsteadiness, write_run
from glia_bench.tables import markdown, measurements_table, percent, plain, quantity, run_table
from tests.glia_bench.subjects import run_of
from tests.glia_runtime.chromium import CHROMIUM, Page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/make_benchmarks.py, pointed at a folder of its own."""
    specification = importlib.util.spec_from_file_location("make_benchmarks", ROOT / "docs" / "make_benchmarks.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "PICTURES", tmp_path / "benchmarks")
    return module


def test_the_picture_is_well_formed_and_the_same_every_time() -> None:
    run = run_of(0.001, 0.002, 0.003)
    first = run_plot(run)
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert run_plot(run) == first


def test_a_result_without_a_measurement_has_a_picture_and_a_table(tmp_path: Path) -> None:
    for command in ("peers", "latency", "memory", "stages"):
        empty = replace(run_of(1.0), command=command, measurements=(), notes=("left out: all",))
        write_results([empty], tmp_path / "page.html")
        assert "left out: all" in (tmp_path / "page.html").read_text(encoding="utf-8")
        assert plain(run_table(empty)).strip()


def test_every_figure_in_the_first_unit_is_a_bar() -> None:
    figures = (("fast", "images/s", 9.0), ("slow", "images/s", 1.0), ("slow / fast", "", 0.1))
    items = tuple(Measurement("one", metric, unit, "higher", (value,)) for metric, unit, value in figures)
    drawn = run_plot(replace(run_of(1.0), command="stream", measurements=items))
    # matplotlib repeats every text in a comment beside its outlines.
    assert all(f"<!-- {text} -->" in drawn for text in ("fast", "slow", "one, images/s"))
    assert "slow / fast" not in drawn


def stages_run(costs: dict[str, float], queue: float, wall: float | None) -> Run:
    """A run of `stages`, seconds a picture."""
    seconds = {**costs, "queue": queue, **({"stream, wall time a picture": wall} if wall is not None else {})}
    items = (
        Measurement("one", name, "s", "lower", (value,), {"stage": True} if "wall" not in name else {})
        for name, value in seconds.items()
    )
    return replace(run_of(1.0), command="stages", measurements=tuple(items))


def panel(run: Run, number: int) -> bytes:
    """One panel of a run's picture."""
    drawn = ElementTree.fromstring(run_plot(run))
    (found,) = (element for element in drawn.iter() if element.get("id") == f"axes_{number}")
    return ElementTree.tostring(found)


def test_waiting_is_not_stacked_on_what_a_picture_costs() -> None:
    costs = {"read": 0.001, "views": 0.002, "inference": 0.09}
    short, long, slow = (stages_run(costs, *others) for others in ((0.8, 0.05), (0.03, 0.05), (0.8, 0.06)))
    assert panel(short, 1) == panel(long, 1) and panel(short, 2) != panel(long, 2)
    assert panel(short, 1) != panel(slow, 1) and panel(short, 2) == panel(slow, 2)  # the mark of the wall time
    assert panel(short, 1) != panel(stages_run({**costs, "views": 0.02}, 0.8, 0.05), 1)
    interrupted = run_plot(stages_run(costs, 0.8, None))
    assert "wall time" in run_plot(short) and "wall time" not in interrupted
    assert "<!-- inference -->" in interrupted and "<!-- queue -->" not in interrupted


def test_the_page_escapes_what_it_is_given(tmp_path: Path) -> None:
    write_results([run_of(0.001, subject="<script>&")], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>" not in text and "&lt;script&gt;&amp;" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_the_plots_and_loads_nothing(tmp_path: Path) -> None:
    write_results([run_of(0.001, 0.002, 0.003), run_of(0.004)], tmp_path / "page.html")
    with Page(tmp_path / "profile") as page:
        page.open(tmp_path / "page.html")
        assert page.evaluate("[...document.images].map(image => image.naturalWidth > 0)") == [True, True]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        kinds = {event["method"] for event in page.seen}
        assert not kinds & {"Log.entryAdded", "Runtime.exceptionThrown"}  # nothing that the policy had to refuse
        loaded = [e["params"]["request"]["url"][:5] for e in page.seen if e["method"] == "Network.requestWillBeSent"]
        assert set(loaded) == {"file:", "data:"} and loaded.count("file:") == 1


def test_a_markdown_table_has_as_many_cells_in_every_row() -> None:
    text = markdown(run_table(run_of(0.001, 0.002, 0.003, subject="a|b")))
    assert "a\\|b" in text
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines()}) == 1
    assert len(plain(run_table(run_of(0.001))).splitlines()) == 2


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0123456, "s", "12.3 ms"),
        (1.5e9, "bytes", "1500 MB"),
        (3.9e11, "FLOP/s", "390 GFLOP/s"),
        (0.00000457, "s", "0.00457 ms"),
        (None, "s", ""),
    ],
)
def test_quantities_for_people(value: float | None, unit: str, shown: str) -> None:
    assert quantity(value, unit) == shown


def test_the_variation_is_what_a_restless_machine_is_judged_by() -> None:
    samples = (1.0,) * 10 + (9.0,) + (1.1,) * 10
    header, row = measurements_table(run_of(*samples))
    assert row[header.index("variation")] == percent(unsteadiness(samples)) != ""


def test_the_documentation_follows_the_results(
    make_benchmarks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["make_benchmarks.py", *arguments])
        status: int = make_benchmarks.main()
        return status

    assert run("--check") == 1
    assert run() == 0 and run("--check") == 0
    result = run_of(0.010, 0.011, 0.012)
    write_run(result, tmp_path / "cpu-latency.json")
    assert run("--check") == 1  # a result that the page does not show
    assert run() == 0 and run("--check") == 0
    text = (tmp_path / "benchmarks.md").read_text()
    assert "11.0 ms" in text and result.machine.about() in text
    assert (tmp_path / "benchmarks" / "cpu-latency.svg").exists()
    slower = Measurement("one", "latency", "s", "lower", (0.02,), {})
    write_run(run_of(*slower.samples), tmp_path / "cpu-latency.json")
    assert run("--check") == 1  # a figure that is no longer the result's
