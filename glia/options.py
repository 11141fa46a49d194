"""KEY=VALUE options of a command, read by the types of the parameters that they are for."""

import math
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from glia_runtime.errors import UsageError

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_options(owner: str, texts: Sequence[str], types: Mapping[str, Any]) -> dict[str, Any]:
    """Read options such as "column=MOS_zscore".

    Args:
        owner: what they are of, for messages.
        texts: as typed; of two with one key the later counts.
        types: of the values by key: bool, int, float, str, a Literal of strings, a tuple of one of these (separated by
            commas), or any of these or None ("none").

    Raises:
        UsageError: no such key, or not a value of its type.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r}: write an option of {owner} as KEY=VALUE")
        if key not in types:
            raise UsageError(f"{owner} has no option {key}; known: {', '.join(types) or 'none'}")
        try:
            found[key] = _read(value, types[key])
        except ValueError as error:
            raise UsageError(f"{key} of {owner} must be {error}, not {value!r}") from error
    return found


def with_direction(options: Mapping[str, Any], lower_is_better: bool) -> dict[str, Any]:
    """The options of a dataset's reader, with what --lower-is-better stands for.

    Raises:
        UsageError: they say that already, or the opposite.
    """
    if not lower_is_better:
        return dict(options)
    if "higher_is_better" in options:
        raise UsageError("--lower-is-better and --dataset-option higher_is_better say the same; leave out one of them")
    return {**options, "higher_is_better": False}


def _read(text: str, hint: Any) -> Any:
    """The value, or a ValueError that says what it must be."""
    parts, origin = get_args(hint), get_origin(hint)
    if NoneType in parts:
        (one,) = (part for part in parts if part is not NoneType)
        return None if text.lower() == "none" else _read(text, one)
    if origin is Literal:
        if text not in parts:
            raise ValueError(f"one of {', '.join(parts)}")
        return text
    if origin is tuple:
        return tuple(_read(part.strip(), parts[0]) for part in text.split(","))
    if hint is bool:
        if text.lower() not in _TRUTH:
            raise ValueError("true or false")
        return _TRUTH[text.lower()]
    try:
        value = hint(text)
    except ValueError:
        raise ValueError("a whole number" if hint is int else "a number") from None
    if hint is float and not math.isfinite(value):
        raise ValueError("a finite number")
    return value
