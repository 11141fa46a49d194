"""Which rows to show, and in which order: the everyday questions to a folder of pictures."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Literal

from glia_runtime.errors import UsageError

if TYPE_CHECKING:
    from glia_runtime.pipeline import Result

Order = Literal["worst", "best"]


@dataclass(frozen=True)
class Selection:
    """Rows by quality: `below` a threshold, sorted `worst` or `best` first, the `top` few of that order.

    Pictures that failed have no quality: they come last when sorted, and not at all with `top` or `below`.
    """

    sort: Order | None = None
    top: int | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` when `below` is no number."""
        if self.below is not None and isnan(self.below):
            raise UsageError("--below is no number; pass a quality from 0 to 100")

    @property
    def streams(self) -> bool:
        """Whether rows pass one by one, rather than all at the end."""
        return self.sort is None and self.top is None

    @property
    def leaves_out(self) -> bool:
        """Whether rows are chosen rather than all taken."""
        return self.top is not None or self.below is not None

    def of(self, rows: Iterable[Result]) -> Iterator[Result]:
        """Yield the selected rows. `sort` alone holds all of them in memory, `top` that many, `below` none."""
        if self.below is not None:
            limit = self.below
            rows = (row for row in rows if row.quality is not None and row.quality < limit)
        if self.top is not None:
            scored = (row for row in rows if row.quality is not None)
            yield from heapq.nsmallest(self.top, scored, key=self._rank)
        elif self.sort is not None:
            yield from sorted(rows, key=self._rank)  # equals stay in the order they came, and in nsmallest too
        else:
            yield from rows

    def _rank(self, row: Result) -> tuple[bool, float]:
        if row.quality is None:
            return True, 0.0
        return False, -row.quality if self.sort == "best" else row.quality
