"""Which pictures have a row, told by a digest of each path: ten million of them fit into memory.

The digest is Python's own hash of the path: 64 bits, others in each process. Two paths share one with a chance of one
in 1.8e19: among ten million pictures with a row and ten million without, once in 180,000 such runs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable


class Rows:
    """Rows by their places, 9 bytes each, to be taken by the pictures that they belong to, a row by one picture.

    As long as pictures come in the order of the rows nothing more is kept; from the first that does not, an index of
    the rows that are left, 16 bytes each.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._digests = array("q")
        self._failed = bytearray()
        self._next = 0
        self._others: Places | None = None
        self._replaced: Places | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._digests)

    def add(self, path: str, failed: bool) -> int:
        """Add a row behind the others, or in place of one that is tried again, and return its place."""
        digest = hash(path)
        place = self._replaced.take(digest) if self._replaced else None
        if place is None:
            place = len(self._digests)
            self._digests.append(digest)
            self._failed.append(failed)
        else:
            self._failed[place] = failed
        return place

    def try_again(self) -> None:
        """Let the rows that are added take the places of those of their paths that hold an error."""
        self._replaced = self.failures()

    def failures(self) -> Places:
        """The places of rows that hold an error."""
        return Places(self._digests, (place for place, failed in enumerate(self._failed) if failed))

    @property
    def failed(self) -> int:
        """How many hold an error."""
        return sum(self._failed)

    def has_failed(self, place: int) -> bool:
        """Whether the row in this place holds an error."""
        return bool(self._failed[place])

    def take(self, path: str) -> int | None:
        """The first place with a row of `path` that no picture has taken; None when there is none, or none left."""
        digest = hash(path)
        if self._others is None:
            if self._next < len(self._digests) and self._digests[self._next] == digest:
                self._next += 1
                return self._next - 1
            self._others = Places(self._digests, range(self._next, len(self._digests)))
        return self._others.take(digest)

    def left(self) -> tuple[int, int]:
        """How many rows no picture has taken, and how many of those hold an error."""
        places = range(self._next, len(self._digests)) if self._others is None else self._others.left()
        number = failed = 0
        for place in places:
            number += 1
            failed += self._failed[place]
        return number, failed


class Places:
    """Places by digest, each given once, those of one digest in their order."""

    def __init__(self, digests: array[int], places: Iterable[int]) -> None:
        """Sort `places`, which ascend, by what `digests` says of them."""
        import numpy as np  # slow to import, and most runs need no index

        at = np.fromiter(places, np.uint32)
        keys = np.frombuffer(digests, np.int64)[at] if len(digests) else np.empty(0, np.int64)
        order = np.argsort(keys, kind="stable")
        # bisect over a buffer takes 2 us a picture; NumPy's own search, called for one number, 5.
        self._keys, self._places = keys[order].data, at[order].data
        self._given = array("I", bytes(4 * len(at)))
        """How many of a digest's places were given, where the digest begins."""

    def take(self, digest: int) -> int | None:
        """The next place of `digest`; None when all are given."""
        first = bisect_left(self._keys, digest)
        if first == len(self._keys) or self._keys[first] != digest:
            return None
        place = first + self._given[first]
        if place == len(self._keys) or self._keys[place] != digest:
            return None
        self._given[first] += 1
        return self._places[place]

    def left(self) -> Iterable[int]:
        """The places that were not given."""
        first = 0
        for index, digest in enumerate(self._keys):
            if digest != self._keys[first]:
                first = index
            if index >= first + self._given[first]:
                yield self._places[index]
