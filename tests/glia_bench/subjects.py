"""Real subjects that are quick to run, and one that is slow on purpose."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy.typing as npt

from glia_bench.machine import this_machine
from glia_bench.options import BUNDLED
from glia_bench.peers import QUICK, Figures, measure_model
from glia_bench.recording import Recorder
from glia_bench.results import Better, Measurement, Run
from glia_bench.subjects import Spec, Subject
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import read_manifest

SLOWER = 6


class SlowBackend(OnnxRuntimeBackend):
    """ONNX Runtime, doing everything `SLOWER` times over."""

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        for _ in range(SLOWER - 1):
            super()._run(inputs)
        return super()._run(inputs)


def subject(artifact: Path, backend: type[OnnxRuntimeBackend] = OnnxRuntimeBackend) -> Subject:
    return Subject(artifact.name, backend(artifact, read_manifest(artifact), "cpu"))


def recorder(said: list[str] | None = None, command: str = "test") -> Recorder:
    return Recorder(command, {}, (said if said is not None else []).append)


def run_of(
    *samples: float,
    subject: str = "one",
    unit: str = "s",
    better: Better = "lower",
    fixed_work: tuple[float, ...] = (1.0,) * 10,
) -> Run:
    """A run of one measurement with these samples."""
    measurement = Measurement(subject, "latency", unit, better, samples, {"batch": 1})
    return Run("latency", "2026-01-01T00:00:00+00:00", this_machine(), {}, (measurement,), (), fixed_work)


def bundled_figures(paths: list[Path]) -> tuple[Figures, bool]:
    """What `glia-bench peers` measures of the bundled model, and whether torch was loaded.

    Here, since a fresh process imports the module of the function that it is to run: the tests' own brings torch.
    """
    _, _, figures = measure_model(Spec(BUNDLED, backend="onnxruntime"), paths, QUICK)
    return figures, "torch" in sys.modules
