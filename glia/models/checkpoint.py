"""Checkpoints: config and tensors in one file, readable without running anything it contains."""

import io
import json
import pickle
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open as open_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from glia.models.base import QualityModel
from glia.models.registry import config_type, create_model, list_models
from glia_runtime.atomic import atomic_write
from glia_runtime.errors import CheckpointError, GliaError, MissingExtraError
from glia_runtime.manifest import ScoreScale
from glia_runtime.strict_json import JsonError, from_jsonable

FORMAT = "glia-checkpoint"
VERSION = 1


def save_checkpoint(model: QualityModel, path: str | Path, training: dict[str, Any] | None = None) -> None:
    """Write `model` to `path` in one piece: .safetensors by that suffix, else PyTorch's zip format.

    Args:
        model: any registered architecture.
        path: the file; written under a temporary name and renamed.
        training: JSON-ready facts about how it was trained, kept beside the weights.
    """
    path = Path(path)
    model = model.merged()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": model.architecture,
        "config": model.config.to_dict(),
        "score_scale": asdict(model.score_scale),
        "training": training or {},
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(path) as temporary:
        if path.suffix == ".safetensors":
            content = save_safetensors(state, metadata={FORMAT: json.dumps(header)})
        else:
            buffer = io.BytesIO()
            torch.save({**header, "state_dict": state}, buffer)
            content = buffer.getvalue()
        temporary.write_bytes(content)  # where a full disk is an OSError; torch raises a RuntimeError of its own


def load_checkpoint(path: str | Path) -> QualityModel:
    """Read a model, in evaluation mode on the CPU. Nothing in the file is executed.

    Raises:
        CheckpointError: missing, truncated, not a glia checkpoint, of a newer version or an unknown architecture, or
            with a config, a score scale or tensors that cannot be.
        MissingExtraError: the architecture needs a package that is not installed.
    """
    path = Path(path)
    header, state = _read(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a glia checkpoint; make one with glia-train")
    version = header.get("version")
    if type(version) is not int or version < 1:  # True is an int to isinstance
        raise CheckpointError(
            f"{path}: checkpoint version {version!r} is no version, its header is damaged; train it anew or update glia"
        )
    if version > VERSION:
        raise CheckpointError(f"{path}: checkpoint version {version!r}, this glia reads up to {VERSION}; upgrade glia")
    architecture = header.get("architecture")
    if architecture not in list_models():
        known = ", ".join(list_models())
        raise CheckpointError(f"{path}: architecture {architecture!r} is unknown to this glia (it knows {known})")
    try:
        config = from_jsonable(config_type(architecture), header.get("config"), where="config", fill_defaults=True)
        scale = from_jsonable(ScoreScale, header.get("score_scale"), where="score_scale")
        if not scale.minimum < scale.maximum:
            raise JsonError("score_scale.maximum is not above score_scale.minimum")
    except (JsonError, GliaError) as error:  # GliaError: types that fit and a value that the architecture refuses
        raise CheckpointError(f"{path}: its header cannot be used: {_in_one_line(error)}; train it anew") from error
    try:
        model = create_model(architecture, **config.to_dict())
        _check_tensors(model, state)
        model.load_state_dict(state)
        model.score_scale = scale
    except MissingExtraError:
        raise
    # what a header or tensors that do not belong together make torch, timm and the architectures raise
    except (GliaError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = _in_one_line(error)[:200]
        raise CheckpointError(f"{path}: config and tensors do not fit together ({reason}); train it anew") from error
    return model.eval()


def read_training(path: Path) -> dict[str, Any]:
    """The facts that `save_checkpoint` was given of the training; empty where there are none.

    Raises:
        CheckpointError: missing or truncated.
    """
    facts = _read(path)[0].get("training")
    return facts if isinstance(facts, dict) else {}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a state-dict file or a glia checkpoint, without building a model.

    Raises:
        CheckpointError: missing, truncated, or not tensors.
    """
    header, state = _read(path)
    tensors = state or header
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"{path}: holds no tensors; expected the state dict of a model")
    return tensors


def _check_tensors(model: QualityModel, state: dict[str, Any]) -> None:
    """Raise ValueError with the first tensor that `model` lacks or has no use for, where torch would name all."""
    names = model.state_dict().keys()
    if missing := [name for name in names if name not in state]:
        raise ValueError(f"{_first(missing)} missing")
    if unknown := [name for name in state if name not in names]:
        raise ValueError(f"{_first(unknown)} not of this architecture")


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 1} more are" if names[1:] else " is"
    return f"tensor {names[0]}{more}"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and state dict; a bare state dict in PyTorch's format comes back as the header."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; name the checkpoint in it, {path / 'model.pt'} for instance")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give the path of a checkpoint made by glia-train")
    try:
        if path.suffix == ".safetensors":
            with open_safetensors(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get(FORMAT, "{}"))
                if not isinstance(header, dict):
                    raise ValueError(f"its header is no object but {header!r:.40}")
                return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        with warnings.catch_warnings():
            # torch warns about what it is going to refuse; the refusal below says it in one line.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, it is no checkpoint or holds more than tensors and plain values (nothing was executed)"
        ) from error
    except (MemoryError, MissingExtraError):
        raise
    except Exception as error:  # whatever damage makes torch, pickle, zipfile or safetensors raise
        reason = _in_one_line(error).split(" Exception raised")[0][:160]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint, truncated or not one ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a glia checkpoint; make one with glia-train")
    state = content.pop("state_dict", {})
    return content, state if isinstance(state, dict) else {}


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
