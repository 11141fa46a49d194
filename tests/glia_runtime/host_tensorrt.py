"""TensorRT and pycuda on the host's memory, as far as the backend uses them.

No test machine has a GPU, and pycuda is not built without a driver. What these stand in for is checked elsewhere, by
tests marked `gpu`; here they show that pixels reach the engine and scores come back, in order and in bounds, and that
nothing is used wrongly: every address is a live allocation, work is done when it is waited for and not before, and
what was allocated is freed. An engine's scores are those of `tests.glia_runtime.artifacts`: the mean grey.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import finalize

import numpy as np


class HostCuda(ModuleType):
    """`pycuda.driver`: device memory is host memory, and a stream's work waits until it is synchronised."""

    class MemoryError(Exception):  # as pycuda calls it, which derives its errors from Exception
        pass

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.contexts = 0
        self.sizes: dict[int, Any] = {}
        self.locked: set[int] = set()
        self.free_bytes = 1 << 34
        self.allocations_left = 1 << 30
        self.event_flags = SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)
        cuda = self

        class Context:
            def push(self) -> None:
                cuda.contexts += 1

            @staticmethod
            def pop() -> None:
                cuda.contexts -= 1
                assert cuda.contexts >= 0

            def detach(self) -> None:
                pass

        class Device:
            def __init__(self, number: int) -> None:
                assert number == 0

            def retain_primary_context(self) -> Context:
                return Context()

        class Stream:
            def __init__(self, flags: int) -> None:
                cuda.needs_context()
                assert flags == 1
                self.work: list[Callable[[], None]] = []
                self.handle = id(self)
                cuda.streams[self.handle] = self

            def synchronize(self) -> None:
                cuda.needs_context()
                while self.work:
                    self.work.pop(0)()

        class Event:
            def __init__(self, flags: int) -> None:
                cuda.needs_context()
                self.waits_for: Stream | None = None

            def record(self, stream: Stream) -> None:
                self.waits_for = stream

            def synchronize(self) -> None:
                assert self.waits_for is not None
                self.waits_for.synchronize()

        self.Context, self.Device, self.Stream, self.Event = Context, Device, Stream, Event
        self.streams: dict[int, Stream] = {}

    def init(self) -> None:
        """Nothing to start."""

    def needs_context(self) -> None:
        assert self.contexts > 0, "no context is current"

    def mem_get_info(self) -> tuple[int, int]:
        self.needs_context()
        return self.free_bytes, self.free_bytes

    def mem_alloc(self, size: int) -> Any:
        self.needs_context()
        self.allocations_left -= 1
        if self.allocations_left < 0:
            raise self.MemoryError("cuMemAlloc failed: out of memory\nand more")
        held = ctypes.create_string_buffer(size)
        allocation = _Allocation(ctypes.addressof(held))
        self.sizes[int(allocation)] = held
        finalize(allocation, self._free, self.sizes.pop, int(allocation))
        return allocation

    def pagelocked_empty(self, size: int, dtype: Any) -> Any:
        self.needs_context()
        array = np.empty(size, dtype)
        self.locked.add(array.ctypes.data)
        finalize(array, self._free, self.locked.remove, array.ctypes.data)
        return array

    def _free(self, forget: Callable[[int], Any], address: int) -> None:
        self.needs_context()
        forget(address)

    def memory(self, address: int, size: int) -> Any:
        """`size` bytes of a live allocation."""
        held = self.sizes[address]
        assert size <= len(held), f"{size} bytes of an allocation of {len(held)}"
        return np.frombuffer(held, np.uint8, size)

    def memcpy_htod_async(self, device: int, host: Any, stream: Any) -> None:
        self.needs_context()
        assert host.ctypes.data in self.locked
        stream.work.append(lambda: np.copyto(self.memory(device, host.nbytes), host))

    def memcpy_dtoh_async(self, host: Any, device: int, stream: Any) -> None:
        self.needs_context()
        assert host.ctypes.data in self.locked
        stream.work.append(lambda: np.copyto(host, self.memory(device, host.nbytes)))


class _Allocation:
    def __init__(self, address: int) -> None:
        self.address = address

    def __int__(self) -> int:
        return self.address


class ILogger:
    """As the libraries have it."""

    ERROR = 1


class DataType(IntEnum):
    """Two of the library's types."""

    UINT8 = 0
    INT64 = 1


class HostTensorRT(ModuleType):
    """`tensorrt`: an engine file holds "views" or "image"; its batches run from `fewest` to `most` pictures."""

    ILogger = ILogger

    def __init__(self, cuda: HostCuda, fewest: int, most: int) -> None:
        super().__init__("tensorrt")
        self.__version__ = "11.4.0"
        self.cuda = cuda
        self.fewest, self.most = fewest, most
        self.context_bytes = 1 << 20
        self.batches: list[int] = []
        self.contexts = 0
        self.fail_on_run = 0
        self.strategies: list[Any] = []
        library = self

        class Runtime:
            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def deserialize_cuda_engine(self, data: bytes) -> Any:
                if data not in (b"views", b"image"):
                    self.logger.log(ILogger.ERROR, "not an engine")
                    return None
                return _Engine(library, data.decode(), self.logger)

        self.Runtime = Runtime

    def with_graphs(self) -> None:
        """Be TensorRT-RTX in this respect."""
        self.CudaGraphStrategy = SimpleNamespace(DISABLED=0, WHOLE_GRAPH_CAPTURE=1)

    @staticmethod
    def nptype(dtype: DataType) -> Any:
        return {DataType.UINT8: np.uint8, DataType.INT64: np.int64}[dtype]


class _Engine:
    def __init__(self, library: HostTensorRT, kind: str, logger: Any) -> None:
        self.library, self.kind, self.logger = library, kind, logger
        inputs = ("semantic", "detail") if kind == "views" else ("images", "sizes")
        self.names = ("score", *inputs)
        self.num_io_tensors = 3
        self.device_memory_size_v2 = library.context_bytes

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.INT64 if name == "sizes" else DataType.UINT8

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        sides = (224, 224, 224) if self.kind == "views" else (224, 1024, 1200)
        batches = (self.library.fewest, self.library.most, self.library.most)
        return [(b, 2) if name == "sizes" else (b, s, s, 3) for b, s in zip(batches, sides, strict=True)]

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(cuda_graph_strategy=0)

    def create_execution_context(self, config: Any = None) -> Any:
        self.library.cuda.needs_context()
        self.library.contexts += 1
        self.library.strategies.append(config and config.cuda_graph_strategy)
        return _ExecutionContext(self)


class _ExecutionContext:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine.get_tensor_profile_shape(name, 0)
        if any(not low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True)):
            self.engine.logger.log(ILogger.ERROR, f"{shape} does not lie within the profile")
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address in self.engine.library.cuda.sizes
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        library = self.engine.library
        library.batches.append(len(library.batches))
        if len(library.batches) == library.fail_on_run:
            self.engine.logger.log(ILogger.ERROR, "out of memory\nin this layer")
            return False
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        library.batches[-1] = shapes[self.engine.names[1]][0]
        library.cuda.streams[stream].work.append(lambda: self._score(shapes, addresses))
        return True

    def _score(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        read = self.engine.library.cuda.memory
        first, second = (
            read(
                addresses[name],
                int(np.prod(shapes[name])) * np.dtype(HostTensorRT.nptype(self.engine.get_tensor_dtype(name))).itemsize,
            )
            .view(HostTensorRT.nptype(self.engine.get_tensor_dtype(name)))
            .reshape(shapes[name])
            for name in self.engine.names[1:]
        )
        total = first.sum(axis=(1, 2, 3), dtype=np.float64)
        if self.engine.kind == "views":
            scores = (total + second.sum(axis=(1, 2, 3), dtype=np.float64)) / (2 * 255 * 3 * 224 * 224)
        else:
            scores = total / (255 * 3 * second.prod(axis=1))
        read(addresses["score"], 4 * len(scores)).view(np.float32)[:] = scores
