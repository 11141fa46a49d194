"""What is measured: an artifact in its backend, or a checkpoint in eager PyTorch, behind one face.

The one place where glia-bench opens something of the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glia.evaluation.scoring import EagerBackend, is_checkpoint
from glia_bench.options import ALL_BACKENDS, BUNDLED
from glia_runtime.backends import choices, open_backend
from glia_runtime.backends.base import Backend
from glia_runtime.decode import decode
from glia_runtime.errors import GliaError, UsageError
from glia_runtime.fragments import Image
from glia_runtime.inputs import Inputs, Prepared, collate, prepare
from glia_runtime.manifest import Manifest, Precision, read_manifest, verify_artifact
from glia_runtime.scorer import BUNDLED_MODEL, Scorer

ARITHMETIC: dict[Precision, str] = {
    "fp32": "fp32",
    "fp16": "fp16",
    "fp16-weights": "fp32",
    "bf16": "bf16",
    "int8": "int8",
}
"""What a precision computes in, which is what a matrix peak has to be measured in."""


@dataclass(frozen=True)
class Spec:
    """What to open: "bundled", an artifact or a checkpoint, where, and in which backend (`BackendInfo.title`)."""

    model: str
    device: str = "auto"
    backend: str = "auto"

    def __str__(self) -> str:
        """For a result's settings."""
        return f"{self.path.name} in {'pytorch' if self.is_checkpoint else self.backend}"

    @property
    def path(self) -> Path:
        """The file."""
        return BUNDLED_MODEL if self.model == BUNDLED else Path(self.model)

    @property
    def is_checkpoint(self) -> bool:
        """Whether PyTorch runs it, and no backend of the runtime."""
        return is_checkpoint(self.path)


@dataclass(frozen=True)
class Subject:
    """An opened artifact or checkpoint.

    Attributes:
        name: for tables: file and backend, "model.onnx (onnxruntime)".
        backend: runs it.
    """

    name: str
    backend: Backend

    @property
    def manifest(self) -> Manifest:
        """Of the artifact; of a checkpoint, what an export would say of it."""
        return self.backend.manifest

    def facts(self) -> dict[str, Any]:
        """What every row about it says."""
        return {
            "artifact": self.backend.artifact.name,
            "sha256": self.manifest.artifact_sha256,
            "backend": self.backend.name,
            "device": self.backend.device,
            "target": self.manifest.target if not isinstance(self.backend, EagerBackend) else "checkpoint",
            "precision": self.manifest.precision,
            "computes_in": self.backend.precision,
            "input": self.manifest.input,
        }

    def prepare(self, image: Image) -> Prepared:
        """What the host does with decoded pixels: views, or enlarging."""
        return prepare(image, self.manifest)

    def collate(self, pictures: list[Prepared]) -> Inputs:
        """A batch for `run`."""
        return collate(pictures, self.manifest)

    def run(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """The graph alone: float32 [B]."""
        return self.backend.run(inputs)

    def score_file(self, path: Path) -> float:
        """All of it, from a file to its score."""
        return float(self.run(self.collate([self.prepare(decode(path))]))[0])

    def scorer(self) -> Scorer:
        """The runtime's own pipeline around the same backend."""
        return Scorer(self.backend)


def expand(models: Sequence[str] | None, backends: Sequence[str] | None, device: str) -> list[Spec]:
    """Every model (by default the bundled one) in every backend (by default the one that `auto` picks).

    "all" stands for the backends that can run a model here; a checkpoint has but one.
    """
    specs: dict[Spec, None] = {}
    for model in models or [BUNDLED]:
        for backend in backends or ["auto"]:
            spec = Spec(model, device, backend)
            if spec.is_checkpoint:
                specs[Spec(model, device)] = None
            elif backend == ALL_BACKENDS:
                specs |= dict.fromkeys(_all(spec))
            else:
                specs[spec] = None
    return list(specs)


def _all(spec: Spec) -> list[Spec]:
    try:
        ways = choices(spec.path, read_manifest(spec.path), spec.device)
    except GliaError:  # said when it is opened
        return [Spec(spec.model, spec.device)]
    return [Spec(spec.model, way.device, way.info.title) for way in ways if way.obstacle(spec.path) is None]


def open_subject(spec: Spec) -> Subject:
    """Open what `spec` says.

    Raises:
        GliaError: as `Scorer.open` and `load_checkpoint`; the file and why it cannot run here.
    """
    path = spec.path
    if spec.is_checkpoint:
        backend: Backend = EagerBackend(path, spec.device)
    else:
        manifest = read_manifest(path)
        verify_artifact(path, manifest)
        backend, *_ = open_backend(
            path, manifest, spec.device, spec.backend, prove=lambda loaded: Scorer(loaded).self_test()
        )
    title = backend.name
    if backend.precision != backend.manifest.precision:
        title += f":{backend.precision}"
    return Subject(f"{path.name} ({title})", backend)


def open_subjects(specs: Sequence[Spec]) -> tuple[list[Subject], list[str]]:
    """Open each that can run here; also return one line for each that cannot.

    Raises:
        GliaError: none of them can; the first one's reason.
    """
    subjects: list[Subject] = []
    refusals: list[GliaError] = []
    for spec in specs:
        try:
            subjects.append(open_subject(spec))
        except GliaError as error:
            refusals.append(error)
    if not subjects:
        raise refusals[0] if refusals else UsageError("no model given; name an artifact, a checkpoint or 'bundled'")
    return subjects, [f"left out: {error}" for error in refusals]
