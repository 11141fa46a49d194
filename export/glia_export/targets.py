"""What a checkpoint can become, and whether it can be made here."""

from dataclasses import dataclass
from importlib.util import find_spec

from glia_runtime.manifest import Target

EXTRA = "export"
"""What to install for all of them: ``pip install 'glia[export]'``."""

_LATER = "not in this release"


@dataclass(frozen=True)
class TargetInfo:
    """One value of ``--to``.

    Attributes:
        name: as typed.
        suffix: of the file, when no name is given.
        about: what it is for, a few words.
        packages: what has to be importable to make and verify it.
        built: whether this release makes it.
    """

    name: Target
    suffix: str
    about: str
    packages: tuple[str, ...]
    built: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of `packages` that are not installed."""
        return tuple(package for package in self.packages if find_spec(package) is None)

    @property
    def unavailable(self) -> str | None:
        """Why it cannot be made here, with the remedy, or None when it can."""
        if not self.built:
            return _LATER
        missing = ", ".join(self.missing)
        return f"{missing} not installed: pip install 'glia[{EXTRA}]'" if missing else None


TARGETS: tuple[TargetInfo, ...] = (
    TargetInfo(
        "onnx",
        ".onnx",
        "one file for ONNX Runtime and other engines; fp32, fp16, fp16-weights",
        ("torch", "onnx", "onnxscript", "onnxruntime"),
        True,
    ),
    TargetInfo("torchscript", ".ts", "for C++ programs on libtorch; fp32", ("torch",), True),
    TargetInfo("trt", ".engine", "a TensorRT engine for one kind of NVIDIA GPU", (), False),
    TargetInfo("trt-rtx", ".rtx", "a TensorRT-RTX engine for GeForce RTX GPUs", (), False),
    TargetInfo("pt2", ".pt2", "a package compiled ahead of time by PyTorch", (), False),
)


def target_info(name: str) -> TargetInfo:
    """The target called `name`; raises KeyError."""
    by_name: dict[str, TargetInfo] = {info.name: info for info in TARGETS}
    return by_name[name]
