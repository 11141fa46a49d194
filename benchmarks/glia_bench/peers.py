"""``glia-bench peers``: GLIANet beside what a user would take instead, on the same photographs, in the same run.

The others are IQA-PyTorch's (https://github.com/chaofengc/IQA-PyTorch), each in a process of its own, in an environment
of their own, see `peers_environment`.

All run in rounds, one after the other, so that a change of the machine's mood meets each of them: a round of a model
is a process of its own that loads it, times one picture in memory a few times, and all files once. A peer that has no
time for all of them takes as many as it can in its first round, and as many in every later one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from glia_bench import peers_worker
from glia_bench.measure import in_fresh_process, peak_memory_bytes, seconds, timed
from glia_bench.options import say
from glia_bench.peers_environment import prepare_environment
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import model_cost
from glia_bench.stand_ins import WEIGHTS
from glia_bench.subjects import Spec, open_subject
from glia_runtime.backends.base import first_line, usable_cpus
from glia_runtime.decode import decode
from glia_runtime.errors import BackendError, GliaError, ImageError
from glia_runtime.manifest import Manifest
from glia_runtime.scorer import Scorer


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
"""Seconds that a peer may take for each part of its first round, see `peers_worker`: MANIQA takes 48 a picture on two
cores.
"""


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
        facts: what else is known; ``pictures`` are those of the pass.
    """

    single: tuple[float, ...]
    rate: float
    memory_bytes: int
    parameters: int | None
    facts: dict[str, Any]


@dataclass
class Entrant:
    """A model or a peer, and the rounds that it has done.

    Attributes:
        title: for people, before its name is known.
        is_peer: whether others may go on without it, and no part has failed.
        measure: a round: its name and figures. Takes how many of the files to pass over, or None for all of them, or as
            many as there is time for.
        name: in the result, once there is a round.
        rounds: in order.
    """

    title: str
    is_peer: bool
    measure: Callable[[int | None], tuple[str, Figures]]
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
                # As many in each, so that the rounds' rates are samples of the same statistic.
                count = entrant.rounds[0].facts["pictures"] if entrant.rounds else None
                try:
                    entrant.name, figures = entrant.measure(count)
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
                _add(recorder, entrant.name, entrant.rounds, len(files))
                scored = entrant.rounds[0].facts["pictures"]
                if scored < len(files):
                    recorder.note(f"{entrant.name}: the first {scored} of {len(files)} files only, for lack of time")


def _round_of_model(
    spec: Spec, paths: list[Path], effort: Effort, stands_for: str | None, count: int | None
) -> tuple[str, Figures]:
    name, manifest, figures = in_fresh_process(measure_model, spec, paths[:count], effort)
    # Counted here: it takes PyTorch, which must not be in the memory of a process that can do without.
    cost = model_cost(manifest)
    facts = dict(figures.facts)
    if stands_for is not None:
        facts.update(checkpoint=stands_for, weights=WEIGHTS)
    return name, replace(figures, parameters=cost.parameters if cost else None, facts=facts)


def _round_of_peer(
    python: Path, peer: Peer, paths: list[Path], effort: Effort, pretrained: bool, device: str, count: int | None
) -> tuple[str, Figures]:
    figures = measure_peer(
        python, peer, paths[:count], effort, may_stop=count is None, pretrained=pretrained, device=device
    )
    return f"{peer.name} (IQA-PyTorch)", figures


def measure_model(spec: Spec, paths: list[Path], effort: Effort) -> tuple[str, Manifest, Figures]:
    """Runs in a process of its own: the name, whose it is, and what a round measured, parameters left out.

    Raises:
        GliaError: it cannot be opened or run, or a file cannot be scored.
    """
    subject = open_subject(spec)
    decoded = decode(paths[0])
    # From pixels, as a peer takes them: its clock runs while it resizes and normalises.
    single = timed(lambda: subject.run(subject.collate([subject.prepare(decoded)])), warm_up=1, repeats=effort.repeats)
    scorer = subject.scorer()
    # A full batch has to be warm as well, and so have the peers' shapes: as many files do not count for them.
    _score(scorer, paths[:PIPELINE_BATCH])
    taken = seconds(lambda: _score(scorer, paths))
    facts = {**subject.facts(), "weights": "its own", "files": f"the runtime's pipeline, batch {PIPELINE_BATCH}"}
    facts["pictures"] = len(paths)
    return subject.name, subject.manifest, Figures(single, len(paths) / taken, peak_memory_bytes(), None, facts)


def _score(scorer: Scorer, paths: list[Path]) -> None:
    for result in scorer.stream(paths, batch_size=PIPELINE_BATCH):
        if result.error is not None:  # it takes less time than a picture, and would count as one
            raise ImageError(result.error)


def measure_peer(
    python: Path, peer: Peer, paths: list[Path], effort: Effort, *, may_stop: bool, pretrained: bool, device: str
) -> Figures:
    """A round of one metric of IQA-PyTorch, by `peers_worker` in its environment.

    Args:
        python: the interpreter of that environment.
        peer: which metric.
        paths: the files of the pass.
        effort: how long.
        may_stop: whether a pass that takes long may end before the last file.
        pretrained: whether to ask for its authors' weights.
        device: auto, cpu or cuda.

    Raises:
        BackendError: it cannot be started or loaded, failed, or took longer than `effort` allows.
    """
    order = {
        "metric": peer.metric,
        "paths": [str(path.resolve()) for path in paths],
        "cores": usable_cpus(),
        "repeats": effort.repeats,
        "warm_up": PIPELINE_BATCH,
        "patience": _PATIENCE,
        "may_stop": may_stop,
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
        hint = "leave out --quick" if effort.seconds < FULL.seconds else "name the other peers with --peer"
        raise BackendError(f"it took more than {effort.seconds:.0f} s in one round; {hint}") from error
    except OSError as error:
        raise BackendError(
            f"{python}: cannot be run ({error.strerror}); remove {python.parents[1]}, and it is installed anew"
        ) from error
    answers = [line for line in done.stdout.splitlines() if line.startswith(peers_worker.MARK)]
    if done.returncode or not answers:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise BackendError(f"IQA-PyTorch failed ({first_line(lines[-1] if lines else 'no message')})")
    found = json.loads(answers[-1].removeprefix(peers_worker.MARK))
    facts = {name: found[name] for name in ("weights", "device", "versions", "gpu_memory_bytes")}
    taken = found["files"]
    facts.update(files="one after the other, as the library takes them", pictures=len(taken))
    return Figures(tuple(found["single"]), len(taken) / sum(taken), found["memory_bytes"], found["parameters"], facts)


def _add(recorder: Recorder, name: str, rounds: Sequence[Figures], files: int) -> None:
    facts, parameters = rounds[0].facts, rounds[0].parameters
    passing = {**facts, "pictures_given": files}
    # One for each round: repeats in one process have more in common than an interval of their median may assume.
    single = tuple(statistics.median(figures.single) for figures in rounds)
    recorder.add(Measurement(name, "batch 1, in memory", "s", "lower", single, facts))
    # Whole passes over the same files: of all the same statistic, and no reason to differ from round to round.
    rates = tuple(figures.rate for figures in rounds)
    recorder.add(Measurement(name, "from files", "images/s", "higher", rates, passing))
    memory = tuple(float(figures.memory_bytes) for figures in rounds)
    recorder.add(Measurement(name, "peak memory", "bytes", "lower", memory, passing))
    if parameters is not None:
        recorder.add(Measurement(name, "parameters", "M", "neither", (parameters / 1e6,), facts))
