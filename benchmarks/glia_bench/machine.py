"""What the figures depend on: the machine, its clocks, the versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from glia_bench import nvidia
from glia_runtime.backends.base import usable_cpus

PACKAGES = (
    "glia",
    "numpy",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "timm",
    "tensorrt",
    "tensorrt-rtx",
    "mlcommons-loadgen",
    "simplejpeg",
    "scipy",
)
_CPU = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Machine:
    """Where a run took place. None stands for what this system does not tell."""

    cpu: str
    cores: int
    """That this process may use."""
    memory_bytes: int | None
    cache_bytes: int | None
    """The last level of cache: what has to be exceeded to measure memory."""
    governor: str | None
    clocks_mhz: tuple[float, ...]
    """Of each core when the run began."""
    load: float | None
    """Processes that wanted a core in the minute before the run began, on average."""
    gpu: dict[str, Any] | None
    system: str
    python: str
    versions: dict[str, Any]
    commit: str | None
    """Of the checkout that glia_bench lies in, "-dirty" when it was changed."""

    def about(self) -> str:
        """The machine in words: "2 cores of an AMD EPYC"."""
        gpu = f", {self.gpu['name']}" if self.gpu else ""
        return f"{self.cores} core{'' if self.cores == 1 else 's'} of {self.cpu}{gpu}"


def this_machine() -> Machine:
    """The record of the machine that this runs on, as it is now."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return Machine(
        cpu=next(iter(_cpuinfo("model name")), platform.processor() or platform.machine()),
        cores=usable_cpus(),
        memory_bytes=memory,
        cache_bytes=_last_cache_bytes(),
        governor=_read(_CPU / "cpu0/cpufreq/scaling_governor"),
        clocks_mhz=tuple(float(value) for value in _cpuinfo("cpu MHz")),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        gpu=nvidia.describe(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=_versions(),
        commit=_commit(),
    )


def _cpuinfo(key: str) -> list[str]:
    text = _read(Path("/proc/cpuinfo")) or ""
    return [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(key)]


def _last_cache_bytes() -> int | None:
    sizes = [_read(path) for path in sorted(_CPU.glob("cpu0/cache/index*/size"))]
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    known = [int(size[:-1]) * units[size[-1]] for size in sizes if size and size[-1] in units]
    return max(known, default=None)


def _versions() -> dict[str, Any]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    folder = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in folder.parents):
        return None  # installed from a wheel; the version stands for the commit
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
