"""Energy as far as a driver tells it: the GPU's by NVML, the processors' by Linux's powercap."""

from __future__ import annotations

from pathlib import Path

from glia_bench import nvidia

_POWERCAP = Path("/sys/class/powercap")


def joules() -> float | None:
    """Energy taken so far by the GPU and the processor packages; None where no driver tells either.

    Only differences mean something. The processors' counter runs over after some minutes of full load (its
    ``max_energy_range_uj``): a difference below 0 is no measurement.
    """
    known = [value for value in (nvidia.energy_joules(), _packages()) if value is not None]
    return sum(known) if known else None


def _packages() -> float | None:
    """Of the zones that are called packages: "psys", the whole board, and "core" and "dram" count the same again."""
    try:
        names = {path.parent: path.read_text(encoding="ascii") for path in _POWERCAP.glob("intel-rapl:*/name")}
        packages = [zone / "energy_uj" for zone, name in sorted(names.items()) if name.startswith("package")]
        counters = [path.read_text(encoding="ascii") for path in packages]
    except OSError:  # for root only, on most systems
        return None
    return sum(int(counter) for counter in counters) / 1e6 if counters else None
