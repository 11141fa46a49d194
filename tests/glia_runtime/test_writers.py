"""The table of ``glia-infer``: drawn in blocks, and yet one table. Test_cli has the other formats."""

from __future__ import annotations

import io
import re

import pytest

from glia_runtime.manifest import ScoreScale
from glia_runtime.pipeline import Result
from glia_runtime.writers import TableWriter

SCALE = ScoreScale(0.0, 100.0, True, "none")
CAPTION = "  scores from 0 to 100, higher is better (none)"


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def scored(count: int, name: str = "folder/{:04}.jpg") -> list[Result]:
    return [Result(name.format(index), index / 7, None, index / 7, 640 + index, 480) for index in range(count)]


def table(results: list[Result], stream: io.BytesIO | None = None) -> list[str]:
    stream = stream or io.BytesIO()
    writer = TableWriter(stream, SCALE)
    writer.begin()
    for result in results:
        writer.write(result)
    writer.end()
    return stream.getvalue().decode().split("\n")[:-1]


def test_rows_are_drawn_as_they_come() -> None:
    """A run over millions of pictures must not keep them all until its end."""
    stream = io.BytesIO()
    writer = TableWriter(stream, SCALE)
    writer.begin()
    for count, result in enumerate(scored(400), start=1):
        writer.write(result)
        drawn = stream.getvalue().count(b".jpg")
        assert drawn == count - count % TableWriter.BLOCK


def test_blocks_make_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    # the scores grow from 0.0000 to 57.0000, the failed one stands in a block of its own
    results = [*scored(400), Result("missing.jpg", None, "missing.jpg: no such file")]
    lines = table(results)
    assert lines[0].split() == ["picture", "score", "quality", "size"]
    assert set(lines[1].strip()) == {"\u2500"}
    assert [line.split()[0] for line in lines[2:-1]] == [result.path for result in results]
    assert len({len(line) for line in lines[2:-2]} | {len(lines[0])}) == 1  # the sizes end in one column
    assert lines[-2].endswith("failed")
    assert lines[-1] == CAPTION
    monkeypatch.setattr(TableWriter, "BLOCK", 1000)
    assert lines == table(results)


def test_a_column_grows_and_stays() -> None:
    long = "a-much-longer-folder/picture.jpg"
    lines = table([*scored(50), Result(long, 1e6, None, 100.0, 1, 1), *scored(60)])
    first, later = lines[2:52], lines[52:-1]
    assert len({len(line) for line in first}) == 1
    assert len({len(line) for line in later}) == 1
    assert later[0].split() == [long, "1000000.0000", "100.0", "1x1"]
    assert len(lines) == 2 + 50 + 1 + 60 + 1


@pytest.mark.parametrize("columns", [12, 60, 80])
def test_names_fold_where_the_terminal_ends(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    name = "/".join(["a-long-folder"] * 20) + "/{:04}.jpg"
    results = [*scored(50), *scored(2, name)]
    lines = [re.sub(r"\r|\x1b\[[\d;]*[mK]", "", line) for line in table(results, Terminal())[:-1]]
    assert max(map(len, lines)) <= columns
    if columns > 12:  # which have no room for the numbers
        rows = [line.split() for line in lines[2:]]
        assert "".join(row[0] for row in rows) == "".join(result.path for result in results)
        assert [row[1] for row in rows if len(row) == 4] == [f"{result.score:.4f}" for result in results]


def test_a_block_replaces_the_progress_bar_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    erase = "\r\x1b[2K"
    text = "\n".join(table(scored(100), Terminal()))
    assert text.startswith(erase)
    assert f"\n{erase}  folder/0050.jpg" in text
    assert text.count(erase) == 2
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in "\n".join(table(scored(100), Terminal()))


def test_no_rows_no_table() -> None:
    assert table([]) == []
