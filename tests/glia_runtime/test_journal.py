"""The part file: whatever a kill leaves of it, no row is lost and none is there twice."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import stat
import tracemalloc
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glia_runtime.errors import OutputError
from glia_runtime.journal import Journal, Way, journal_path
from glia_runtime.manifest import ScoreScale
from glia_runtime.pipeline import Result
from glia_runtime.writers import CsvWriter, JsonlWriter, json_line

MODEL, OTHER = "a" * 64, "b" * 64
BACKEND = Way("onnxruntime", "cpu", False)

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
        journal.begin(MODEL, BACKEND)
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
        journal.begin(MODEL, BACKEND)
        again = [result for result in results[:kept] if result.error is not None]
        for result in again + results[kept:]:
            journal.append(result)
        rows = list(journal.results())
        assert len(rows) == len(results)
        assert all(map(same, rows, results))
    if not again:
        assert (journal_path(path).read_bytes() if results else b"") == whole


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
        journal.begin(MODEL, BACKEND)
        left = []
        for path in journal.without_done([*"ab", None, *"cd"]):
            left.append(path)
            if path is not None:
                journal.append(Result(path, 0.5, None))
        assert left == [*"ab", None, *"cd"]  # a pause comes through in its place
        assert [result.path for result in journal.results()] == list("abcd")


def test_many_rows_are_passed_over_in_little_memory(tmp_path: Path) -> None:
    """With a new picture before all others, and with every row tried again: far less than the paths themselves take."""
    path, number = tmp_path / "scores.csv", 5000
    names = [f"{index:06}{'x' * 200}" for index in range(number)]
    for error in (None, "failed"):
        write(path, [Result(name, None if error else 0.5, error) for name in names])
        tracemalloc.start()
        with closing(Journal(path)) as journal:
            journal.begin(MODEL, BACKEND)
            left = sum(1 for _ in journal.without_done(["new", *names]))
            assert left == (number + 1 if error else 1)
            for name in names[:100] if error else ():
                journal.append(Result(name, 0.5, None))
            assert [row.error for row in journal.results()] == [None] * 100 + [error] * (number - 100)
            peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # some 50 bytes a row, and buffers; the paths are 255 bytes each
        assert peak < 100 * number + (1 << 18)


def test_reading_many_rows_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.csv"
    write(path, [Result("a", 0.5, None)] * 8192)
    monkeypatch.setattr("glia_runtime.journal._LONG", -1.0)
    said: list[str] = []
    Journal(path, said.append).close()
    (line,) = said
    assert re.fullmatch(rf"{re.escape(str(path))}\.part: reading about 8,\d\d\d rows", line)


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
        journal.begin(OTHER, BACKEND)
    assert journal_path(path).read_bytes() == before


OLD = b'{"glia_rows": 2, "artifact_sha256": "a", "backend": "onnxruntime on cpu"}\n'


@pytest.mark.parametrize(
    "content", [b"path,score\n", b"\n", OLD, b'{"glia_rows": 3, "artifact_sha256": "a"}\n', b"\xff"]
)
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    part = journal_path(tmp_path / "scores.csv")
    part.write_bytes(content)
    with pytest.raises(OutputError, match="was not written by this version of glia-infer"):
        Journal(tmp_path / "scores.csv")
    assert part.read_bytes() == content


DAMAGE = pytest.mark.parametrize("damage", [b"\n", b"[1]\n", b'{"path": "x"}\n', b"\0" * 100, b'{"path": "\xff'])


@DAMAGE
def test_a_torn_last_row_is_cut_off(tmp_path: Path, damage: bytes) -> None:
    """Such as what a power failure leaves: this picture is scored again."""
    path = tmp_path / "scores.csv"
    whole = write(path, [Result("a", 0.5, None), Result("b", 0.5, None)])
    journal_path(path).write_bytes(whole + damage)
    with closing(Journal(path)) as journal:
        assert journal.rows == 2
    assert journal_path(path).read_bytes() == whole


@DAMAGE
def test_rows_after_a_damaged_one_are_not_cut_off(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "scores.csv"
    whole = write(path, [Result("a", 0.5, None), Result("b", 0.5, None)])
    c, d = json_line(Result("c", 0.5, None)), json_line(Result("d", 0.5, None))
    damaged = whole + damage + c + d
    journal_path(path).write_bytes(damaged)
    with pytest.raises(OutputError, match="line 4 is damaged, and rows follow it; delete that line"):
        Journal(path)
    assert journal_path(path).read_bytes() == damaged
    lines = damaged.splitlines(keepends=True)
    journal_path(path).write_bytes(b"".join(lines[:3] + lines[4:]))
    with closing(Journal(path)) as journal:
        assert [result.path for result in journal.results()] == (
            list("abcd") if damage.endswith(b"\n") else list("abd")
        )


@ONE_FOLDER
@given(
    first=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=8),
    more=st.lists(st.sampled_from("abcdef"), max_size=3),
    second=st.lists(st.booleans(), min_size=20, max_size=20),
    stops=st.lists(st.integers(0, 4), max_size=4),
)
def test_failed_rows_are_tried_again_in_their_place(
    tmp_path: Path, first: list[tuple[str, bool]], more: list[str], second: list[bool], stops: list[int]
) -> None:
    """However often it is stopped: the rows of the paths in their order, each with the outcome of its last try."""
    path = tmp_path / "scores.csv"
    outcome = {True: (0.5, None), False: (None, "failed")}
    write(path, [Result(name, *outcome[good]) for name, good in first])
    paths = [name for name, _ in first] + more
    expected = [good for _, good in first]
    tries = iter(second * 8)
    for stop in [*stops, None]:
        with closing(Journal(path)) as journal:
            assert [(row.path, row.error is None) for row in journal.results()] == list(
                zip(paths, expected, strict=False)
            )
            assert (journal.rows, journal.failed) == (len(expected), expected.count(False))
            journal.begin(MODEL, BACKEND)
            left = [place for place in range(len(paths)) if place >= len(expected) or not expected[place]]
            for number, name in enumerate(journal.without_done(iter(paths))):
                if number == stop:
                    break
                place, good = left[number], next(tries)
                assert name == paths[place]
                journal.append(Result(paths[place], *outcome[good]))
                # Of one name that comes twice, rows fill the earlier place first, as it is listed first.
                if place < len(expected):
                    expected[place] = good
                else:
                    expected.append(good)
            rows = [(row.path, row.error is None) for row in journal.results()]
            assert rows == list(zip(paths, expected, strict=False))


def test_what_is_no_longer_named_is_counted_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write(path, [Result("a", 0.5, None), Result("b", None, "b: failed"), Result("c", 0.5, None)])
    with closing(Journal(path)) as journal:
        journal.begin(MODEL, BACKEND)
        assert list(journal.without_done(["c", "d"])) == ["d"]
        assert (journal.unnamed, journal.unnamed_failed) == (2, 1)
        assert [row.path for row in journal.results()] == ["a", "b", "c"]


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    journal_path(tmp_path / "scores.csv").mkdir()
    with pytest.raises(OutputError, match=re.escape("scores.csv.part: cannot be written (Is a directory)")):
        Journal(tmp_path / "scores.csv")


def test_a_pipe_in_the_place_of_the_journal_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(journal_path(tmp_path / "scores.csv"))
    with pytest.raises(OutputError, match=re.escape("scores.csv.part: is not a file")):
        Journal(tmp_path / "scores.csv")


def test_another_backend_does_not_go_on(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    ways = [Way(backend, "cpu", draft) for backend in ("onnxruntime", "a on b with c") for draft in (False, True)]
    for before, way in itertools.permutations(ways, 2):
        journal_path(path).unlink(missing_ok=True)
        with closing(Journal(path)) as journal:
            journal.begin(MODEL, before)
            journal.append(Result("a", 0.5, None))
        draft = " --draft" if before.draft else " and without --draft" if way.draft else ""
        options = re.escape(f"go on with --backend {before.backend} --device cpu{draft}, or delete")
        with closing(Journal(path)) as journal, pytest.raises(OutputError, match=options):
            journal.begin(MODEL, way)


def test_an_older_output_keeps_an_empty_journal(tmp_path: Path) -> None:
    """It is not what the run was to write; and what it keeps from other users, so does the journal."""
    path = tmp_path / "scores.csv"
    path.write_text("old")
    path.chmod(0o640)
    Journal(path).close()
    assert stat.S_IMODE(journal_path(path).stat().st_mode) == 0o640
    with closing(Journal(path)) as journal:
        journal.begin(MODEL, BACKEND)
    with closing(Journal(path)) as journal:  # without rows, any model may go on
        journal.begin(OTHER, Way("openvino", "cpu", False))
        journal.append(Result("a", 0.5, None))
        assert [row.path for row in journal.results()] == ["a"]
