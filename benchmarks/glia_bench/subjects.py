"""What is measured: an artifact in its backend, or a checkpoint in eager PyTorch, behind one face.

The one place where glia-bench opens something of the runtime.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glia.evaluation.scoring import EagerBackend, is_checkpoint
from glia_bench.measure import Say
from glia_bench.options import ALL_BACKENDS, BUNDLED
from glia_runtime.backends import choices, open_backend
from glia_runtime.backends.base import Backend
from glia_runtime.decode import decode
from glia_runtime.errors import GliaError, UsageError
from glia_runtime.fragments import Image
from glia_runtime.inputs import Inputs, Prepared, collate, prepare
from glia_runtime.manifest import Manifest, Precision, read_manifest, verify_artifact
from glia_runtime.scorer import BUNDLED_MODEL, Scorer

EAGER = ("pytorch", "pytorch:fp16")
"""The backends of a checkpoint: as it was trained, and halved as an export to fp16 is."""

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
    """What to open: "bundled", an artifact or a checkpoint, where, and in which backend (`BackendInfo.title`).

    Attributes:
        label: what tables call the file; None is its name. See `tell_apart`.
    """

    model: str
    device: str = "auto"
    backend: str = "auto"
    label: str | None = None

    def __str__(self) -> str:
        """For a result's settings."""
        return f"{self.name} in {self.backend}"

    @property
    def name(self) -> str:
        """What tables call the file."""
        return self.label or self.path.name

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
        name: for tables: file and backend, "model.onnx (onnxruntime)", "model.ts (torchscript on cuda)".
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
            "checkpoint": self.manifest.checkpoint_sha256,
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

    def batch(self, paths: Sequence[Path], size: int) -> Inputs:
        """A batch of `size` pictures for `run`, the files over and over."""
        prepared = [self.prepare(decode(path)) for path in paths[:size]]
        return self.collate(list(islice(cycle(prepared), size)))

    def at_once(self, batch: int) -> int:
        """Pictures of a batch of this size that the graph takes at once: the artifact may have a limit."""
        return min(batch, self.manifest.limits.max_batch or batch)

    def batch_title(self, batch: int) -> str:
        """For a row: "batch 64", or "batch 64 in parts of 16" where the artifact takes no more."""
        most = self.at_once(batch)
        return f"batch {batch}" if most == batch else f"batch {batch} in parts of {most}"

    def run(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """The graph alone: float32 [B]."""
        return self.backend.run(inputs)

    def scorer(self) -> Scorer:
        """The runtime's own pipeline around the same backend."""
        return Scorer(self.backend)


def expand(models: Sequence[str] | None, backends: Sequence[str] | None, device: str) -> list[Spec]:
    """Every model (by default the bundled one) in every backend that is for it (by default the one `auto` picks).

    "all" stands for the backends that can run an artifact here; those of `EAGER` are for checkpoints, the others for
    artifacts. A file that is named twice counts once, and files of one name are told apart (`tell_apart`).

    Raises:
        UsageError: a backend that is for none of the models; auto or all beside another one, which they may stand for.
    """
    kinds = {Spec(model).is_checkpoint for model in models or [BUNDLED]}
    for backend in backends or ():
        if backend not in ("auto", ALL_BACKENDS) and (backend in EAGER) not in kinds:
            kind = "checkpoints" if backend in EAGER else "artifacts"
            raise UsageError(f"--backend {backend} is for {kind}, and no --model is one; leave it out")
    files: dict[str, str] = {}
    for model in models or [BUNDLED]:
        files.setdefault(os.path.realpath(Spec(model).path), model)
    specs: dict[Spec, None] = {}
    for model in files.values():
        checkpoint = Spec(model).is_checkpoint
        fitting = list(dict.fromkeys(name for name in backends or () if (name in EAGER) == checkpoint))
        if len(fitting) > 1 and (open_ended := {"auto", ALL_BACKENDS}.intersection(fitting)):
            raise UsageError(f"--backend {min(open_ended)} may stand for another one that is named; give it alone")
        for backend in fitting or [EAGER[0] if checkpoint else "auto"]:
            spec = Spec(model, device, backend)
            specs |= dict.fromkeys(_all(spec) if backend == ALL_BACKENDS else [spec])
    return tell_apart(specs)


def tell_apart(specs: Iterable[Spec], beside: Iterable[Spec] = ()) -> list[Spec]:
    """These, each labelled by the shortest end of its path that is no other file's, nor that of one `beside` them.

    Results, and who compares them, know a file by this name alone. A name that is the only one needs no label.
    """
    found = list(specs)
    paths = {spec.path.absolute() for spec in (*found, *beside)}

    def label(path: Path) -> str | None:
        ends = (path.parts[-count:] for count in range(1, len(path.parts) + 1))
        end = next(end for end in ends if sum(other.parts[-len(end) :] == end for other in paths) == 1)
        return str(Path(*end)) if len(end) > 1 else None

    return [replace(spec, label=label(spec.path.absolute())) for spec in found]


def _all(spec: Spec) -> list[Spec]:
    by_default = Spec(spec.model, spec.device)
    try:
        ways = choices(spec.path, read_manifest(spec.path), spec.device)
    except GliaError:  # said when it is opened
        return [by_default]
    able = [way for way in ways if way.obstacle(spec.path) is None]
    return [Spec(spec.model, way.device, way.info.title) for way in able] or [by_default]


def open_subject(spec: Spec) -> Subject:
    """Open what `spec` says.

    Raises:
        GliaError: as `Scorer.open` and `load_checkpoint`; the file and why it cannot run here.
    """
    path = spec.path
    if spec.is_checkpoint:
        precision: Precision = "fp16" if spec.backend == EAGER[1] else "fp32"
        backend: Backend = EagerBackend(path, spec.device, precision)
    else:
        manifest = read_manifest(path)
        verify_artifact(path, manifest)
        backend, *_ = open_backend(
            path, manifest, spec.device, spec.backend, prove=lambda loaded: Scorer(loaded).self_test()
        )
    title = backend.name
    if backend.precision != backend.manifest.precision:
        title += f":{backend.precision}"
    if backend.device != "cpu":  # --backend all has ONNX Runtime and TorchScript on both
        title += f" on {backend.device}"
    return Subject(f"{spec.name} ({title})", backend)


def open_subjects(specs: Sequence[Spec], note: Say) -> dict[Spec, Subject]:
    """Open each that can run here; `note` is told a line about each that cannot.

    Raises:
        GliaError: none of them can; the first one's reason.
    """
    subjects: dict[Spec, Subject] = {}
    refusals: list[GliaError] = []
    for spec in specs:
        try:
            subjects[spec] = open_subject(spec)
        except GliaError as error:
            refusals.append(error)
    if not subjects:
        raise refusals[0]
    for refusal in refusals:
        note(f"left out: {refusal}")
    return subjects
