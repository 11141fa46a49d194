"""What a run's folder says of the run a year later: `run.json`."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import glia
from glia.data.samples import Dataset, Sample
from glia.training.distributed import Processes
from glia_runtime.atomic import atomic_write

RUN_FILE = "run.json"


def write_record(
    out: Path,
    config: dict[str, Any],
    split: dict[str, list[str]],
    processes: Processes,
    *,
    labels: str | None = None,
    backbone: str | None = None,
) -> None:
    """Write a run's facts: what it was asked to do, on which pictures, by which software, on which machine.

    Args:
        out: the run's folder.
        config: JSON-ready.
        split: the pictures of "train" and "test", see `picture_names`.
        processes: the run's.
        labels: of both parts, see `labels_digest`; None where pictures are drawn.
        backbone: `digest` of the weights that the backbones start from; None where they are what is trained.
    """
    content = {
        "config": config,
        "command": shlex.join(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "processes": processes.count,
        },
        "versions": dict(sorted((found.name.lower(), found.version) for found in distributions())),
        "backbone": backbone,
        "labels": labels,
        "split": split,
    }
    with atomic_write(out / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_record(out: Path) -> dict[str, Any]:
    """The content of `run.json`.

    Raises:
        OSError, ValueError: it is missing, or not JSON.
    """
    content: dict[str, Any] = json.loads((out / RUN_FILE).read_text())
    return content


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and values."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def picture_names(dataset: Dataset) -> list[str]:
    """What names each picture in a split list: its file, or what it was made from, once, where it has none."""
    samples = (dataset[index] for index in range(len(dataset)))
    return list(dict.fromkeys(_name(sample) for sample in samples))


def labels_digest(parts: Sequence[Dataset], root: str) -> str:
    """SHA-256 over the name and the score of every sample of some parts; the same when `root` has moved."""
    found = hashlib.sha256()
    for part in parts:
        for index in range(len(part)):
            sample = part[index]
            found.update(f"{below(root, _name(sample))}\0{float(sample.score)!r}\n".encode("utf-8", "surrogateescape"))
        found.update(b"\n")
    return found.hexdigest()


def below(root: str, name: str) -> str:
    """A picture's name as seen from the dataset's root, its folder or a file in that."""
    for folder in (Path(root), Path(root).parent):
        if name.startswith(prefix := f"{folder}{os.sep}"):
            return name[len(prefix) :]
    return name


def split_below(root: str, split: dict[str, list[str]]) -> dict[str, list[str]]:
    """The pictures' names of a split, part by part, as seen from the dataset's root."""
    return {part: [below(root, name) for name in names] for part, names in split.items()}


def _name(sample: Sample) -> str:
    return str(sample.path or sample.reference)


def _commit() -> str | None:
    """The commit of glia's source, with "-dirty" where files differ from it; None where it is no working copy."""
    git = ["git", "-C", str(Path(glia.__file__).parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=False)
        if tracked.returncode:  # an installed copy, perhaps inside a repository of someone else
            return None
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git
        return None
