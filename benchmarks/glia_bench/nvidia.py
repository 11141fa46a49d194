"""What an NVIDIA driver tells: name, clocks, memory, energy, None where there is no GPU; and timing PyTorch on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from glia_runtime.backends import is_installed
from glia_runtime.errors import BackendError, UsageError

T = TypeVar("T")


@contextmanager
def _device() -> Iterator[tuple[Any, Any]]:
    """The NVML module and the handle of the first GPU, or (None, None)."""
    if not is_installed("pynvml"):
        yield None, None
        return
    nvml: Any = import_module("pynvml")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError:  # no driver, or no GPU
        yield None, None
        return
    try:
        yield nvml, handle
    finally:
        nvml.nvmlShutdown()


def describe() -> dict[str, Any] | None:
    """Name, driver, clocks (MHz), power limit (W) and temperature (degrees C) of the first GPU; None without one."""
    with _device() as (nvml, handle):
        if nvml is None:
            return None
        sm, memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
        return {
            "name": nvml.nvmlDeviceGetName(handle),
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "sm_mhz": nvml.nvmlDeviceGetClockInfo(handle, sm),
            "sm_mhz_max": nvml.nvmlDeviceGetMaxClockInfo(handle, sm),
            "memory_mhz": nvml.nvmlDeviceGetClockInfo(handle, memory),
            "power_limit_w": nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
            "temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        }


def energy_joules() -> float | None:
    """Energy that the first GPU has taken since its driver was loaded; None where the driver does not tell."""
    with _device() as (nvml, handle):
        if nvml is None:
            return None
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except nvml.NVMLError:  # before Volta
            return None


def memory_bytes() -> int | None:
    """Memory of the first GPU that is taken, by whomever; None without one."""
    with _device() as (nvml, handle):
        return None if nvml is None else int(nvml.nvmlDeviceGetMemoryInfo(handle).used)


def torch_device(device: str) -> str:
    """Where PyTorch computes, "cpu" or "cuda", given --device.

    Raises:
        BackendError: a GPU is asked for, and PyTorch sees none.
        UsageError: no such device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {device!r} is unknown; choose one of: auto, cpu, cuda")
    torch: Any = import_module("torch")
    here = bool(torch.cuda.is_available())
    if device == "cuda" and not here:
        raise BackendError("PyTorch sees no GPU here; leave out --device cuda, or install a PyTorch built for CUDA")
    return "cuda" if here and device != "cpu" else "cpu"


def finished(call: Callable[[], T], device: str) -> Callable[[], T]:
    """`call`, returning when what it gave to `device` is done, and not when it is given."""
    if device == "cpu":
        return call
    torch: Any = import_module("torch")

    def waited() -> T:
        result = call()
        torch.cuda.synchronize()
        return result

    return waited


def has_events() -> bool:
    """Whether PyTorch is there with CUDA: a backend may bring a CUDA of its own."""
    return is_installed("torch") and bool(import_module("torch").cuda.is_available())


class CudaTimer:
    """Seconds between two CUDA events on the legacy default stream, for calls that return when the GPU is done."""

    def __init__(self) -> None:
        torch: Any = import_module("torch")
        self._synchronize = torch.cuda.synchronize
        self._begun, self._ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        """Record the first event once the GPU is idle."""
        self._synchronize()
        self._begun.record()

    def stop(self) -> float:
        """Record the second event, wait for it, and return the seconds between."""
        self._ended.record()
        self._ended.synchronize()
        return float(self._begun.elapsed_time(self._ended)) / 1000
