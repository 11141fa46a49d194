"""Several batches in flight: which slot takes which part, and how a batch too short for an engine is filled up."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from glia_runtime.inputs import Inputs


class Slot(Protocol):
    """Room for one batch in flight."""

    def submit(self, inputs: Inputs) -> None:
        """Start scoring a batch and return at once; the slot must be idle."""

    def collect(self) -> npt.NDArray[Any]:
        """Wait for the batch, and return its scores [B]; the slot is idle again."""

    def drain(self) -> None:
        """Wait until nothing of a batch is in flight, and forget it."""


def run_in_turn(slots: Sequence[Slot], parts: Sequence[Inputs]) -> list[npt.NDArray[Any]]:
    """Score `parts` with up to as many in flight as there are slots; scores in the order of the parts.

    When one fails, nothing is left in flight.
    """
    scores = []
    flying: deque[Slot] = deque()
    try:
        for index, part in enumerate(parts):
            if len(flying) == len(slots):
                scores.append(flying.popleft().collect())
            slot = slots[index % len(slots)]  # the one collected last, or one not used yet
            slot.submit(part)
            flying.append(slot)
        while flying:
            scores.append(flying.popleft().collect())
    except BaseException:
        # Also the slot whose `submit` failed half-way: its copies may still be under way.
        for slot in slots:
            with suppress(Exception):  # what failed first is what is told
                slot.drain()
        raise
    return scores


def filled(inputs: Inputs, fewest: int) -> Inputs:
    """`inputs` with at least `fewest` pictures: the last one is repeated, as its pixels and size fit the graph."""
    missing = fewest - len(next(iter(inputs.values())))
    if missing <= 0:
        return inputs
    return {name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for name, array in inputs.items()}
