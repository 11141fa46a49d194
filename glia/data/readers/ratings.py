"""What the readers of a user's own ratings share: which scores make sense, and the scale they are on."""

import math
from collections.abc import Sequence
from pathlib import Path

from glia_runtime.errors import DatasetError
from glia_runtime.manifest import ScoreScale

_SHOWN = 3  # bad rows in one message


def finite(value: object) -> float | None:
    """The value as a number, or None where it is none or not finite."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def refuse(source: Path, bad: Sequence[str], reason: str) -> None:
    """Raise `DatasetError` with the first of the bad rows; none, no error."""
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DatasetError(f"{source}: {'; '.join(bad[:_SHOWN])}{more} ({reason}); mend or remove the rows")


def rating_scale(
    source: Path,
    scores: Sequence[float],
    places: Sequence[str],
    higher_is_better: bool,
    minimum: float | None,
    maximum: float | None,
) -> ScoreScale:
    """The scale that the scores are on, named after their source.

    Args:
        source: where they were read.
        scores: finite, one a picture.
        places: how messages call each score's row.
        higher_is_better: False for DMOS.
        minimum: lower end of the scale; None takes the lowest score.
        maximum: upper end; None takes the highest score.

    Raises:
        DatasetError: no scores, scores that are all the same, or one outside the scale.
    """
    if not scores:
        raise DatasetError(f"{source}: holds no rows; each picture needs one")
    low = min(scores) if minimum is None else minimum
    high = max(scores) if maximum is None else maximum
    outside = [
        f"{place}: score {score:g}" for place, score in zip(places, scores, strict=True) if not low <= score <= high
    ]
    refuse(source, outside, f"outside {low:g} to {high:g}")
    if not low < high:
        raise DatasetError(f"{source}: all scores are {low:g}, which says nothing; at least two must differ")
    return ScoreScale(low, high, higher_is_better, source.stem)
