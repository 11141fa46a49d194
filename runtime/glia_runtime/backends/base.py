"""What every backend has in common: the checks before and after the graph, the batch limit, the timing."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from glia_runtime.errors import ArtifactError, BackendError
from glia_runtime.inputs import Inputs, check_inputs
from glia_runtime.manifest import Manifest

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

    def __init__(self, artifact: Path, manifest: Manifest, device: str) -> None:
        """Load `artifact`, whose manifest and hash have been checked, on `device`.

        Raises:
            ArtifactError: the library cannot load it, or its inputs are not those its manifest declares.
        """
        self.artifact = artifact
        self.manifest = manifest
        self.device = device
        self.timing = Timing()
        self._load()

    def run(self, inputs: Inputs) -> Scores:
        """Score one batch of any size: inputs as in `glia_runtime.inputs`, scores float32 [B], which may be
        not finite.

        A batch over the artifact's limit runs in parts.

        Raises:
            ImageError: an input has another name, shape or dtype than the graph's.
            ArtifactError: the graph returned something else than one number a picture.
            BackendError: the library failed while running.
        """
        batch = check_inputs(inputs, self.manifest.input)
        step = self.manifest.limits.max_batch or max(1, batch)
        parts = [
            self._timed({name: array[start : start + step] for name, array in inputs.items()})
            for start in range(0, batch, step)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def run_maps(self, inputs: Inputs) -> Maps:
        """Where the model looked at each picture of one batch: float32 [B, G, G], see `glia_runtime.maps`.

        Raises:
            ImageError: as `run`.
            BackendError: this backend gives no maps, or the library failed while running.
        """
        check_inputs(inputs, self.manifest.input)
        try:
            maps = self._run_maps(inputs)
        except NotImplementedError:
            raise BackendError(f"{self.artifact}: {self.name} gives no maps; use ONNX Runtime") from None
        except Exception as error:  # as in `_timed`
            raise BackendError(f"{self.artifact}: {self.name} failed on its maps ({first_line(error)})") from error
        return maps.astype(np.float32, copy=False)

    def _timed(self, inputs: Inputs) -> Scores:
        pictures = len(next(iter(inputs.values())))
        begun = perf_counter()
        try:
            scores = self._run(inputs)
        # Each library has its own exception types; a failure inside one must still be one clear line.
        except Exception as error:
            raise BackendError(
                f"{self.artifact}: {self.name} failed on {pictures} picture(s) ({first_line(error)}); "
                "try a smaller batch, or check the artifact with glia-infer --self-test"
            ) from error
        self.timing.seconds += perf_counter() - begun
        self.timing.runs += 1
        self.timing.pictures += pictures
        if scores.shape != (pictures,):
            raise ArtifactError(
                f"{self.artifact}: {list(scores.shape)} scores for {pictures} picture(s); export it again"
            )
        return scores.astype(np.float32, copy=False)

    def _refuse(self, reason: object) -> ArtifactError:
        return ArtifactError(
            f"{self.artifact}: {self.name} cannot load it ({first_line(reason)}); "
            f"export it again, or update {self.name}"
        )

    @abstractmethod
    def _load(self) -> None:
        """Load `self.artifact`; raise `ArtifactError` (see `_refuse`)."""

    @abstractmethod
    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Run the graph once on checked inputs and return the scores [B]."""

    def _run_maps(self, inputs: Inputs) -> npt.NDArray[Any]:
        """Run the graph once on checked inputs and return the maps [B, G, G], where the manifest has a `map_view`."""
        raise NotImplementedError


def first_line(reason: object) -> str:
    """The first line of a library's message, which is where it says what happened, shortened."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return (lines[0] if lines else type(reason).__name__)[:200]


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
