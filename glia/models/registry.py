"""Architectures by name. A new one registers here; no caller changes."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

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
    """The class of an architecture's config.

    Raises:
        UsageError: an unknown architecture.
    """
    if name not in _ARCHITECTURES:
        raise UsageError(f"unknown architecture {name!r}; known: {', '.join(list_models())}")
    return _ARCHITECTURES[name].config_type


def create_model(name: str = "glianet", **config: Any) -> QualityModel:
    """Build a model with random weights.

    Args:
        name: one of `list_models()`.
        **config: fields of the architecture's config; what is left out keeps its default.

    Raises:
        UsageError: an unknown architecture, an unknown field, or a value the architecture refuses.
    """
    made = model_config(name, **config)
    return _ARCHITECTURES[name](made)


def model_config(name: str, **config: Any) -> ModelConfig:
    """The config that `create_model` builds from; the same arguments and errors."""
    known = config_types(name)
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise UsageError(f"{name} has no config field {', '.join(unknown)}; its fields: {', '.join(known)}")
    return config_type(name)(**config)


def config_types(name: str) -> dict[str, Any]:
    """The fields of an architecture's config with their types.

    Raises:
        UsageError: an unknown architecture.
    """
    config = config_type(name)
    hints = get_type_hints(config)
    return {field.name: hints[field.name] for field in fields(config)}
