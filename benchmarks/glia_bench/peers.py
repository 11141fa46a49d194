"""``glia-bench peers``: GLIANet beside what a user would take instead, on the same photographs, in the same run.

The others are IQA-PyTorch's (https://github.com/chaofengc/IQA-PyTorch), each in a process of its own, in an environment
of their own that is prepared once in the user's cache directory.

All run in rounds, one after the other, so that a change of the machine's mood meets each of them: a round of a model
is a process of its own that loads it, times one picture in memory a few times, and all files once.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from glia_bench import peers_worker
from glia_bench.measure import Say, in_fresh_process, peak_memory_bytes, seconds, timed
from glia_bench.options import say
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import model_cost
from glia_bench.stand_ins import WEIGHTS
from glia_bench.subjects import Spec, open_subject
from glia_runtime.backends.base import first_line, usable_cpus
from glia_runtime.decode import decode
from glia_runtime.errors import BackendError, GliaError
from glia_runtime.manifest import Manifest

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
    Peer("MANIQA", "maniqa"),
)
PIPELINE_BATCH = 8
_PATIENCE = 30.0
"""Seconds that a peer may take for each part of a round, see `peers_worker`: MANIQA takes 48 a picture on two cores."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: of all models and peers; each gives one rate of files to scores.
        repeats: of the single picture, in each round.
        files: in a pass.
        seconds: that a peer may take for a round before it is left out.
    """

    rounds: int
    repeats: int
    files: int
    seconds: float


FULL, QUICK = Effort(5, 3, 16, 3600), Effort(1, 3, 3, 120)
"""Five rounds are as many as an interval needs (`glia_bench.compare.FEWEST`)."""


@dataclass(frozen=True)
class Figures:
    """What a process measured in its round.

    Attributes:
        single: seconds of one picture in memory, again and again.
        rate: pictures a second of one pass over all files.
        memory_bytes: most that it held.
        parameters: of the model; None where they cannot be counted.
        facts: what else is known.
    """

    single: tuple[float, ...]
    rate: float
    memory_bytes: int
    parameters: int | None
    facts: dict[str, Any]


@dataclass
class Entrant:
    """A model or a peer: what a round of it gives, its name with it, and the rounds that it has done."""

    title: str
    is_peer: bool
    measure: Callable[[], tuple[str, Figures]]
    name: str = ""
    rounds: list[Figures] = field(default_factory=list)


def measure_peers(
    recorder: Recorder,
    specs: Sequence[Spec],
    peers: Sequence[Peer],
    paths: Sequence[Path],
    effort: Effort,
    *,
    pretrained: bool,
    device: str,
    step: Callable[[str], None],
    standing_for: Mapping[Spec, str] | None = None,
) -> None:
    """Add a row for each model and each peer; one that cannot run is a remark, and a model's is a failed part.

    Args:
        recorder: takes the measurements.
        specs: the models.
        peers: of IQA-PyTorch.
        paths: pictures that can be read.
        effort: how long.
        pretrained: whether to ask for the peers' own weights.
        device: auto, cpu or cuda; of the peers, as the models' stands in their specs.
        step: told what begins.
        standing_for: see `stand_ins`; by the digest of the checkpoint they count as that one in eager PyTorch.

    Raises:
        BackendError: the peers' environment cannot be prepared.
    """
    files = list(paths[: effort.files])
    standing_for = standing_for or {}
    entrants = [
        Entrant(str(spec), False, partial(_round_of_model, spec, files, effort, standing_for.get(spec)))
        for spec in (*specs, *standing_for)
    ]
    if peers:
        step("preparing IQA-PyTorch")
        python = prepare_environment(say)
        entrants += [
            Entrant(peer.name, True, partial(_round_of_peer, python, peer, files, effort, pretrained, device))
            for peer in peers
        ]
    running = list(entrants)
    try:
        for number in range(effort.rounds):
            for entrant in list(running):
                step(f"{entrant.title}, round {number + 1} of {effort.rounds}")
                try:
                    entrant.name, figures = entrant.measure()
                except GliaError as error:
                    running.remove(entrant)
                    recorder.has_failed |= not entrant.is_peer
                    after = f" after {number} rounds" if number else ""
                    recorder.note(f"{entrant.title} left out{after}: {error}")
                else:
                    entrant.rounds.append(figures)
    finally:  # of a run that is interrupted, the rounds that there are
        for entrant in entrants:
            if entrant.rounds:
                _add(recorder, entrant.name, entrant.rounds)
                scored = min(figures.facts["pictures"] for figures in entrant.rounds)
                if scored < len(files):
                    recorder.note(f"{entrant.name}: the first {scored} of {len(files)} files only, for lack of time")


def _round_of_model(spec: Spec, paths: list[Path], effort: Effort, stands_for: str | None) -> tuple[str, Figures]:
    name, manifest, figures = in_fresh_process(measure_model, spec, paths, effort)
    # Counted here: it takes PyTorch, which must not be in the memory of a process that can do without.
    cost = model_cost(manifest)
    facts = dict(figures.facts)
    if stands_for is not None:
        facts.update(checkpoint=stands_for, weights=WEIGHTS)
    return name, replace(figures, parameters=cost.parameters if cost else None, facts=facts)


def _round_of_peer(
    python: Path, peer: Peer, paths: list[Path], effort: Effort, pretrained: bool, device: str
) -> tuple[str, Figures]:
    figures = measure_peer(python, peer, paths, effort, pretrained=pretrained, device=device)
    return f"{peer.name} (IQA-PyTorch)", figures


def measure_model(spec: Spec, paths: list[Path], effort: Effort) -> tuple[str, Manifest, Figures]:
    """Runs in a process of its own: the name, whose it is, and what a round measured, parameters left out."""
    subject = open_subject(spec)
    decoded = decode(paths[0])
    # From pixels, as a peer takes them: its clock runs while it resizes and normalises.
    single = timed(lambda: subject.run(subject.collate([subject.prepare(decoded)])), warm_up=1, repeats=effort.repeats)
    scorer = subject.scorer()
    # A full batch has to be warm as well, and so have the peers' shapes: as many files do not count for them.
    list(scorer.stream(paths[:PIPELINE_BATCH], batch_size=PIPELINE_BATCH))
    taken = seconds(lambda: list(scorer.stream(paths, batch_size=PIPELINE_BATCH)))
    facts = {**subject.facts(), "weights": "its own", "files": f"the runtime's pipeline, batch {PIPELINE_BATCH}"}
    facts["pictures"] = len(paths)
    return subject.name, subject.manifest, Figures(single, len(paths) / taken, peak_memory_bytes(), None, facts)


def measure_peer(
    python: Path, peer: Peer, paths: list[Path], effort: Effort, *, pretrained: bool, device: str
) -> Figures:
    """A round of one metric of IQA-PyTorch, by `peers_worker` in its environment.

    Raises:
        BackendError: it cannot be loaded, failed, or took longer than `effort` allows.
    """
    order = {
        "metric": peer.metric,
        "paths": [str(path.resolve()) for path in paths],
        "cores": usable_cpus(),
        "repeats": effort.repeats,
        "warm_up": PIPELINE_BATCH,
        "patience": _PATIENCE,
        "weights": "pretrained" if pretrained else "random",
        "device": device,
        "parent": os.getpid(),
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
    taken = found["files"]
    facts.update(files="one after the other, as the library takes them", pictures=len(taken))
    return Figures(tuple(found["single"]), len(taken) / sum(taken), found["memory_bytes"], found["parameters"], facts)


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


def _add(recorder: Recorder, name: str, rounds: Sequence[Figures]) -> None:
    facts, parameters = rounds[0].facts, rounds[0].parameters
    # One for each round: repeats in one process have more in common than an interval of their median may assume.
    single = tuple(statistics.median(figures.single) for figures in rounds)
    recorder.add(Measurement(name, "batch 1, in memory", "s", "lower", single, facts))
    # Whole passes over the same files: of all the same statistic, and no reason to differ from round to round.
    rates = tuple(figures.rate for figures in rounds)
    recorder.add(Measurement(name, "from files", "images/s", "higher", rates, facts))
    memory = tuple(float(figures.memory_bytes) for figures in rounds)
    recorder.add(Measurement(name, "peak memory", "bytes", "lower", memory, facts))
    if parameters is not None:
        recorder.add(Measurement(name, "parameters", "M", "neither", (parameters / 1e6,), facts))
