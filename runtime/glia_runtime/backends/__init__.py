"""The engines that run artifacts, and which of them is the best that can run one here.

One file each behind `glia_runtime.backends.base.Backend`; their libraries are imported only when one is
asked whether it can run here, or opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glia_runtime.backends.engines import ENGINE_TARGETS, check_engine, flavour_of, this_machine
from glia_runtime.errors import ArtifactError, BackendError, GliaError, MissingExtraError, is_interrupt

if TYPE_CHECKING:
    from glia_runtime.backends.base import Backend
    from glia_runtime.manifest import Manifest, ParityRow, Precision, Target


def is_installed(package: str) -> bool:
    """Whether `package` can be found here; it is not imported."""
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules holds None or a stub for it
        return False


@dataclass(frozen=True)
class BackendInfo:
    """A backend: what it runs, on which devices, and the package (with the extra that brings it) it needs.

    Attributes:
        name: as in parity rows.
        target: of the artifacts it runs.
        devices: "cpu" or "cuda".
        package: what has to be importable.
        extra: brings the package.
        module, cls: where the `Backend` is.
        precision: what it computes in, whatever the artifact's precision; None for the artifact's own.
    """

    name: str
    target: Target
    devices: tuple[str, ...]
    package: str
    extra: str
    module: str
    cls: str
    precision: Precision | None = None

    @property
    def title(self) -> str:
        """What ``--backend`` takes."""
        return f"{self.name}:{self.precision}" if self.precision else self.name


BACKENDS: tuple[BackendInfo, ...] = (
    BackendInfo("onnxruntime", "onnx", ("cuda",), "onnxruntime", "gpu", "onnxruntime", "OnnxRuntimeBackend"),
    BackendInfo("openvino", "onnx", ("cpu",), "openvino", "cpu", "openvino", "OpenVinoBackend", "bf16"),
    BackendInfo("openvino", "onnx", ("cpu",), "openvino", "cpu", "openvino", "OpenVinoBackend"),
    BackendInfo("onnxruntime", "onnx", ("cpu",), "onnxruntime", "cpu", "onnxruntime", "OnnxRuntimeBackend"),
    BackendInfo("torchscript", "torchscript", ("cpu", "cuda"), "torch", "train", "torchscript", "TorchScriptBackend"),
    BackendInfo("tensorrt", "trt-rtx", ("cuda",), "tensorrt_rtx", "trt-rtx", "tensorrt", "TensorRTBackend"),
    BackendInfo("tensorrt", "trt", ("cuda",), "tensorrt", "trt", "tensorrt", "TensorRTBackend"),
    BackendInfo("aotinductor", "pt2", ("cpu", "cuda"), "torch", "train", "pt2", "Pt2Backend"),
)
"""The fastest first.

A ViT-B/16 prototype, pictures a second on 2 cores of an AMD EPYC (Zen 5), batches of 4: openvino:bf16 9.3, openvino
5.3, onnxruntime 5.0, torchscript 2.4. `glia-bench roofline --batch 4 --backend all --model ...` measures this anew.
"""


@dataclass(frozen=True)
class Choice:
    """One way to run an artifact: a backend, on one of its devices, computing in one precision."""

    info: BackendInfo
    device: str
    precision: Precision

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.info.title} on {self.device}"

    def row(self, manifest: Manifest) -> ParityRow | None:
        """What the manifest's parity report says about it, or None."""
        return manifest.parity_row(self.info.name, self.precision, self.device)

    def obstacle(self, artifact: Path) -> BackendError | None:
        """Why it cannot run here, before any file is opened: its package, or what the package finds."""
        info = self.info
        if not is_installed(info.package):
            return MissingExtraError.for_package(info.package, info.extra, f"{artifact}:")
        try:
            reason = self._cls.obstacle(self.device, self.precision)
        except ImportError as error:
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            return MissingExtraError(
                f"{info.package} is installed but does not import ({error}); "
                f"reinstall it: pip install --force-reinstall {info.package}"
            )
        return BackendError(f"{artifact}: {self.title}: {reason}") if reason else None

    def load(self, artifact: Path, manifest: Manifest, threads: int | None = None) -> Backend:
        """Load `artifact` so; see `Backend`.

        Raises:
            MissingExtraError: the backend's package is not installed, or does not import.
            BackendError: it cannot run here.
            ArtifactError: the backend refuses the file.
        """
        if obstacle := self.obstacle(artifact):
            raise obstacle
        return self._load(artifact, manifest, threads)

    def _load(self, artifact: Path, manifest: Manifest, threads: int | None) -> Backend:
        loaded: Backend = self._cls(artifact, manifest, self.device, precision=self.precision, threads=threads)
        return loaded

    @property
    def _cls(self) -> Any:
        return getattr(import_module(f"glia_runtime.backends.{self.info.module}"), self.info.cls)


def _devices(info: BackendInfo, manifest: Manifest) -> tuple[str, ...]:
    """Where `info` can run the artifact: a package compiled ahead of time, on what it was compiled for."""
    if manifest.target != "pt2":
        return info.devices
    return ("cuda",) if manifest.engine and manifest.engine.compute_capabilities else ("cpu",)


def choices(artifact: Path, manifest: Manifest, device: str = "auto", backend: str = "auto") -> list[Choice]:
    """Every way in which this glia runs `artifact` on `device` in `backend`: GPUs first, then the fastest first.

    Raises:
        BackendError: there is none.
    """
    # `--to trt` makes an engine of either flavour, and it is the flavour that says what can run it.
    is_engine = manifest.target in ENGINE_TARGETS
    target = flavour_of(artifact, manifest)[0].target if is_engine else manifest.target
    fitting = [info for info in BACKENDS if info.target == target]
    named = [info for info in fitting if backend in ("auto", info.title)]
    if not named:
        known = ", ".join(dict.fromkeys(info.title for info in fitting))
        raise BackendError(f"backend {backend!r} runs no {manifest.target} artifacts; choose one of: auto, {known}")
    found = [
        Choice(info, own, info.precision or manifest.precision)
        for info in named
        for own in _devices(info, manifest)
        if device in ("auto", own)
    ]
    if not found:
        known = ", ".join(sorted({own for info in named for own in _devices(info, manifest)}))
        what = f"{manifest.target} artifacts" if backend == "auto" else backend
        raise BackendError(f"device {device!r} cannot run {what}; choose one of: auto, {known}")
    return sorted(found, key=lambda choice: choice.device == "cpu")


def open_backend(
    artifact: Path,
    manifest: Manifest,
    device: str = "auto",
    backend: str = "auto",
    *,
    threads: int | None = None,
    prove: Callable[[Backend], object] = lambda backend: None,
) -> tuple[Backend, Choice, str]:
    """Load `artifact` in the fastest way that can run here and is proven; also return that way, and why that one.

    Proven is what has a parity row that passes, or else what `prove` raises nothing about: the probe on this machine.
    A way whose row fails is taken only when `backend` names it, and one on the CPU without a row after those with. On a
    GPU a row does not do: kernels, driver and library there differ from machine to machine.

    Args:
        artifact: the file.
        manifest: of the file.
        device: "auto", or one of `BackendInfo.devices`.
        backend: "auto", or a `BackendInfo.title`.
        threads: for the arithmetic on the CPU; None for all.
        prove: called with a loaded backend that has no parity row, or is on a GPU (`Backend.machine`).

    Raises:
        BackendError: no backend runs the target, or not on `device`, or none can here.
        MissingExtraError: the backend's package is not installed.
        ArtifactError: the backend refuses the file, or `prove` does.
    """
    ways = choices(artifact, manifest, device, backend)
    if manifest.target in ENGINE_TARGETS:  # before any package is asked for: without a GPU, none is worth installing
        check_engine(artifact, manifest, this_machine())
    if backend == "auto":
        ways = _worth_trying(ways, artifact, manifest)
    refusals: list[GliaError] = []
    note = ""
    for way in ways:
        row = way.row(manifest)
        if obstacle := way.obstacle(artifact):
            refusals.append(obstacle)
            continue
        try:
            loaded = way._load(artifact, manifest, threads)  # asked above, and asking may start a library
            if row is None or loaded.machine is not None:
                prove(loaded)
        except GliaError as error:
            refusals.append(error)
            note = f"; not {way.title}: {str(error).removeprefix(f'{artifact}: ')}"
            continue
        why = "the fastest here whose parity row passes" if row else "no parity row, but the self-test passes"
        return loaded, way, f"{why if backend == 'auto' or row is None else 'as named'}{note}"
    # What is wrong with the file says most, and what is missing for the CPU, the last resort, more than for a GPU.
    raise next((error for error in refusals if isinstance(error, ArtifactError)), refusals[-1])


def _worth_trying(ways: list[Choice], artifact: Path, manifest: Manifest) -> list[Choice]:
    """GPUs, then on the CPU the ways that are proven; where none of these is installed, those without a row."""
    hopeful = [way for way in ways if (row := way.row(manifest)) is None or row.passed]
    if not hopeful:
        raise ArtifactError(f"{artifact}: no row of its parity report passes here; export it again")
    on_cpu = [way for way in hopeful if way.device == "cpu"]
    proven = [way for way in on_cpu if way.row(manifest) and is_installed(way.info.package)]
    return [way for way in hopeful if way.device != "cpu"] + (proven or on_cpu)
