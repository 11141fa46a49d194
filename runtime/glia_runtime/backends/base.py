"""What every backend has in common: the checks before and after the graph, the batch limit, the timing."""

from __future__ import annotations

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from glia_runtime.backends.gpu import find_gpu
from glia_runtime.errors import ArtifactError, BackendError
from glia_runtime.inputs import Inputs, check_inputs
from glia_runtime.manifest import Manifest, Precision, Target

Scores = npt.NDArray[np.float32]
Maps = npt.NDArray[np.float32]


@dataclass
class Timing:
    """Time spent inside the graph so far: number of runs, of pictures, and seconds."""

    runs: int = 0
    pictures: int = 0
    seconds: float = 0.0


class Backend(ABC):
    """One artifact, loaded on one device. A subclass loads in `_load` and runs one batch in `_run`."""

    name: str
    """As in the registry and in parity rows."""

    machine: Mapping[str, str] | None = None
    """On a GPU, where an artifact is probed on each machine that runs it: what a verdict is bound to besides the
    artifact, see `Gpu.facts`; set by `_load`.
    """

    def __init__(
        self,
        artifact: Path,
        manifest: Manifest,
        device: str,
        *,
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        """Load `artifact`, which is the one its manifest describes and fits this machine, on `device`.

        Args:
            artifact: the file.
            manifest: of the file.
            device: "cpu" or "cuda".
            precision: to compute in; None for the artifact's own.
            threads: for the arithmetic on the CPU; None for `usable_cpus`, of which a program that decodes meanwhile
                may want to keep some.

        Raises:
            ArtifactError: the library cannot load it, or its inputs are not those its manifest declares.
            BackendError: the device is not there.
        """
        self.artifact = artifact
        self.manifest = manifest
        self.device = device
        self.precision: Precision = precision or manifest.precision
        self.threads = threads or usable_cpus()
        self.timing = Timing()
        self._load()

    @classmethod
    def obstacle(cls, device: str, precision: Precision) -> str | None:
        """Why this machine cannot compute so although the package is installed, and what to do; None when it can."""
        return None

    def run(self, inputs: Inputs) -> Scores:
        """Score one batch of any size: inputs as in `glia_runtime.inputs`, scores float32 [B], which may be
        not finite.

        A batch over the artifact's limit runs in parts.

        Raises:
            ImageError: an input has another name, shape or dtype than the graph's.
            ArtifactError: the graph returned something else than one number a picture.
            BackendError: the library failed while running.
        """
        parts = self._parts(inputs)
        return np.concatenate(self._timed(parts)) if parts else np.empty(0, dtype=np.float32)

    def run_maps(self, inputs: Inputs) -> Maps:
        """Where the model looked at each picture of one batch of any size: float32 [B, G, G], see `glia_runtime.maps`.

        Raises:
            ImageError: as `run`.
            ArtifactError: the graph returned something else than one map a picture.
            BackendError: this backend gives no maps, or the library failed while running.
        """
        parts = self._parts(inputs)
        try:
            outcomes = [self._run_maps(part) for part in parts]
        except NotImplementedError:
            raise BackendError(f"{self.artifact}: {self.name} gives no maps; export one that does to ONNX") from None
        except Exception as error:  # as in `_timed`
            raise BackendError(f"{self.artifact}: {self.name} failed on its maps ({first_line(error)})") from error
        for maps, part in zip(outcomes, parts, strict=True):
            if maps.ndim != 3 or len(maps) != _pictures(part):
                raise ArtifactError(
                    f"{self.artifact}: maps {list(maps.shape)} for {_pictures(part)} picture(s); export it again"
                )
        return np.concatenate(outcomes).astype(np.float32, copy=False) if parts else np.empty((0, 0, 0), np.float32)

    def _parts(self, inputs: Inputs) -> list[Inputs]:
        """Checked inputs, cut at the artifact's limit of a batch."""
        batch = check_inputs(inputs, self.manifest)
        step = self.manifest.limits.max_batch or max(1, batch)
        return [
            {name: array[start : start + step] for name, array in inputs.items()} for start in range(0, batch, step)
        ]

    def _timed(self, parts: Sequence[Inputs]) -> list[Scores]:
        pictures = [_pictures(part) for part in parts]
        begun = perf_counter()
        try:
            outcomes = self._run_parts(parts)
        # Each library has its own exception types; a failure inside one must still be one clear line.
        except Exception as error:
            raise BackendError(
                f"{self.artifact}: {self.name} failed on {sum(pictures)} picture(s) ({first_line(error)}); "
                "try a smaller batch, or check the artifact with glia-infer --self-test"
            ) from error
        self.timing.seconds += perf_counter() - begun
        self.timing.runs += len(parts)
        self.timing.pictures += sum(pictures)
        for scores, wanted in zip(outcomes, pictures, strict=True):
            if scores.shape != (wanted,):
                raise ArtifactError(
                    f"{self.artifact}: {list(scores.shape)} scores for {wanted} picture(s); export it again"
                )
        return [scores.astype(np.float32, copy=False) for scores in outcomes]

    def _bind(self, library: str) -> None:
        """Set `machine` to the GPU here; `library` is the one that computes, with its version."""
        try:
            self.machine = find_gpu().facts(library)
        except BackendError as error:
            raise BackendError(
                f"{self.artifact}: {self.name} on {self.device} needs an NVIDIA GPU, and {error}"
            ) from error

    def _refuse(self, reason: object) -> ArtifactError:
        return ArtifactError(
            f"{self.artifact}: {self.name} cannot load it ({first_line(reason)}); "
            f"export it again, or update {self.name}"
        )

    def _check_signature(self, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        """Raise `ArtifactError` unless these are the names that the manifest's `input` and `map_view` stand for."""
        if (found := sorted(inputs)) != sorted(self.manifest.input_names):
            raise self._refuse(f"its inputs are {found}, not those of kind {self.manifest.input!r}")
        expected = ["score"] if self.manifest.map_view is None else ["map", "score"]
        if (found := sorted(outputs)) != expected:
            raise self._refuse(f"its outputs are {found}, not {expected}")

    @abstractmethod
    def _load(self) -> None:
        """Load `self.artifact`; raise `ArtifactError` (see `_refuse`)."""

    def _run_parts(self, parts: Sequence[Inputs]) -> list[npt.NDArray[Any]]:
        """Run the graph on each part of a batch; a backend that can have several in flight does it here."""
        return [self._run(part) for part in parts]

    @abstractmethod
    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Run the graph once on checked inputs and return the scores [B]."""

    def _run_maps(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Run the graph once on checked inputs and return the maps [B, G, G]; a backend without any leaves this."""
        raise NotImplementedError


def _pictures(inputs: Inputs) -> int:
    return len(next(iter(inputs.values())))


def first_line(reason: object) -> str:
    """The first line of a library's message, which is where it says what happened, shortened."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return (lines[0] if lines else type(reason).__name__)[:200]


def export_command(artifact: Path, manifest: Manifest, target: Target, options: Iterable[str] = ()) -> str:
    """The command, for a shell, that makes `artifact` again as `target`; MODEL.pt stands for the checkpoint."""
    words = ["glia-export", "MODEL.pt", "--to", target, "--precision", manifest.precision, "--input", manifest.input]
    return shlex.join([*words, *options, "-o", str(artifact)])


def usable_cpus() -> int:
    """CPU cores this process may use: its affinity, and its control group's quota (a container's limit)."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        pass
    return cores
