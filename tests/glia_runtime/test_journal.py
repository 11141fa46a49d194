"""The part file: whatever a kill leaves of it, no row is lost and none is there twice."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glia_runtime.errors import OutputError
from glia_runtime.journal import Journal, journal_path
from glia_runtime.manifest import ScoreScale
from glia_runtime.pipeline import Result
from glia_runtime.writers import CsvWriter, JsonlWriter, json_line

MODEL, OTHER = "a" * 64, "b" * 64

# any bytes that a file name may hold, as Python names them
PATHS = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name).map(os.fsdecode)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SIDES = st.integers(1, 70_000)
RESULTS = st.one_of(
    st.builds(Result, PATHS, FLOATS, st.none(), FLOATS, SIDES, SIDES),
    st.builds(Result, PATHS, st.none(), PATHS.map(lambda path: f"{path}: failed"), st.none()),
)
ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


def write(path: Path, results: list[Result]) -> bytes:
    part = journal_path(path)
    part.unlink(missing_ok=True)
    with closing(Journal(path)) as journal:
        journal.begin(MODEL)
        for result in results:
            journal.append(result)
    return part.read_bytes() if part.exists() else b""


def same(one: Result, other: Result) -> bool:
    """Equal, and as float32: a row holds the shortest number that is this float32."""
    close = all(
        np.array_equal(np.float32(a), np.float32(b)) if a is not None and b is not None else a == b
        for a, b in ((one.score, other.score), (one.quality, other.quality))
    )
    rest = ("path", "error", "width", "height")
    return close and all(getattr(one, name) == getattr(other, name) for name in rest)


@given(RESULTS)
def test_a_row_is_one_line_that_gives_the_result_back(result: Result) -> None:
    line = json_line(result)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert list(json.loads(line)) == ["path", "score", "error", "quality", "width", "height"]
    assert same(Result(**json.loads(line)), result)


@given(st.lists(RESULTS, max_size=5))
def test_csv_and_jsonl_give_the_results_back(results: list[Result]) -> None:
    scale = ScoreScale(0.0, 1.0, True, "none")
    table, objects = io.BytesIO(), io.BytesIO()
    for writer in (CsvWriter(table, scale), JsonlWriter(objects, scale)):
        writer.begin()
        for result in results:
            writer.write(result)
        writer.end()
    text = table.getvalue().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    read = [
        Result(
            row["path"],
            float(row["score"]) if row["score"] else None,
            row["error"] or None,
            float(row["quality"]) if row["quality"] else None,
            int(row["width"]) if row["width"] else None,
            int(row["height"]) if row["height"] else None,
        )
        for row in rows
    ]
    for back in (read, [Result(**json.loads(line)) for line in objects.getvalue().splitlines()]):
        assert len(back) == len(results)
        assert all(map(same, back, results))


@ONE_FOLDER
@given(results=st.lists(RESULTS, max_size=4), data=st.data())
def test_cut_anywhere_it_goes_on_with_the_whole_rows(
    tmp_path: Path, results: list[Result], data: st.DataObject
) -> None:
    path = tmp_path / "scores.csv"
    whole = write(path, results)
    cut = data.draw(st.integers(0, len(whole)))
    journal_path(path).write_bytes(whole[:cut])
    kept = max(whole[:cut].count(b"\n") - 1, 0)
    with closing(Journal(path)) as journal:
        assert journal.rows == kept
        assert journal.failed == sum(result.error is not None for result in results[:kept])
        journal.begin(MODEL)
        for result in results[kept:]:
            journal.append(result)
        assert all(map(same, journal.results(), results))
    assert (journal_path(path).read_bytes() if results else b"") == (whole if results else b"")


@ONE_FOLDER
@given(
    done=st.lists(st.sampled_from("abcdef"), max_size=12),
    paths=st.lists(st.sampled_from("abcdefgh"), max_size=20),
)
def test_what_is_left_is_what_has_no_row(tmp_path: Path, done: list[str], paths: list[str]) -> None:
    """In any order, with names that come several times: each row stands for one of them."""
    path = tmp_path / "scores.csv"
    write(path, [Result(name, 0.5, None, 50.0) for name in done])
    with closing(Journal(path)) as journal:
        left = list(journal.without_done(paths))
    assert Counter(left) == Counter(paths) - Counter(done)
    if paths[: len(done)] == done:
        assert left == paths[len(done) :]


def test_what_is_left_is_found_while_rows_are_added(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "scores.csv")) as journal:
        journal.begin(MODEL)
        for path in journal.without_done(iter("abcd")):
            journal.append(Result(path, 0.5, None))
        assert [result.path for result in journal.results()] == list("abcd")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    (tmp_path / "link.csv").symlink_to(path)
    with closing(Journal(path)):
        for name in ("scores.csv", "link.csv"):
            with pytest.raises(OutputError, match=r"scores\.csv\.part: another run is writing it"):
                Journal(tmp_path / name)
    Journal(path).close()
    assert not journal_path(path).exists()  # there was nothing in it


def test_rows_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    before = write(path, [Result("a", 0.5, None)])
    with closing(Journal(path)) as journal, pytest.raises(OutputError, match="its rows are another model's"):
        journal.begin(OTHER)
    assert journal_path(path).read_bytes() == before


@pytest.mark.parametrize("content", [b"path,score\n", b"\n", b'{"glia_rows": 2, "artifact_sha256": "a"}\n', b"\xff"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    part = journal_path(tmp_path / "scores.csv")
    part.write_bytes(content)
    with pytest.raises(OutputError, match="was not written by this version of glia-infer"):
        Journal(tmp_path / "scores.csv")
    assert part.read_bytes() == content


@pytest.mark.parametrize("damage", [b"\n", b"[1]\n", b'{"path": "x"}\n', b"\0" * 100, b'{"path": "\xff'])
def test_nothing_after_a_damaged_row_counts(tmp_path: Path, damage: bytes) -> None:
    """Such as what a power failure leaves: these pictures are scored again."""
    path = tmp_path / "scores.csv"
    whole = write(path, [Result("a", 0.5, None), Result("b", 0.5, None)])
    journal_path(path).write_bytes(whole + damage + json_line(Result("c", 0.5, None)))
    with closing(Journal(path)) as journal:
        assert journal.rows == 2
    assert journal_path(path).read_bytes() == whole


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    journal_path(tmp_path / "scores.csv").mkdir()
    with pytest.raises(OutputError, match=re.escape("scores.csv.part: cannot be written (Is a directory)")):
        Journal(tmp_path / "scores.csv")
