"""``glia-bench peers``: GLIANet beside what a user would take instead, on the same photographs, in the same run.

The others are IQA-PyTorch's (https://github.com/chaofengc/IQA-PyTorch), each in a process of its own, in an environment
of their own that is prepared once in the user's cache directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glia_bench import peers_worker
from glia_bench.measure import Say, in_fresh_process, peak_memory_bytes, seconds, timed
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import model_cost
from glia_bench.subjects import Spec, open_subject
from glia_runtime.backends.base import first_line, usable_cpus
from glia_runtime.decode import decode
from glia_runtime.errors import BackendError, GliaError

REQUIREMENTS = ("pyiqa>=0.1.15", "setuptools<81")
"""LIQE and CLIP-IQA+ import pkg_resources, which setuptools 81 took out."""


@dataclass(frozen=True)
class Peer:
    """A metric of IQA-PyTorch.

    Attributes:
        name: as published.
        metric: as IQA-PyTorch calls it.
        quick: whether ``--quick`` has the time for it.
    """

    name: str
    metric: str
    quick: bool = False


PEERS = (
    Peer("TOPIQ-NR", "topiq_nr", quick=True),
    Peer("MUSIQ", "musiq", quick=True),
    Peer("HyperIQA", "hyperiqa"),
    Peer("LIQE", "liqe"),
    Peer("CLIP-IQA+", "clipiqa+"),
    Peer("MANIQA", "maniqa"),  # 48 s a picture on two cores
)
PIPELINE_BATCH = 8
_HOURS = 4 * 3600


@dataclass(frozen=True)
class Effort:
    """How often the single picture is timed, how many files each takes, and how long a peer may take."""

    repeats: int
    files: int
    seconds: float


FULL, QUICK = Effort(10, 24, _HOURS), Effort(3, 3, 120)


@dataclass(frozen=True)
class Figures:
    """What a process measured: seconds of one picture in memory, seconds of each file, and the rest."""

    single: tuple[float, ...]
    rates: tuple[float, ...]
    memory_bytes: int
    parameters: int | None
    facts: dict[str, Any]


def measure_peers(
    recorder: Recorder,
    specs: Sequence[Spec],
    peers: Sequence[Peer],
    paths: Sequence[Path],
    effort: Effort,
    *,
    pretrained: bool,
    step: Callable[[str], None],
) -> None:
    """Add a row for each model and each peer; one that cannot run is a remark.

    Raises:
        BackendError: the peers' environment cannot be prepared.
    """
    files = list(paths[: effort.files])
    for spec in specs:
        step(spec.model)
        try:
            name, figures = in_fresh_process(measure_model, spec, files, effort)
        except GliaError as error:
            recorder.note(f"left out: {error}")
            continue
        _add(recorder, name, figures)
    if not peers:
        return
    step("preparing IQA-PyTorch")
    python = prepare_environment(recorder.note)
    for peer in peers:
        step(peer.name)
        try:
            figures = measure_peer(python, peer, files, effort, pretrained=pretrained)
        except BackendError as error:
            recorder.note(f"{peer.name} left out: {error}")
            continue
        _add(recorder, f"{peer.name} (IQA-PyTorch)", figures)


def measure_model(spec: Spec, paths: list[Path], effort: Effort) -> tuple[str, Figures]:
    """Runs in a process of its own: the name, and what was measured."""
    subject = open_subject(spec)
    inputs = subject.collate([subject.prepare(decode(paths[0]))])
    single = timed(lambda: subject.run(inputs), warm_up=1, repeats=effort.repeats)
    scorer = subject.scorer()
    list(scorer.stream(paths[:1], batch_size=PIPELINE_BATCH))
    whole = [
        seconds(lambda: list(scorer.stream(paths, batch_size=PIPELINE_BATCH))) for _ in range(min(3, effort.repeats))
    ]
    cost = model_cost(subject.manifest)
    facts = {**subject.facts(), "weights": "its own", "files": f"the runtime's pipeline, batch {PIPELINE_BATCH}"}
    rates = tuple(len(paths) / taken for taken in whole)
    return subject.name, Figures(single, rates, peak_memory_bytes(), cost.parameters if cost else None, facts)


def measure_peer(python: Path, peer: Peer, paths: list[Path], effort: Effort, *, pretrained: bool) -> Figures:
    """Time one metric of IQA-PyTorch by `peers_worker` in its environment.

    Raises:
        BackendError: it cannot be loaded, failed, or took longer than `effort` allows.
    """
    order = {
        "metric": peer.metric,
        "paths": [str(path.resolve()) for path in paths],
        "cores": usable_cpus(),
        "repeats": effort.repeats,
        "weights": "pretrained" if pretrained else "random",
    }
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(python), "-W", "ignore", str(Path(peers_worker.__file__)), json.dumps(order)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=effort.seconds, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"it took more than {effort.seconds:.0f} s; leave out --quick") from error
    answers = [line for line in done.stdout.splitlines() if line.startswith(peers_worker.MARK)]
    if done.returncode or not answers:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise BackendError(f"IQA-PyTorch failed ({first_line(lines[-1] if lines else 'no message')})")
    found = json.loads(answers[-1].removeprefix(peers_worker.MARK))
    facts = {name: found[name] for name in ("weights", "device", "versions", "gpu_memory_bytes")}
    facts["files"] = "one after the other, as the library takes them"
    rates = tuple(1 / taken for taken in found["files"])
    return Figures(tuple(found["single"]), rates, found["memory_bytes"], found["parameters"], facts)


def environment_folder() -> Path:
    """Where the peers' environment lies, in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "glia-bench" / "pyiqa"


def prepare_environment(say: Say) -> Path:
    """The interpreter of IQA-PyTorch's environment, made when it is not there yet; half an environment never stays.

    Raises:
        BackendError: it cannot be made (no network, no space).
    """
    folder = environment_folder()
    python, whole = folder / "bin" / "python", folder / "complete"
    if whole.exists():
        return python
    say(f"installing IQA-PyTorch into {folder}, for this command alone (some 6 GB and several minutes, once)")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
        whole.write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")
    except (OSError, subprocess.CalledProcessError, KeyboardInterrupt) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt):
            raise
        lines = [line for line in (getattr(error, "stderr", None) or str(error)).splitlines() if line.strip()]
        raise BackendError(
            f"{folder}: IQA-PyTorch cannot be installed ({first_line(lines[-1])}); check the network and the space, or "
            "leave the peers out with --no-peers"
        ) from error
    return python


def _add(recorder: Recorder, name: str, figures: Figures) -> None:
    facts = figures.facts
    recorder.add(Measurement(name, "batch 1, in memory", "s", "lower", figures.single, facts))
    mixed = {**facts, "mixed": True}  # files of many sizes
    recorder.add(Measurement(name, "from files", "images/s", "higher", figures.rates, mixed))
    recorder.add(Measurement(name, "peak memory", "bytes", "lower", (float(figures.memory_bytes),), facts))
    if figures.parameters is not None:
        millions = (figures.parameters / 1e6,)
        recorder.add(Measurement(name, "parameters", "M", "neither", millions, facts))
