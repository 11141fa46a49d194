"""Dataclasses to JSON and back, strictly: every field present, known, of its annotated type, and finite."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


class JsonError(ValueError):
    """JSON that is not what the dataclass declares; the message completes a sentence that names the file."""


def to_jsonable(instance: Any) -> dict[str, Any]:
    """A dataclass instance as nested dicts and lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(instance), allow_nan=False))
    return plain


def parse_object(text: str) -> dict[str, Any]:
    """Parse JSON text that must be an object without repeated keys; raise `JsonError` otherwise."""
    try:
        value = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constants)
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(f"not valid JSON ({error.msg}, line {error.lineno})") from error
    except (RecursionError, ValueError) as error:  # nested too deep; an integer of thousands of digits
        raise JsonError("not valid JSON (nested too deep, or a number too long)") from error
    if not isinstance(value, dict):
        raise JsonError("not a JSON object")
    return value


def from_jsonable(
    cls: type[T], fields: Any, *, where: str = "", ignore_unknown: bool = False, fill_defaults: bool = False
) -> T:
    """Build dataclass `cls` from parsed JSON; raise `JsonError` naming the field that does not fit.

    Every field must be there, defaults or not, unless `fill_defaults`. `ignore_unknown` skips fields that `cls` does
    not have.
    """
    if not isinstance(fields, dict):
        raise JsonError(f"{where or 'the top level'} is {_kind(fields)}, not an object")
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(cls)
    declared = dataclasses.fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in declared]
    needed = [field.name for field in declared if not (fill_defaults and _has_default(field))]
    if missing := [name for name in needed if name not in fields]:
        raise JsonError(f"field {prefix}{missing[0]} is missing")
    if not ignore_unknown and (unknown := [name for name in fields if name not in names]):
        raise JsonError(f"unknown field {prefix}{unknown[0]}")

    def nested(kind: Any, value: Any, where: str) -> Any:
        return from_jsonable(kind, value, where=where, ignore_unknown=ignore_unknown, fill_defaults=fill_defaults)

    values = {name: _convert(hints[name], fields[name], f"{prefix}{name}", nested) for name in names if name in fields}
    return cls(**values)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _convert(kind: Any, value: Any, where: str, convert_dataclass: Callable[[Any, Any, str], Any]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return convert_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):  # only "X | None" is used
        if value is None:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _convert(inner, value, where, convert_dataclass)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise JsonError(f"{where} is {value!r:.60}, not one of {', '.join(arguments)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):  # a tuple where the value comes from another format than JSON
            raise JsonError(f"{where} is {_kind(value)}, not a list")
        return tuple(
            _convert(arguments[0], item, f"{where}[{index}]", convert_dataclass) for index, item in enumerate(value)
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise JsonError(f"{where} is {_kind(value)}, not an object")
        return value
    if kind is float and type(value) in (int, float):
        return _finite(value, where)
    if kind in (str, int, bool) and type(value) is kind:  # type(), because True is an int to isinstance
        return value
    raise JsonError(f"{where} is {_kind(value)}, not {_NAMES[kind]}")


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        raise JsonError(f"{where} is not a number")
    if math.isinf(number):
        raise JsonError(f"{where} is too large a number")
    return number


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", **_NAMES}.get(type(value), type(value).__name__)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise JsonError("a field appears twice")
    return fields


def _no_constants(name: str) -> float:
    raise JsonError(f"{name} is not a number JSON knows")
