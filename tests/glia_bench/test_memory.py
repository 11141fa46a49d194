"""Each stream is measured in a process of its own, and what it keeps or leaves open is seen."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from glia_bench.cli import app
from glia_bench.memory import DISTINCT, make_pictures
from glia_bench.results import read_run
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError


def test_the_command(views_artifact: Path, tmp_path: Path) -> None:
    output, html = tmp_path / "memory.json", tmp_path / "memory.html"
    options = ["--few", "100", "--many", "300", "--quick", "--output", str(output), "--html", str(html)]
    done = CliRunner().invoke(app, ["memory", "--model", str(views_artifact), *options])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    found = {item.metric: item for item in run.measurements}
    few, many = (found[f"peak memory, {count} pictures"] for count in (100, 300))
    assert (few.facts["failed"], many.facts["failed"]) == (2, 6)
    ratio = found["peak memory, 300 pictures / 100"].median
    assert ratio == many.median / few.median
    assert any(f"300 pictures take {ratio:.3f} times the memory of 100" in note for note in run.notes)
    assert all(
        found[f"{what} left, {count} pictures"].median == 0 for what in ("threads", "handles") for count in (100, 300)
    )
    assert html.read_text().count("data:image/svg+xml;base64,") == 1


def test_a_long_stream_that_is_not_longer_is_refused() -> None:
    done = CliRunner().invoke(app, ["memory", "--few", "20", "--many", "20"])
    assert done.exit_code == 2 and "--many 20 is not more than --few 20" in done.output


def test_a_file_that_cannot_be_written_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    for option in ("--output", "--csv", "--html"):
        done = CliRunner().invoke(app, ["memory", "--quick", option, str(tmp_path / "none" / "run")])
        assert done.exit_code == 2 and done.stdout == "" and "none" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_pictures_are_of_many_sizes_and_some_are_damaged(tmp_path: Path) -> None:
    paths = make_pictures(tmp_path)
    assert len(paths) == DISTINCT
    assert len({decode(path).shape for path in paths[:16]}) == 16
    with pytest.raises(ImageError):
        decode(paths[49])
