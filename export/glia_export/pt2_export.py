"""A model becomes a package compiled ahead of time by PyTorch: AOTInductor, for this CPU's family or this GPU."""

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from glia.models import QualityModel
from glia.models.pictures import PictureModel
from glia_export.graphs import ImageGraph, dynamic_shapes, example_inputs, graph_of
from glia_export.targets import missing_compiler
from glia_runtime.backends.base import first_line
from glia_runtime.backends.pt2 import CPU, CUDA, has_avx2, quiet_torch
from glia_runtime.errors import ArtifactError, UsageError
from glia_runtime.manifest import EngineInfo, InputKind, Precision
from glia_runtime.view_spec import FragmentViews

Device = Literal["cpu", "cuda"]

# Left alone, Inductor compiles for the very CPU it runs on (-march=native), and on an older one the package dies of an
# illegal instruction. x86-64-v3 has AVX2 and FMA, as CPUs have had since 2015. On a ViT-B/16 the difference drowned in
# the noise of a busy machine: its products are calls into torch, which has variants for each CPU. Nor may the number of
# threads of the machine that compiles be compiled in.
_CPU_OPTIONS = {"cpp.march": "x86-64-v3", "cpp.simdlen": 256, "cpp.dynamic_threads": True}


@dataclass(frozen=True)
class PackageTarget:
    """What a package is compiled for: the device, and on a GPU its compute capability ("8.9"), which may be empty."""

    device: Device
    compute_capabilities: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """As told to the user."""
        if self.device == "cpu":
            return "the CPU (x86-64-v3)"
        return f"compute capability {', '.join(self.compute_capabilities)}"

    @property
    def info(self) -> EngineInfo:
        """For the manifest."""
        return EngineInfo(CPU if self.device == "cpu" else CUDA, torch.__version__, self.compute_capabilities)


def package_target(device: Device, precision: Precision) -> PackageTarget:
    """Check that a package for `device` can be compiled here.

    Raises:
        UsageError: no C++ compiler, no GPU, another CPU than x86-64, a torch that compiles for its own CPU only, or a
            precision that the device is not compiled for.
    """
    if compiler := missing_compiler():
        raise UsageError(f"--to pt2 needs a C++ compiler, and there is no {compiler}: install g++, or name one in $CXX")
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("--device cuda compiles for the GPU in this machine, and there is none; use --device cpu")
        major, minor = torch.cuda.get_device_capability()
        return PackageTarget(device, (f"{major}.{minor}",))
    if precision != "fp32":
        raise UsageError(f"--to pt2 --device cpu makes fp32 only; for {precision} add --device cuda")
    if not has_avx2():
        raise UsageError("--to pt2 --device cpu compiles for x86-64 CPUs with AVX2 and on one of them; use --to onnx")
    from torch._inductor import config

    if not hasattr(config.cpp, "march"):
        raise UsageError(
            f"torch {torch.__version__} compiles for its own CPU only, others could not run the package: update torch"
        )
    return PackageTarget(device)


def save_pt2(model: QualityModel, kind: InputKind, precision: Precision, target: PackageTarget, path: Path) -> None:
    """Compile `model` with the inputs of `kind` and write one file; `model` is not changed.

    Raises:
        ArtifactError: PyTorch cannot compile it; nothing is written.
    """
    from torch._inductor import aoti_compile_and_package

    graph = graph_of(model, kind, as_node=False, half=precision == "fp16").to(target.device)
    views = model.view_spec
    if target.device == "cuda" and isinstance(graph, ImageGraph) and isinstance(views, FragmentViews):
        graph = PictureModel(graph.model, views.fragments)
    inputs = tuple(tensor.to(target.device) for tensor in example_inputs(kind, views))
    shapes = dynamic_shapes(kind, views)
    with TemporaryDirectory(prefix="glia-") as folder, _undisturbed(folder):
        package = Path(folder, "model.pt2")  # AOTInductor insists on the suffix
        try:
            with torch.no_grad():
                program = torch.export.export(graph, inputs, dynamic_shapes=shapes)
                options = _CPU_OPTIONS if target.device == "cpu" else {}
                aoti_compile_and_package(program, package_path=str(package), inductor_configs=options)
        except Exception as error:  # Inductor, the C++ compiler and Triton raise types of their own
            raise ArtifactError(
                f"torch {torch.__version__} could not compile the graph for {target.title} ({first_line(error)}); "
                "check the C++ compiler, or export --to onnx"
            ) from error
        shutil.copyfile(package, path)


@contextmanager
def _undisturbed(folder: str) -> Iterator[None]:
    """Keep Inductor's caches in `folder` (a ViT-B/16 leaves 400 MB), and its remarks about the machine to itself."""
    from torch._inductor.utils import fresh_cache

    # "No CUDA runtime is found" is logged on every machine with a CUDA build and no GPU.
    with quiet_torch(), warnings.catch_warnings(), fresh_cache(dir=folder):
        warnings.simplefilter("ignore")  # Inductor's advice (float32 precision, deprecations) is not the user's
        yield
