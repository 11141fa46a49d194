"""AOTInductor packages on the CPU or a CUDA GPU; torch is imported when an artifact is loaded, never before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy.typing as npt

from glia_runtime.backends.base import Backend, export_command
from glia_runtime.errors import ArtifactError, BackendError
from glia_runtime.inputs import Inputs

CPU, CUDA = "aotinductor-cpu", "aotinductor-cuda"
"""`EngineInfo.flavour` of packages compiled for x86-64 CPUs with AVX2 (x86-64-v3), and for one kind of GPU."""

# A graph holds memory for its own batch: a stream of pictures has two sizes, the usual batch and the last one.
_MOST_GRAPHS = 4


class Pt2Backend(Backend):
    """A ``.pt2`` file: a shared library of kernels that torch loads.

    All that the library is bound to is compared first, because a wrong one does not raise: it kills the process
    (an illegal instruction) or computes nonsense (another torch). On the CPU `threads` is set for all of torch in this
    process: torch knows no other way.
    """

    name = "aotinductor"

    def _load(self) -> None:
        torch: Any = import_module("torch")
        self._torch = torch
        self._check_fits()
        if self.device == "cpu":
            torch.set_num_threads(self.threads)
        else:
            self._bind(f"torch {torch.__version__}")
        try:
            loader: Any = torch._C._aoti.AOTIModelPackageLoader  # private, so it may be gone
            # Not by `torch._inductor.aoti_load_package`: before it comes to the library it also loads whatever programs
            # the archive holds beside it, and unpickles their tensors.
            # Single-threaded, which a backend is: left alone, the package asks an event whether its last run has ended,
            # and asking is forbidden while a CUDA graph is recorded. Then: one runner, on the current device.
            with quiet_torch():  # it remarks on CUDA_HOME
                self._loaded: Any = loader(str(self.artifact), "model", True, 1, -1)
        except Exception as error:  # RuntimeError, OSError and others, by what is wrong in the file
            raise self._refuse(error) from error
        self._graphs: dict[int, CudaGraph] = {}
        self._met: set[int] = set()

    def _check_fits(self) -> None:
        torch, engine = self._torch, self.manifest.engine
        if engine is None or engine.flavour != (CUDA if self.device == "cuda" else CPU):
            raise self._refuse(f"its manifest does not say that it was compiled for {self.device}")
        command = export_command(self.artifact, self.manifest, "pt2", ("--device", self.device))
        rebuild = f"export it again here: {command}"
        if torch.__version__ != engine.version:
            raise ArtifactError(
                f"{self.artifact}: compiled with torch {engine.version}, but torch {torch.__version__} is here and "
                f"packages run in their own only; {rebuild}"
            )
        if self.device == "cpu":
            if not has_avx2():
                raise ArtifactError(
                    f"{self.artifact}: compiled for x86-64 CPUs with AVX2, and this one is not; use an .onnx artifact"
                )
            return
        if not torch.cuda.is_available():
            raise BackendError(f"{self.artifact}: compiled for a GPU, and torch finds none here; use an .onnx artifact")
        capability = "{}.{}".format(*torch.cuda.get_device_capability())
        if capability not in engine.compute_capabilities:
            raise ArtifactError(
                f"{self.artifact}: compiled for compute capability {', '.join(engine.compute_capabilities)}, "
                f"and this GPU ({torch.cuda.get_device_name()}) has {capability}; {rebuild}"
            )

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        tensors = [self._torch.from_numpy(inputs[name]).to(self.device) for name in self.manifest.input_names]
        # Left alone, the patch embedding, a convolution, takes TF32, which keeps 10 bits in a float32 product.
        # A recorded graph keeps what it was recorded with.
        with self._torch.inference_mode(), self._torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            scores = self._replay(tensors) if self._graph_pays() else self._package(*tensors)
        return scores.cpu().numpy()  # type: ignore[no-any-return]

    def _package(self, *tensors: Any) -> Any:
        (scores,) = self._loaded.run(list(tensors))
        return scores

    def _graph_pays(self) -> bool:
        # Raw pictures come in ever new shapes; a recording serves one.
        return self.device == "cuda" and self.manifest.input == "views"

    def _replay(self, tensors: list[Any]) -> Any:
        """Run through a CUDA graph, recorded when a batch size comes up for the second time.

        The first run is plain and loads the kernels, which must not happen while recording.
        """
        batch = len(tensors[0])
        if batch not in self._graphs:
            if batch not in self._met or len(self._graphs) == _MOST_GRAPHS:
                self._met.add(batch)
                return self._package(*tensors)
            self._graphs[batch] = CudaGraph(self._torch, self._package, tensors)
        return self._graphs[batch](tensors)


def has_avx2() -> bool:
    """Whether this is an x86-64 CPU with AVX2, or more."""
    capability: str = import_module("torch").backends.cpu.get_cpu_capability()
    return capability.startswith("AVX")


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Keep what torch logs below errors to itself, and nothing else."""

    def passes(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or record.name.partition(".")[0] != "torch"

    # At the handlers (torch makes its own), as a logger's filter sees nothing of the loggers below it.
    names = ["torch", *(name for name in logging.root.manager.loggerDict if name.startswith("torch."))]
    handlers = {handler for logger in (None, *names) for handler in logging.getLogger(logger).handlers}
    for handler in handlers:
        handler.addFilter(passes)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(passes)


class CudaGraph:
    """All launches of one run, recorded once and started together: at batch 1 starting them takes longer than they."""

    def __init__(self, torch: Any, package: Any, tensors: list[Any]) -> None:
        self._inputs = [tensor.clone() for tensor in tensors]
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph):
            self._scores = package(*self._inputs)

    def __call__(self, tensors: list[Any]) -> Any:
        for own, given in zip(self._inputs, tensors, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._scores
