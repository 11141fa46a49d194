"""What a TensorRT engine needs of a machine, checked before the engine is deserialised.

The two flavours of the library, what is here, and one clear line for each thing that does not fit. The file's size
and hash have been checked by then (`glia_runtime.manifest.verify_artifact`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from glia_runtime.backends.base import export_command
from glia_runtime.backends.gpu import Gpu, find_gpu
from glia_runtime.errors import ArtifactError, BackendError, MissingExtraError
from glia_runtime.manifest import EngineInfo, Manifest, Target


@dataclass(frozen=True)
class Flavour:
    """One of the two libraries.

    Attributes:
        name: in manifests, and to pip.
        module: to import.
        title: its own name.
        target: of `glia-export`, and the extra that brings it.
    """

    name: str
    module: str
    title: str
    target: Target


RTX = Flavour("tensorrt-rtx", "tensorrt_rtx", "TensorRT-RTX", "trt-rtx")
CLASSIC = Flavour("tensorrt", "tensorrt", "TensorRT", "trt")
FLAVOURS = {flavour.name: flavour for flavour in (RTX, CLASSIC)}
ENGINE_TARGETS = {flavour.target for flavour in (RTX, CLASSIC)}


@dataclass(frozen=True)
class Library:
    """An installed flavour: its version, and the compute capabilities that it says it builds for (RTX only)."""

    version: str
    builds_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """What is here.

    Attributes:
        gpu: the first one, or why there is none.
        libraries: by the flavour's name, those that import.
        has_pycuda: whether it imports.
    """

    gpu: Gpu | str
    libraries: Mapping[str, Library] = field(default_factory=dict)
    has_pycuda: bool = False


def this_machine() -> Machine:
    """Look. Where there is no GPU nothing else counts, and no library is imported."""
    try:
        gpu = find_gpu()
    except BackendError as error:
        return Machine(str(error))
    libraries = {}
    for flavour in FLAVOURS.values():
        if (library := import_if_here(flavour.module)) is not None:
            libraries[flavour.name] = Library(library.__version__, tuple(known_capabilities(library)))
    return Machine(gpu, libraries, import_if_here("pycuda.driver") is not None)


def import_if_here(module: str) -> Any:
    """The module, or None where it is missing or lacks what it stands on."""
    try:
        return import_module(module)
    except (ImportError, OSError):  # bindings without their libraries, or without the driver
        return None


def known_capabilities(library: Any) -> dict[str, Any]:
    """The compute capabilities, "8.9", that TensorRT-RTX builds for; none for classic TensorRT."""
    members = getattr(getattr(library, "ComputeCapability", None), "__members__", {})
    return {f"{name[2:-1]}.{name[-1]}": value for name, value in members.items() if name.startswith("SM")}


def flavour_of(artifact: Path, manifest: Manifest) -> tuple[Flavour, EngineInfo]:
    """The library that an engine is for.

    Raises:
        ArtifactError: the manifest names none, or one that this glia does not know.
    """
    if manifest.engine is None:
        raise ArtifactError(f"{artifact}: its manifest does not say what the engine was compiled with; export it again")
    flavour = FLAVOURS.get(manifest.engine.flavour)
    if flavour is None:
        raise ArtifactError(
            f"{artifact}: is an engine of {manifest.engine.flavour}, and this glia runs those of "
            f"{' and '.join(FLAVOURS)}; install the glia that made it"
        )
    return flavour, manifest.engine


def check_engine(artifact: Path, manifest: Manifest, machine: Machine) -> None:
    """Return when the engine can run on `machine`.

    Raises:
        ArtifactError: see `flavour_of`.
        BackendError: no GPU, another version of the library, or another compute capability.
        MissingExtraError: the library or pycuda does not import.
    """
    flavour, engine = flavour_of(artifact, manifest)
    made_for = ", ".join(engine.compute_capabilities)
    if isinstance(machine.gpu, str):
        raise BackendError(
            f"{artifact}: needs an NVIDIA GPU of compute capability {made_for}, and {machine.gpu}; "
            "run it where there is one, or for this machine: glia-export MODEL.pt --to onnx"
        )
    again = rebuild_command(artifact, manifest, engine, machine.gpu, machine.libraries)
    library = machine.libraries.get(flavour.name)
    if library is None:
        others = ", ".join(f"{FLAVOURS[name].title} {other.version}" for name, other in machine.libraries.items())
        found = f" (only {others} does)" if others else ""
        raise MissingExtraError(
            f"{artifact}: is an engine of {flavour.title}, and {flavour.module} does not import here{found}: "
            f"pip install 'glia[{flavour.target}]'" + (f", or rebuild it: {again}" if others else "")
        )
    if library.version != engine.version:
        raise BackendError(
            f"{artifact}: was compiled with {flavour.title} {engine.version}, which {library.version} here cannot "
            f"read: rebuild it: {again}, or pip install {flavour.name}=={engine.version}"
        )
    if machine.gpu.compute_capability not in engine.compute_capabilities:
        raise BackendError(
            f"{artifact}: was compiled for compute capability {made_for}, and the GPU here is {machine.gpu}: "
            f"rebuild it: {again}"
        )
    if not machine.has_pycuda:
        raise MissingExtraError(
            f"{artifact}: engines run through pycuda, which does not import here: pip install pycuda "
            "(it is compiled on the spot, with the CUDA toolkit)"
        )


def rebuild_command(
    artifact: Path, manifest: Manifest, engine: EngineInfo, gpu: Gpu, libraries: Mapping[str, Library]
) -> str:
    """The command that makes the same engine for `gpu`, with a library that is here if one can.

    MODEL.pt is the checkpoint. The manifest does not hold --min-batch, --opt-batch and --plugin: these become the
    defaults.
    """
    local = gpu.compute_capability
    name = engine.flavour if engine.flavour in libraries else next(iter(libraries), engine.flavour)
    if name == RTX.name and name in libraries and local not in libraries[name].builds_for:
        name = CLASSIC.name  # it builds for whichever GPU is in the machine
    several = name == RTX.name and local in engine.compute_capabilities
    capabilities = engine.compute_capabilities if several else (local,)
    words = [word for capability in capabilities for word in ("--compute-capability", capability)]
    if manifest.limits.max_batch is not None:
        words += ["--max-batch", str(manifest.limits.max_batch)]
    if manifest.input == "image" and manifest.limits.max_height is not None:
        words += ["--max-size", str(manifest.limits.max_height)]
    command = export_command(artifact, manifest, FLAVOURS[name].target, words)
    return command if name in libraries else f"pip install 'glia[{FLAVOURS[name].target}]', then {command}"
