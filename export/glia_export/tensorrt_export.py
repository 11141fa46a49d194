"""An ONNX graph becomes a TensorRT engine: by TensorRT-RTX, which needs no GPU, or by classic TensorRT.

One code path over the API that the two share. TensorRT-RTX compiles for any of the GPUs it lists; classic TensorRT
times kernels on the GPU at hand and builds for that one.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glia_export.engine_options import Shape
from glia_export.parity import Say
from glia_runtime.backends import is_installed
from glia_runtime.backends.base import first_line
from glia_runtime.backends.engines import CLASSIC, RTX, Flavour, import_if_here, known_capabilities
from glia_runtime.backends.gpu import find_gpu
from glia_runtime.backends.tensorrt import error_logger
from glia_runtime.errors import ArtifactError, BackendError, MissingExtraError, UsageError
from glia_runtime.manifest import EngineInfo, Target

Progress = Callable[[str, int, int], None]
"""Told what the builder is doing, how many steps of that are done, and of how many; from any thread."""

DEFAULT_CAPABILITY = "8.9"
"""The RTX 40 series; the paper's machine has an RTX 4090."""


@dataclass(frozen=True)
class Compiler:
    """A flavour that can be imported here, and what it shall build for.

    Attributes:
        flavour: which library.
        library: the imported module.
        compute_capabilities: of the GPUs, "8.9".
    """

    flavour: Flavour
    library: Any
    compute_capabilities: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name and version of the library."""
        return f"{self.flavour.title} {self.library.__version__}"

    @property
    def info(self) -> EngineInfo:
        """For the manifest."""
        return EngineInfo(self.flavour.name, self.library.__version__, self.compute_capabilities)


def choose_compiler(target: Target, wanted: Sequence[str], say: Say) -> Compiler:
    """Pick the library and the compute capabilities, and say what was picked for the user.

    Args:
        target: "trt-rtx"; or "trt": classic TensorRT where it is installed and the engine is for this machine's GPU.
        wanted: compute capabilities; empty for this machine's GPU, and where there is none `DEFAULT_CAPABILITY`.
        say: told on one line each what the user left open.

    Raises:
        MissingExtraError: TensorRT-RTX is needed and does not import.
        UsageError: TensorRT-RTX does not build for one of the compute capabilities.
    """
    local = _local_capability()
    capabilities = tuple(wanted) or (local or DEFAULT_CAPABILITY,)
    if not wanted and local is None:
        say(f"no GPU here: building for compute capability {DEFAULT_CAPABILITY}; --compute-capability names another")
    if target == "trt":
        classic = import_if_here(CLASSIC.module)
        if classic is not None and capabilities == (local,):
            say(f"--to trt: building with classic TensorRT, for this machine's GPU ({local})")
            return Compiler(CLASSIC, classic, capabilities)
        reason = "classic TensorRT does not import here" if classic is None else "classic needs the GPU it builds for"
        say(f"--to trt: building with TensorRT-RTX; {reason}")
    library = import_if_here(RTX.module)
    if library is None:
        raise MissingExtraError.for_package(RTX.module, "trt-rtx", f"--to {target}")
    compiler = Compiler(RTX, library, capabilities)
    known = known_capabilities(library)
    for capability in capabilities:
        if capability not in known:
            classic = ", or for the GPU here: pip install 'glia[trt]', then --to trt" if capability == local else ""
            raise UsageError(
                f"{compiler.title} does not build for compute capability {capability}; "
                f"choose from {', '.join(known)} with --compute-capability{classic}"
            )
    return compiler


def check_plugin(compiler: Compiler) -> None:
    """Return where ``--plugin`` can do something.

    Raises:
        UsageError: another library than classic TensorRT builds, or Triton is not installed.
    """
    if compiler.flavour is not CLASSIC:
        raise UsageError(
            f"--plugin is for classic TensorRT, and {compiler.title} would build here: leave it out, or build where "
            "classic TensorRT is installed, for the GPU in that machine"
        )
    if not is_installed("triton"):  # it comes with torch's CUDA builds on Linux
        raise UsageError("--plugin is compiled by Triton, which is not installed: pip install triton, or leave it out")


def build_engine(
    graph: Path,
    path: Path,
    compiler: Compiler,
    shapes: Mapping[str, tuple[Shape, Shape, Shape]],
    progress: Progress,
) -> None:
    """Compile `graph` and write the serialized engine.

    Args:
        graph: an ONNX file; its types are the engine's, since the network is strongly typed.
        path: the engine.
        compiler: from `choose_compiler`.
        shapes: of each input the smallest, the usual and the largest.
        progress: told how far the build is.

    Raises:
        ArtifactError: the parser refuses a node, or the builder the network; nothing is written.
        KeyboardInterrupt: the build was stopped; nothing is written.
    """
    library = compiler.library
    logger = error_logger(library)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise ArtifactError(_refusal(compiler, parser))
    config = builder.create_builder_config()
    # On by default, TF32 keeps 10 bits in a float32 product: neither the resize nor the bounds of fp32 bear that.
    config.clear_flag(library.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, smallest, usual, largest)
    config.add_optimization_profile(profile)
    if compiler.flavour is RTX:
        config.num_compute_capabilities = len(compiler.compute_capabilities)
        for index, capability in enumerate(compiler.compute_capabilities):
            config.set_compute_capability(known_capabilities(library)[capability], index)
    logger.forget()
    monitor = config.progress_monitor = _monitor(library, progress)
    # In a thread, so that this one is free to receive Ctrl-C: raised inside a callback, it would go through C++.
    with ThreadPoolExecutor(1, thread_name_prefix="glia-build") as pool:
        built = pool.submit(builder.build_serialized_network, network, config)
        try:
            engine = built.result()
        except BaseException:
            monitor.stopped = True
            raise
    if engine is None:
        raise ArtifactError(
            f"{compiler.title} built no engine: {first_line(logger.reason)}; export --to onnx, or another --precision"
        )
    with path.open("wb") as file:
        file.write(engine)


def _refusal(compiler: Compiler, parser: Any) -> str:
    if not parser.num_errors:
        return f"{compiler.title} cannot read the graph and gives no reason; export --to onnx"
    error = parser.get_error(0)
    where = f"operator {error.node_operator()} (node {error.node_name() or error.node()})"
    return f"{compiler.title} cannot take {where}: {first_line(error.desc())}; export --to onnx"


def _local_capability() -> str | None:
    try:
        return find_gpu().compute_capability
    except BackendError:
        return None


def _monitor(library: Any, progress: Progress) -> Any:
    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        """Hands the builder's steps on, and stops it once `stopped` is set."""

        def __init__(self) -> None:
            super().__init__()
            self.stopped = False
            self.totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self.totals[phase_name])
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            """Nothing to tell: the parent's step follows."""

    return Monitor()
