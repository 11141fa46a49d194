"""Remembered verdicts: which artifacts have passed their probe on which machine.

One small file each in the user's cache directory. Only passes are kept: what failed is probed again, as the machine
may have been mended. A cache that cannot be read or written costs a probe and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from glia_runtime.atomic import atomic_write
from glia_runtime.errors import OutputError

Facts = dict[str, str]


def facts_of(artifact_sha256: str, machine: Mapping[str, str]) -> Facts:
    """What a verdict is bound to: the artifact, the machine (`Backend.machine`) and this release of glia."""
    from importlib.metadata import version  # slow to import, and most backends need no verdict

    return {"artifact_sha256": artifact_sha256, "glia": version("glia"), **machine}


def has_passed(facts: Facts) -> bool:
    """Whether a probe under exactly these facts has passed before."""
    path = _path(facts)
    if path is None:
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none, or not ours
        return False
    return isinstance(found, dict) and found.get("passed") == facts


def remember(facts: Facts, difference: float) -> None:
    """Keep that a probe has passed, and by how much it differed, for whoever reads the file."""
    path = _path(facts)
    if path is None:
        return
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"passed": facts, "difference": difference}, indent=2) + "\n")


def forget(facts: Facts) -> None:
    """Drop a pass that holds no longer: the probe has failed since."""
    path = _path(facts)
    if path is not None:
        with suppress(OSError):
            path.unlink()


def _path(facts: Facts) -> Path | None:
    """The verdict's file; None where the user has no home."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # As the XDG specification wants it, a relative path is ignored.
        folder = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return folder / "glia" / "probes" / f"{name}.json"
