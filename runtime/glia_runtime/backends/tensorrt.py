"""TensorRT engines on an NVIDIA GPU: classic TensorRT and TensorRT-RTX, over the interface that the two share.

Memory, streams and events through pycuda, in the device's primary context, which torch uses as well.
"""

from __future__ import annotations

import atexit
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from glia_runtime.backends.base import Backend, first_line
from glia_runtime.backends.engines import flavour_of
from glia_runtime.backends.gpu import find_gpu
from glia_runtime.backends.slots import filled, run_in_turn
from glia_runtime.errors import BackendError, GliaError
from glia_runtime.inputs import MAX_BATCH_PIXELS, Inputs

IN_FLIGHT = 2
"""Batches at once: while one is computed, the next is copied. A third would wait for the same GPU."""

# What the scorer puts into a batch at most (a picture alone may be larger): buffers start no larger.
_USUAL_BYTES = 3 * MAX_BATCH_PIXELS
_FLOAT = np.dtype(np.float32).itemsize
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, which pycuda does not name: do not wait for the default stream

# Without a CUDA driver the libraries log that they found none (cudaError 35), at the level of errors, and go on.
_NO_DRIVER = re.compile(r"cuda.*\b35\b", re.IGNORECASE | re.DOTALL)

_open: WeakSet[TensorRTBackend] = WeakSet()


class TensorRTBackend(Backend):
    """An engine, deserialised once, with an execution context for each batch in flight."""

    name = "tensorrt"

    _engine: Any = None
    _slots: Sequence[_Slot] = ()

    def _load(self) -> None:
        flavour, engine = flavour_of(self.artifact, self.manifest)
        gpu = find_gpu()
        self._library: Any = import_module(flavour.module)
        self.machine = gpu.facts(f"{flavour.name} {engine.version}")
        self._logger: Any = error_logger(self._library)
        _open.add(self)
        try:
            with _current_context() as cuda:
                self._deserialise()
                self._slots = [self._slot(cuda)]
        except BaseException as error:
            self.close()
            if isinstance(error, GliaError) or not isinstance(error, Exception):
                raise
            raise BackendError(  # pycuda has types of its own, and GPU or host may be out of memory
                f"{self.artifact}: cannot be loaded on {gpu} ({first_line(error)}); "
                "see with nvidia-smi whether its memory is taken, or its driver in trouble"
            ) from error

    def _deserialise(self) -> None:
        # Kept: the engine must not outlive it.
        self._runtime: Any = self._library.Runtime(self._logger)
        self._logger.forget()
        data = self.artifact.read_bytes()
        if reasons := engine_faults(self._library, self._runtime, data):
            raise self._refuse(", ".join(reasons))
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise self._refuse(self._logger.reason)
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        expected = [*self.manifest.input_names, "score"]
        if sorted(names) != sorted(expected):
            raise self._refuse(f"its tensors are {sorted(names)}, not {sorted(expected)}")
        smallest, _, largest = self._profile(expected[0])
        self._fewest, self._most = smallest[0], largest[0]
        if self._most != self.manifest.limits.max_batch:
            raise self._refuse(f"it takes {self._most} pictures, and {self.manifest.limits.max_batch} by its manifest")

    def _profile(self, name: str) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0))

    def _slot(self, cuda: Any) -> _Slot:
        reserved = {"score": _FLOAT * self._most}
        for name in self.manifest.input_names:
            itemsize = np.dtype(self._library.nptype(self._engine.get_tensor_dtype(name))).itemsize
            reserved[name] = min(_USUAL_BYTES, math.prod(self._profile(name)[-1]) * itemsize)
        return _Slot(cuda, self._new_context(), reserved, self._logger)

    def _new_context(self) -> Any:
        self._logger.forget()
        strategies = getattr(self._library, "CudaGraphStrategy", None)
        if strategies is None or self.manifest.input == "image":
            context = self._engine.create_execution_context()
        else:
            # TensorRT-RTX captures a CUDA graph for each shape by itself: worth it for views, where only the number
            # of pictures differs. Classic TensorRT would want the stream captured, which pycuda cannot.
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = strategies.WHOLE_GRAPH_CAPTURE
            context = self._engine.create_execution_context(config)
        if context is None:
            raise self._refuse(self._logger.reason)
        return context

    def _run_parts(self, parts: Sequence[Inputs]) -> list[npt.NDArray[Any]]:
        with _current_context() as cuda:
            # An engine for large pictures may take gigabytes for each batch in flight.
            if (
                len(self._slots) < min(IN_FLIGHT, len(parts))
                and cuda.mem_get_info()[0] > 2 * self._engine.device_memory_size_v2
            ):
                with suppress(Exception):  # the buffers did not fit after all, of whichever kind: one in flight, then
                    self._slots = [*self._slots, self._slot(cuda)]
            scores = run_in_turn(self._slots, [filled(part, self._fewest) for part in parts])
        return [found[: len(next(iter(part.values())))] for found, part in zip(scores, parts, strict=True)]

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        (scores,) = self._run_parts([inputs])
        return scores

    def close(self) -> None:
        """Free the GPU's memory."""
        if self._engine is not None:
            with _current_context():
                for slot in self._slots:
                    slot.free()
                self._slots = ()
                self._engine = self._runtime = None

    def __del__(self) -> None:
        """Free in the right order and context, whichever thread drops the last reference."""
        self.close()


class _Slot:
    """One batch in flight: an execution context with its stream, and memory that grows to what a batch needs."""

    def __init__(self, cuda: Any, context: Any, reserved: dict[str, int], logger: Any) -> None:
        self._cuda = cuda
        self._context = context
        self._logger = logger
        self._stream = cuda.Stream(_NON_BLOCKING)
        # The waiting thread sleeps: the decoders need the cores.
        self._done = cuda.Event(cuda.event_flags.BLOCKING_SYNC | cuda.event_flags.DISABLE_TIMING)
        self._memory = {name: _Memory(cuda) for name in reserved}
        self._scores = self._memory["score"]
        self._returned = self._scores.host
        try:
            for name, size in reserved.items():
                self._memory[name].reserve(size)
        except BaseException:
            self.free()
            raise

    def submit(self, inputs: Inputs) -> None:
        self._logger.forget()
        for name, array in inputs.items():
            memory = self._memory[name]
            memory.reserve(array.nbytes)
            staged = memory.host[: array.nbytes]
            np.copyto(staged.view(array.dtype).reshape(array.shape), array)
            self._cuda.memcpy_htod_async(int(memory.device), staged, self._stream)
            self._must(self._context.set_input_shape(name, array.shape), f"{name} {list(array.shape)}")
            self._must(self._context.set_tensor_address(name, int(memory.device)), name)
        self._must(self._context.set_tensor_address("score", int(self._scores.device)), "score")
        self._must(self._context.execute_async_v3(self._stream.handle), "the run")
        self._returned = self._scores.host[: _FLOAT * len(array)]
        self._cuda.memcpy_dtoh_async(self._returned, int(self._scores.device), self._stream)
        self._done.record(self._stream)

    def collect(self) -> npt.NDArray[Any]:
        self._done.synchronize()
        return self._returned.view(np.float32).copy()

    def drain(self) -> None:
        self._stream.synchronize()

    def free(self) -> None:
        with suppress(Exception):  # a GPU that has failed cannot be waited for
            self.drain()
        self._context = None
        self._returned = np.empty(0, np.uint8)
        for memory in self._memory.values():
            memory.free()
        self._done = self._stream = None

    def _must(self, worked: bool, what: str) -> None:
        if not worked:
            raise RuntimeError(f"{what} refused: {self._logger.reason}")


class _Memory:
    """Bytes of one tensor: page-locked on this side, so that copies need not wait, and on the GPU."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self.host: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self.device: Any = None

    def reserve(self, size: int) -> None:
        """Grow to `size` bytes; what was there is lost. Only while nothing is in flight."""
        if size > len(self.host):
            self.free()
            self.device = self._cuda.mem_alloc(size)
            self.host = self._cuda.pagelocked_empty(size, np.uint8)

    def free(self) -> None:
        self.device = None
        self.host = np.empty(0, np.uint8)


def error_logger(library: Any) -> Any:
    """A logger for either flavour that keeps the last error since `forget`, `reason`, for an exception.

    It prints nothing.
    """

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.forget()

        def forget(self) -> None:
            self.reason = "it gives no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity <= library.ILogger.ERROR and not _NO_DRIVER.search(message):
                self.reason = message

    return Logger()


def engine_faults(library: Any, runtime: Any, data: bytes) -> list[str]:
    """What the library finds wrong with an engine by its header, in a few words each; [] where it cannot tell."""
    if not hasattr(runtime, "get_engine_validity"):  # classic TensorRT before 11.4
        return []
    validity, diagnostics = runtime.get_engine_validity(data[: runtime.engine_header_size])
    if validity != library.EngineValidity.INVALID:
        return []
    members = library.EngineInvalidityDiagnostics.__members__.items()
    return [name.lower().replace("_", " ") for name, bit in members if int(bit) & int(diagnostics)]


@contextmanager
def _current_context() -> Iterator[Any]:
    """pycuda.driver, with the primary context current in this thread."""
    cuda, context = _primary_context()
    context.push()
    try:
        yield cuda
    finally:
        cuda.Context.pop()


@cache
def _primary_context() -> tuple[Any, Any]:
    """Retain it once and until the end, as torch does: to go on from a released one is where things break."""
    cuda: Any = import_module("pycuda.driver")
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    atexit.register(_release, context)
    return cuda, context


def _release(context: Any) -> None:
    for backend in list(_open):
        backend.close()
    context.detach()  # else pycuda takes it for a context of its own, and complains
