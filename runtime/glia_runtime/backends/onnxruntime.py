"""ONNX Runtime on the CPU."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy.typing as npt

from glia_runtime.backends.base import Backend, usable_cpus
from glia_runtime.inputs import INPUT_NAMES, Inputs

_LOG_FATAL = 4  # exceptions carry the message; ONNX Runtime would also print it on stderr


class OnnxRuntimeBackend(Backend):
    """An ``.onnx`` file in an `onnxruntime.InferenceSession` with the CPU provider."""

    name = "onnxruntime"

    def _load(self) -> None:
        onnxruntime: Any = import_module("onnxruntime")  # it ships no types

        onnxruntime.set_default_logger_severity(_LOG_FATAL)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_FATAL
        # Left alone, ONNX Runtime counts the machine's cores, not the container's.
        options.intra_op_num_threads = usable_cpus()
        if self.manifest.input == "image":
            # Pictures of every size pass through: a pool and a plan for each shape would only grow.
            options.enable_cpu_mem_arena = False
            options.enable_mem_pattern = False
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(self.artifact), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises a dozen unrelated types for a file it does not like
            raise self._refuse(error) from error
        names = {item.name for item in self._session.get_inputs()}
        if names != set(INPUT_NAMES[self.manifest.input]):
            raise self._refuse(f"its inputs are {sorted(names)}, not those of kind {self.manifest.input!r}")
        outputs = [item.name for item in self._session.get_outputs()]
        expected = ["score"] if self.manifest.map_view is None else ["score", "map"]
        if outputs != expected:
            raise self._refuse(f"its outputs are {outputs}, not {expected}")

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        (scores,) = self._session.run(["score"], inputs)
        return scores  # type: ignore[no-any-return]

    def _run_maps(self, inputs: Inputs) -> npt.NDArray[Any]:
        (maps,) = self._session.run(["map"], inputs)
        return maps  # type: ignore[no-any-return]
