"""--sort, --top and --below against what a sorted list says."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from glia_runtime.pipeline import Result
from glia_runtime.selection import Order, Selection

QUALITIES = st.lists(st.one_of(st.none(), st.integers(-5, 105).map(float)), max_size=30)


def rows_of(qualities: list[float | None]) -> list[Result]:
    return [
        Result(str(index), None, "failed") if quality is None else Result(str(index), quality / 10, None, quality)
        for index, quality in enumerate(qualities)
    ]


@given(QUALITIES, st.sampled_from([None, "worst", "best"]))
def test_sort_is_stable_and_keeps_every_row(qualities: list[float | None], sort: Order | None) -> None:
    rows = rows_of(qualities)
    selected = list(Selection(sort=sort).of(rows))
    if sort is None:
        assert selected == rows
        return
    assert sorted(selected, key=lambda row: int(row.path)) == rows
    keys = []
    for row in selected:
        rank = None if row.quality is None else row.quality if sort == "worst" else -row.quality
        keys.append((rank is None, rank or 0.0, int(row.path)))
    assert keys == sorted(keys)


@given(QUALITIES, st.sampled_from([None, "worst", "best"]), st.integers(1, 35))
def test_top_is_the_start_of_the_sorted_rows(qualities: list[float | None], sort: Order | None, top: int) -> None:
    rows = rows_of(qualities)
    scored = [row for row in Selection(sort=sort or "worst").of(rows) if row.error is None]
    assert list(Selection(sort=sort, top=top).of(rows)) == scored[:top]


@given(QUALITIES, st.integers(-10, 110))
def test_below(qualities: list[float | None], below: int) -> None:
    rows = rows_of(qualities)
    expected = [row for row in rows if row.quality is not None and row.quality < below]
    assert list(Selection(below=below).of(rows)) == expected
    assert list(Selection(below=below, top=3).of(rows)) == list(Selection(top=3).of(expected))


def test_top_holds_that_many_rows_and_below_none() -> None:
    """However many pictures a folder holds."""
    for selection, bound in ((Selection(top=5), 5), (Selection(below=50.0), 1)):
        alive: weakref.WeakSet[Result] = weakref.WeakSet()
        most = 0

        def rows(alive: weakref.WeakSet[Result] = alive) -> Iterator[Result]:
            nonlocal most
            for index in range(2000):
                row = Result(str(index), 0.0, None, float(index * 7919 % 100))
                alive.add(row)
                most = max(most, len(alive))
                yield row

        assert sum(1 for _ in selection.of(rows())) >= 5
        assert most <= bound + 2  # the one made, and the one that is compared
