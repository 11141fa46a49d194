"""An artifact becomes scores; never imports torch at import time.

    from glia_runtime import Scorer

    scorer = Scorer.open()                      # or Scorer.open("model.onnx")
    scores = scorer.score([image])              # uint8 [H, W, 3] arrays -> float32 [B]
    for result in scorer.stream(paths):         # Result(path, score, error, quality, width, height)
        ...

Names are imported on first use, so that ``import glia_runtime`` costs nothing. To decode a file as the scorer
does: ``from glia_runtime.decode import decode``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glia_runtime.atomic import atomic_write
    from glia_runtime.errors import (
        ArtifactError,
        BackendError,
        CheckpointError,
        GliaError,
        ImageError,
        ManifestError,
        MissingExtraError,
        OutputError,
        UsageError,
    )
    from glia_runtime.fragments import FragmentSpec, fragment_sample
    from glia_runtime.manifest import (
        MANIFEST_VERSION,
        EngineInfo,
        Limits,
        Manifest,
        ParityRow,
        Probe,
        ScoreScale,
        read_manifest,
        verify_artifact,
        write_manifest,
    )
    from glia_runtime.probe import probe_images
    from glia_runtime.scorer import Result, Scorer
    from glia_runtime.views import detail_view, enlarge, sample_views, semantic_view

__all__ = [
    "MANIFEST_VERSION",
    "ArtifactError",
    "BackendError",
    "CheckpointError",
    "EngineInfo",
    "FragmentSpec",
    "GliaError",
    "ImageError",
    "Limits",
    "Manifest",
    "ManifestError",
    "MissingExtraError",
    "OutputError",
    "ParityRow",
    "Probe",
    "Result",
    "ScoreScale",
    "Scorer",
    "UsageError",
    "atomic_write",
    "detail_view",
    "enlarge",
    "fragment_sample",
    "probe_images",
    "read_manifest",
    "sample_views",
    "semantic_view",
    "verify_artifact",
    "write_manifest",
]

_HOMES = {
    "atomic": ("atomic_write",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "fragments": ("FragmentSpec", "fragment_sample"),
    "manifest": (
        "MANIFEST_VERSION",
        "EngineInfo",
        "Limits",
        "Manifest",
        "ParityRow",
        "Probe",
        "ScoreScale",
        "read_manifest",
        "verify_artifact",
        "write_manifest",
    ),
    "probe": ("probe_images",),
    "scorer": ("Result", "Scorer"),
    "views": ("detail_view", "enlarge", "sample_views", "semantic_view"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
