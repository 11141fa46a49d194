"""What a checkpoint can become, and whether it can be made here."""

import os
import shutil
from dataclasses import dataclass

from glia_runtime.backends import is_installed
from glia_runtime.backends.gpu import find_gpu
from glia_runtime.errors import BackendError, GliaError, MissingExtraError
from glia_runtime.manifest import Precision, Target

_EXTRAS = {"tensorrt_rtx": "trt-rtx"}  # the others come with the extra "export"


@dataclass(frozen=True)
class TargetInfo:
    """One value of ``--to``.

    Attributes:
        name: as typed.
        suffix: of the file, when no name is given.
        about: what it is for, a few words.
        packages: what has to be importable to make and verify it.
        precisions: what it can be made in.
        instead: a package that can take the place of the last of `packages`.
    """

    name: Target
    suffix: str
    about: str
    packages: tuple[str, ...]
    precisions: tuple[Precision, ...]
    instead: str | None = None

    @property
    def is_engine(self) -> bool:
        """Whether it is compiled for certain GPUs, and takes `EngineOptions`."""
        return self.name in ("trt", "trt-rtx")

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of `packages` that are not installed."""
        missing = tuple(package for package in self.packages if not is_installed(package))
        if self.instead and missing == self.packages[-1:] and is_installed(self.instead):
            return ()
        return missing

    @property
    def extra(self) -> str:
        """What to install for the missing ones: ``pip install 'glia[extra]'``."""
        return ",".join(dict.fromkeys(_EXTRAS.get(package, "export") for package in self.missing))

    @property
    def unavailable(self) -> str | None:
        """Why it cannot be made here, with the remedy, or None when it can."""
        if self.missing:
            return f"{', '.join(self.missing)} not installed: pip install 'glia[{self.extra}]'"
        if self.name == "pt2" and (compiler := missing_compiler()):
            return f"no C++ compiler {compiler}: install g++, or name one in $CXX"
        return _engine_obstacle(self.name) if self.is_engine else None

    def check_installed(self) -> None:
        """Raise MissingExtraError when a package is missing."""
        if self.missing:
            raise MissingExtraError.for_package(self.missing[0], self.extra, f"--to {self.name}")


def _engine_obstacle(target: Target) -> str | None:
    """Why no engine can be built for this machine's GPU; without one they are built for GPUs elsewhere."""
    try:
        find_gpu()
    except BackendError:
        return None
    from glia_export.tensorrt_export import choose_compiler  # and with it torch, which takes seconds

    try:
        choose_compiler(target, (), lambda line: None)
    except GliaError as error:
        return str(error)
    return None


def missing_compiler() -> str | None:
    """The C++ compiler that packages are made with, by name, where it is not there."""
    compiler = os.environ.get("CXX", "g++")
    return None if shutil.which(compiler) else compiler


_ONNX_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")


TARGETS: tuple[TargetInfo, ...] = (
    TargetInfo(
        "onnx",
        ".onnx",
        "one file for ONNX Runtime and other engines",
        _ONNX_PACKAGES,
        ("fp32", "fp16", "fp16-weights"),
    ),
    TargetInfo("torchscript", ".ts", "for C++ programs on libtorch", ("torch",), ("fp32", "fp16")),
    TargetInfo(
        "trt",
        ".engine",
        "a TensorRT engine for the GPU here, else a TensorRT-RTX one",
        (*_ONNX_PACKAGES, "tensorrt_rtx"),
        ("fp32", "fp16", "bf16"),
        instead="tensorrt",
    ),
    TargetInfo(
        "trt-rtx",
        ".rtx",
        "a TensorRT-RTX engine for RTX GPUs, built with or without one",
        (*_ONNX_PACKAGES, "tensorrt_rtx"),
        ("fp32", "fp16", "bf16"),
    ),
    TargetInfo(
        "pt2", ".pt2", "a package compiled by PyTorch, in fp16 for the GPU here only", ("torch",), ("fp32", "fp16")
    ),
)


def target_info(name: str) -> TargetInfo:
    """The target called `name`; raises KeyError."""
    by_name: dict[str, TargetInfo] = {info.name: info for info in TARGETS}
    return by_name[name]
