"""Rows that pictures take: as a list of paths would give them, in any order and number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glia_runtime.rows import Rows


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=20),
    st.lists(st.sampled_from("abcdefgh"), max_size=30),
)
def test_each_row_is_taken_once_and_the_first_of_a_path_first(kept: list[tuple[str, bool]], paths: list[str]) -> None:
    rows = Rows()
    for place, (path, failed) in enumerate(kept):
        assert rows.add(path, failed) == place
    left: dict[int, tuple[str, bool]] = dict(enumerate(kept))
    for path in paths:
        wanted = next((place for place, row in left.items() if row[0] == path), None)
        assert rows.take(path) == wanted
        if wanted is not None:
            assert rows.has_failed(wanted) == left.pop(wanted)[1]
    assert rows.left() == (len(left), sum(failed for _, failed in left.values()))
    assert (len(rows), rows.failed) == (len(kept), sum(failed for _, failed in kept))
