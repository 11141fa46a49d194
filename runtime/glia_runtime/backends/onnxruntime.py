"""ONNX Runtime on the CPU, and on NVIDIA GPUs through CUDA with IO binding."""

from __future__ import annotations

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

import numpy.typing as npt

from glia_runtime.backends.base import Backend
from glia_runtime.errors import BackendError
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import Precision

_LOG_FATAL = 4  # exceptions carry the message; ONNX Runtime would also print it on stderr
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxRuntimeBackend(Backend):
    """An ``.onnx`` file in an `onnxruntime.InferenceSession`, with the CPU or the CUDA provider."""

    name = "onnxruntime"

    @classmethod
    def obstacle(cls, device: str, precision: Precision) -> str | None:
        if device == "cuda" and _CUDA not in import_module("onnxruntime").get_available_providers():
            # The two packages install into the same folder, so that one would hide or break the other.
            return "the onnxruntime installed here has no CUDA: pip uninstall onnxruntime, then pip install 'glia[gpu]'"
        return None

    def _load(self) -> None:
        onnxruntime: Any = import_module("onnxruntime")  # it ships no types

        onnxruntime.set_default_logger_severity(_LOG_FATAL)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_FATAL
        # The last level arranges convolutions for caches: a tenth more time to load, nothing to gain in a ViT.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        # Left alone, ONNX Runtime counts the machine's cores, not the container's.
        options.intra_op_num_threads = self.threads
        if self.manifest.input == "image":
            # Pictures of every size pass through: a pool and a plan for each shape would only grow.
            options.enable_cpu_mem_arena = False
            options.enable_mem_pattern = False
        providers: list[Any] = [_CPU]
        if self.device == "cuda":
            with redirect_stdout(StringIO()):  # it prints what it does not find, and _check_cuda says so, too
                onnxruntime.preload_dlls()  # CUDA and cuDNN from pip's packages, where the system has none
            # On by default, TF32 keeps 10 bits in a float32 product, too few for the bounds of fp32.
            providers.insert(0, (_CUDA, {"use_tf32": "0"}))
            self._ort_value: Any = onnxruntime.OrtValue
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(self.artifact), sess_options=options, providers=providers
            )
        except Exception as error:  # onnxruntime raises a dozen unrelated types for a file it does not like
            raise self._refuse(error) from error
        if self.device == "cuda":
            self._check_cuda()
            self._bind(f"onnxruntime {onnxruntime.__version__}")
        self._check_signature(
            (item.name for item in self._session.get_inputs()), (item.name for item in self._session.get_outputs())
        )

    def _check_cuda(self) -> None:
        """Where CUDA cannot start, ONNX Runtime opens the session on the CPU and raises nothing."""
        if _CUDA not in self._session.get_providers():
            raise BackendError(
                f"{self.artifact}: CUDA cannot start here (no NVIDIA GPU, or no driver, CUDA or cuDNN that fits); "
                "check nvidia-smi, pip install 'glia[gpu]', or choose --device cpu"
            )
        self._session.disable_fallback()  # on a failing run, too, it would go on with the CPU

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        return self._output("score", inputs)

    def _run_maps(self, inputs: Inputs) -> npt.NDArray[Any]:
        return self._output("map", inputs)

    def _output(self, output: str, inputs: Inputs) -> npt.NDArray[Any]:
        if self.device == "cpu":
            (values,) = self._session.run([output], inputs)
            return values  # type: ignore[no-any-return]
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._ort_value.ortvalue_from_numpy(array, "cuda", 0))
        binding.bind_output(output, "cpu")
        self._session.run_with_iobinding(binding)
        (values,) = binding.copy_outputs_to_cpu()
        return values  # type: ignore[no-any-return]
