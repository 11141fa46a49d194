"""What a device can do at best, and how long things take on it: the other end of every ratio.

Times are medians of runs that wait for the device. Everything also runs on the CPU, where tests run it.
"""

import statistics
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from glia_bench.machine import this_machine
from glia_bench.measure import timed

_REPEATS = 20


def describe(device: str) -> dict[str, Any]:
    """What the figures depend on: the machine, torch, and the GPU if that is the device."""
    return asdict(this_machine()) | {"device": device}


def seconds(function: Callable[[], object], device: str, repeats: int = _REPEATS) -> float:
    """Median wall time of `function`, after three runs that are not counted."""

    def waited() -> None:
        function()
        _wait(device)

    _wait(device)
    return statistics.median(timed(waited, warm_up=3, repeats=repeats))


def copy_bandwidth(device: str, size: int) -> float:
    """Bytes a second, read and written, of copying `size` bytes: the best that memory gives."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device)


def launch_latency(device: str) -> float:
    """Seconds from the call of a kernel that does nothing to speak of until its result is there."""
    one = torch.zeros(1, device=device)
    return seconds(lambda: one.add_(1), device, 10 * _REPEATS)


def matrix_peak(device: str, dtype: torch.dtype, size: int) -> float:
    """Floating-point operations a second of a square matrix product: the best that the device gives in `dtype`."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * float(size) ** 3 / seconds(lambda: left @ right, device)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
