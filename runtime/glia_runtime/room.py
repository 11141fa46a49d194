"""How much memory the pictures of a stream may take at once, whatever the number of threads that decode them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

AHEAD_BYTES = 1 << 27
"""Pictures that wait for the graph: 446 pairs of views, or three frames of 12 MP, beside one a thread."""

DECODING_PIXELS = 1 << 29
"""Pixels of all pictures in the threads' hands: 44 of 12 MP. A photograph takes 4 bytes a pixel meanwhile, twice
that while it is turned; a palette PNG of 177 MP took 13 (2.36 GB), which makes 7 GB of such files.
"""


class Room:
    """Bounds the pictures that wait, and those that are being decoded; pictures are numbered as they were named.

    The oldest picture never waits for younger ones to be taken, and whatever is larger than a bound passes alone:
    so the pipeline always moves.
    """

    def __init__(self) -> None:
        """Empty."""
        self._changed = Condition()
        self._ahead = self._decoding = self._oldest = 0
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether no more pictures should be named."""
        return self._ahead > AHEAD_BYTES

    def add(self, size: int) -> None:
        """Count `size` bytes (negative: no longer) as waiting."""
        with self._changed:
            self._ahead += size
            self._changed.notify_all()

    def take(self, size: int) -> None:
        """The oldest picture, of `size` bytes, goes to the graph."""
        self._oldest += 1
        self.add(-size)

    def close(self) -> None:
        """Let every thread that waits go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def decoding(self, number: int) -> Iterator[Callable[[int], None]]:
        """Give a function to call once, before picture `number` is decoded, with its pixels: it waits for room.

        The room is given back when the block ends.
        """
        held = 0

        def fits(pixels: int) -> bool:
            has_its_turn = self._ahead <= AHEAD_BYTES or number <= self._oldest
            return self._closed or (has_its_turn and (not self._decoding or self._decoding + pixels <= DECODING_PIXELS))

        def enter(pixels: int) -> None:
            nonlocal held
            with self._changed:
                self._changed.wait_for(lambda: fits(pixels))
                self._decoding += pixels
                held = pixels

        try:
            yield enter
        finally:
            with self._changed:
                self._decoding -= held
                self._changed.notify_all()
