"""Architectures by name. A new one registers here; no caller changes."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from glia.models.base import ModelConfig, QualityModel
from glia_runtime.errors import UsageError

_ARCHITECTURES: dict[str, type[QualityModel]] = {}


def register_model(name: str) -> Callable[[type[QualityModel]], type[QualityModel]]:
    """Class decorator that makes an architecture available to `create_model` under `name`."""

    def register(architecture: type[QualityModel]) -> type[QualityModel]:
        if name in _ARCHITECTURES:
            raise ValueError(f"an architecture named {name!r} is registered already")
        architecture.architecture = name
        _ARCHITECTURES[name] = architecture
        return architecture

    return register


def list_models() -> list[str]:
    """Names that `create_model` accepts, sorted."""
    return sorted(_ARCHITECTURES)


def config_type(name: str) -> type[ModelConfig]:
    """The class of an architecture's config; raises KeyError."""
    return _ARCHITECTURES[name].config_type


def create_model(name: str = "glianet", **config: Any) -> QualityModel:
    """Build a model with random weights.

    Args:
        name: one of `list_models()`.
        **config: fields of the architecture's config; what is left out keeps its default.

    Raises:
        UsageError: an unknown architecture, an unknown field, or a value the architecture refuses.
    """
    if name not in _ARCHITECTURES:
        raise UsageError(f"unknown architecture {name!r}; known: {', '.join(list_models())}")
    architecture = _ARCHITECTURES[name]
    known = [field.name for field in fields(architecture.config_type)]
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise UsageError(f"{name} has no config field {', '.join(unknown)}; its fields: {', '.join(known)}")
    return architecture(architecture.config_type(**config))
