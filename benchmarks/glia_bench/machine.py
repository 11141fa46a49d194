"""What every figure depends on: the machine and the versions of the packages."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from glia_runtime.backends.base import usable_cpus


def machine(*packages: str) -> dict[str, Any]:
    """The processor, the cores this process may use, and the versions of Python, glia, NumPy, Pillow and `packages`."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    names = ("glia", "numpy", "pillow", *packages)
    return {
        "cpu": model,
        "cores": usable_cpus(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
