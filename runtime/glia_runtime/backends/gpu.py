"""Which NVIDIA GPU is here, asked of the driver itself.

Through ctypes, because it has to be known before anything that needs a GPU is imported, or worth installing.
"""

from __future__ import annotations

import ctypes
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from glia_runtime.errors import BackendError

_DRIVER = "libcuda.so.1"
# From cuda.h; the driver's interface is stable.
_NO_DEVICE = 100
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
_NAME_LENGTH = 256


@dataclass(frozen=True)
class Gpu:
    """The first GPU that the driver shows ($CUDA_VISIBLE_DEVICES counts).

    Attributes:
        name: as the driver calls it, "NVIDIA GeForce RTX 4090".
        compute_capability: "8.9".
        identity: of this very board, its UUID.
        driver: version of the driver, and the CUDA version that it brings, "13.0".
    """

    name: str
    compute_capability: str
    identity: str
    driver: str

    def facts(self, library: str) -> dict[str, str]:
        """What a verdict on this board is bound to; `library` names the one that computes, and its version."""
        return {
            "gpu": self.name,
            "board": self.identity,
            "compute_capability": self.compute_capability,
            "driver": self.driver,
            "library": library,
        }

    def __str__(self) -> str:
        """Name and compute capability, for messages."""
        return f"{self.name} (compute capability {self.compute_capability})"


def find_gpu() -> Gpu:
    """The GPU to use.

    Raises:
        BackendError: there is none, or no driver, or the driver does not start; the message is half a line, for
            the caller to say what it was needed for.
    """
    try:
        cuda = ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise BackendError(f"there is no NVIDIA driver here ({_DRIVER} does not load)") from error
    status = cuda.cuInit(0)
    if status == _NO_DEVICE:
        raise BackendError("the NVIDIA driver shows no GPU here")
    if status:
        raise BackendError(f"the NVIDIA driver does not start (cuInit gives CUDA error {status})")
    device, major, minor, cuda_version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(_NAME_LENGTH)
    identity = (ctypes.c_ubyte * 16)()
    if not hasattr(cuda, "cuDeviceGetUuid_v2"):
        raise BackendError("the NVIDIA driver here is too old (it brings no CUDA 11.4); update it")
    statuses = (
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetName(name, _NAME_LENGTH, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        cuda.cuDeviceGetUuid_v2(ctypes.byref(identity), device),
        cuda.cuDriverGetVersion(ctypes.byref(cuda_version)),
    )
    if status := next(filter(None, statuses), 0):
        raise BackendError(f"the NVIDIA driver does not describe the GPU here (CUDA error {status})")
    brought = f"CUDA {cuda_version.value // 1000}.{cuda_version.value % 1000 // 10}"
    return Gpu(
        name.value.decode("utf-8", "replace"),
        f"{major.value}.{minor.value}",
        str(uuid.UUID(bytes=bytes(identity))),
        " ".join(filter(None, (_driver_version(), brought))),
    )


def _driver_version() -> str:
    """Like "580.82.07"; empty where the kernel module does not tell, as under WSL."""
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="ascii", errors="replace")
        if found := re.search(r"\b\d+\.\d+(\.\d+)?\b", text):
            return found[0]
    return ""
