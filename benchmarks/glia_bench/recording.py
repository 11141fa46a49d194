"""A run in the making: its machine, whether that was quiet, what was measured, and what has to be said about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import numpy as np

from glia_bench.machine import this_machine
from glia_bench.measure import Say, timed
from glia_bench.results import NOISY, Measurement, Run, unsteadiness
from glia_runtime.errors import GliaError, UsageError

_FIXED_SIDE = 384  # a matrix product of 1 to 3 ms: long against the clock, short against what disturbs it
_FIXED_REPEATS = 60


class Recorder:
    """Collects the measurements of one command.

    Args:
        command: its name.
        settings: its options, and what else decides the figures; may grow.
        say: told what the user should know at once; all of it goes into the result as well.

    Attributes:
        has_failed: whether a `part` did, or what is as good as one.
    """

    def __init__(self, command: str, settings: dict[str, Any], say: Say) -> None:
        self._command, self._say = command, say
        self.settings = settings
        self.machine = this_machine()
        self._measurements: list[Measurement] = []
        self._notes: list[str] = []
        self.has_failed = False
        self._fixed = _fixed_work()

    def add(self, measurement: Measurement) -> Measurement:
        """Keep a measurement; complain where its samples vary too much to be called a measurement.

        Raises:
            UsageError: the same quantity of the same subject is there; one of the two would be lost to who reads them.
        """
        name = (measurement.subject, measurement.metric)
        if any(name == (other.subject, other.metric) for other in self._measurements):
            raise UsageError(f"{measurement.subject}, {measurement.metric}: measured twice in one run; ask for it once")
        self._measurements.append(measurement)
        if measurement.is_noisy:
            self.note(
                f"the machine is not quiet: {measurement.subject}, {measurement.metric} varies by "
                f"{unsteadiness(measurement.samples):.0%} (spread or drift, quiet is under {NOISY:.0%})"
            )
        return measurement

    @property
    def count(self) -> int:
        """Measurements so far."""
        return len(self._measurements)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """One of several models at work: its `GliaError` becomes a remark, so that the others are not lost to it."""
        try:
            yield
        except GliaError as error:
            self.has_failed = True
            self.note(f"{name} failed: {error}")

    def note(self, line: str) -> None:
        """Keep a remark and show it."""
        self._notes.append(line)
        self._say(line)

    def finish(self) -> Run:
        """The result; also says when the same small piece of work did not always take the same time."""
        afterwards = _fixed_work()
        variation = unsteadiness(self._fixed, afterwards) or 0.0
        if variation > NOISY:
            self.note(
                f"the machine is not quiet: a fixed matrix product, timed before and after, varies by {variation:.0%}; "
                "stop what else runs, and do not quote these figures"
            )
        return Run(
            command=self._command,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            machine=self.machine,
            settings=self.settings,
            measurements=tuple(self._measurements),
            notes=tuple(self._notes),
            fixed_work=(*self._fixed, *afterwards),
        )


def _fixed_work() -> tuple[float, ...]:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, _FIXED_SIDE, _FIXED_SIDE))
    return timed(lambda: first @ second, warm_up=10, repeats=_FIXED_REPEATS)
