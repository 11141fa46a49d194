"""The engines that run artifacts, and which of them can run here.

One file each behind `glia_runtime.backends.base.Backend`; their libraries are imported only when one is
opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from glia_runtime.backends.engines import ENGINE_TARGETS, check_engine, flavour_of, this_machine
from glia_runtime.errors import BackendError, MissingExtraError

if TYPE_CHECKING:
    from glia_runtime.backends.base import Backend
    from glia_runtime.manifest import Manifest, Target


def is_installed(package: str) -> bool:
    """Whether `package` can be found here; it is not imported."""
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules holds None or a stub for it
        return False


@dataclass(frozen=True)
class BackendInfo:
    """A backend: what it runs, on which devices, and the package (with the extra that brings it) it needs."""

    name: str
    target: Target
    devices: tuple[str, ...]
    package: str
    extra: str
    module: str
    cls: str


BACKENDS: tuple[BackendInfo, ...] = (
    BackendInfo("onnxruntime", "onnx", ("cpu",), "onnxruntime", "cpu", "onnxruntime", "OnnxRuntimeBackend"),
    BackendInfo("torchscript", "torchscript", ("cpu", "cuda"), "torch", "train", "torchscript", "TorchScriptBackend"),
    BackendInfo("tensorrt", "trt-rtx", ("cuda",), "tensorrt_rtx", "trt-rtx", "tensorrt", "TensorRTBackend"),
    BackendInfo("tensorrt", "trt", ("cuda",), "tensorrt", "trt", "tensorrt", "TensorRTBackend"),
    BackendInfo("aotinductor", "pt2", ("cpu", "cuda"), "torch", "train", "pt2", "Pt2Backend"),
)
"""In order of preference for `auto`."""


def _devices(info: BackendInfo, manifest: Manifest) -> tuple[str, ...]:
    """Where `info` can run the artifact: a package compiled ahead of time, on what it was compiled for."""
    if manifest.target != "pt2":
        return info.devices
    return ("cuda",) if manifest.engine and manifest.engine.compute_capabilities else ("cpu",)


def open_backend(artifact: Path, manifest: Manifest, device: str = "auto") -> tuple[Backend, str]:
    """Load `artifact` in the first backend for its target that can run on `device`; also return why that one.

    Raises:
        BackendError: no backend runs the target on `device`.
        MissingExtraError: the backend's package is not installed.
        ArtifactError: the backend refuses the file.
    """
    # `--to trt` makes an engine of either flavour, and it is the flavour that says what can run it.
    is_engine = manifest.target in ENGINE_TARGETS
    target = flavour_of(artifact, manifest)[0].target if is_engine else manifest.target
    fitting = [info for info in BACKENDS if info.target == target]
    on_device = [info for info in fitting if device in ("auto", *_devices(info, manifest))]
    if not on_device:
        known = ", ".join(sorted({name for info in fitting for name in _devices(info, manifest)}))
        raise BackendError(f"device {device!r} cannot run {manifest.target} artifacts; choose one of: auto, {known}")
    if is_engine:  # before any package is asked for: without a GPU, none is worth installing
        check_engine(artifact, manifest, this_machine())
    info = next((info for info in on_device if is_installed(info.package)), None)
    if info is None:
        raise MissingExtraError.for_package(on_device[0].package, on_device[0].extra, f"{artifact}:")
    chosen = _devices(info, manifest)[0] if device == "auto" else device
    cls = getattr(import_module(f"glia_runtime.backends.{info.module}"), info.cls)
    why = f"{info.name} on {chosen}: the first backend for {manifest.target} that can run here"
    try:
        return cls(artifact, manifest, chosen), why
    except ImportError as error:
        raise MissingExtraError(
            f"{info.package} is installed but does not import ({error}); "
            f"reinstall it: pip install --force-reinstall {info.package}"
        ) from error
