"""The training loop: one for every task, resumable at any moment, the same result either way."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from glia.data.samples import Dataset
from glia.data.store import ArrayStore
from glia.data.synthetic import DISTORTIONS
from glia.data.views import GroupSampler, TrainingViews, groups_in_batch, training_loader
from glia.training.distributed import Processes
from glia.training.log import Log, progress
from glia.training.losses import LOSSES
from glia.training.state import RESUME_FILE, State
from glia.training.tasks import Outcome, Task
from glia.training.validation import ValidationViews
from glia_runtime.errors import GliaError, UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Of the rated datasets FLIVE has the largest test part, 7962; 50 000 take 15 GB, and by four crops 30.
_MOST_VALIDATED = 50_000
# Predictions that the scale of the scores is learnt from, or an epoch's if that has fewer: however often a run is
# evaluated, a slope over 2000 is good to some percent, and they are recent.
_CALIBRATED_ON = 2000
_NAMED = 8  # pictures of a bad batch that the message names


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all; 0 where `epochs` says it.
        epochs: times to show every group of pictures `views` times; what is left of a last batch is left out.
        views: fragment mosaics of each picture in an epoch, LoDa's "patches".
        batch_size: samples a step over all processes, rounded down to whole groups.
        learning_rate: AdamW's peak; after the warm-up, a cosine to zero, step by step.
        weight_decay: AdamW's, on matrices only.
        beta2: AdamW's.
        warm_up: share of the steps in which the learning rate rises.
        turn: steps after which the cosine has reached zero and rises again; 0 for all of them.
        clip: largest norm of the gradient; 0 for any.
        loss: a name of `glia.training.losses.LOSSES`.
        select: what is kept as the result: the "last" step, or the "best" evaluation by SRCC.
        seed: of order, augmentation and dropout.
        precision: "fp32"; "bf16" or "fp16" for autocast, the latter on a GPU only.
        compile: have torch.compile translate what the steps run.
        evaluate_every: steps between evaluations, each of which also writes the state to resume from; 0 for an epoch.
        workers: processes that prepare batches; 0 prepares them in this one.
    """

    steps: int = 0
    epochs: int = 0
    views: int = 1
    batch_size: int = 20
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    beta2: float = 0.98
    warm_up: float = 0.05
    turn: int = 0
    clip: float = 1.0
    loss: str = "quality"
    select: str = "best"
    seed: int = 0
    precision: str = "fp32"
    compile: bool = False
    evaluate_every: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run, in one line each."""
        choices = {"loss": tuple(LOSSES), "select": ("last", "best"), "precision": tuple(PRECISIONS)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name in ("learning_rate", "weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be 0 or more, and finite, not {getattr(self, name)}")
        if not 0 <= self.beta2 < 1 or not 0 <= self.warm_up <= 1:
            raise UsageError(f"beta2 must be in [0, 1) and warm_up in [0, 1], not {self.beta2} and {self.warm_up}")
        lowest = {"steps": 0, "epochs": 0, "views": 1, "batch_size": 1, "turn": 0, "evaluate_every": 0, "workers": 0}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if (self.steps > 0) == (self.epochs > 0):
            raise UsageError(f"give either steps or epochs, not {self.steps} steps and {self.epochs} epochs")

    def check(self, train: Dataset, validation: Dataset, processes: Processes) -> None:
        """Refuse, with a UsageError, what cannot be done by these processes or with these datasets."""
        if self.precision == "fp16" and processes.device.type == "cpu":
            raise UsageError("fp16 needs a GPU; on a CPU use bf16")
        if len(validation) > _MOST_VALIDATED:
            raise UsageError(
                f"the test part has {len(validation)} pictures; at most {_MOST_VALIDATED} are held in memory, 0.3 MB "
                "or more each: train on every picture (--split all), and use glia-eval afterwards"
            )
        groups = list(train.groups) * self.views
        smallest = sorted(map(len, groups))[: groups_in_batch(groups, self.batch_size)]
        if sum(smallest) < processes.count:
            raise UsageError(
                f"{processes.count} processes cannot share a batch of {sum(smallest)}; use fewer, or raise --batch-size"
            )
        if self.select == "best" and not len(validation):
            raise UsageError("without a test part there is no best evaluation; keep the last step (--select last)")


def fit(
    task: Task,
    train: Dataset,
    validation: Dataset,
    config: FitConfig,
    out: Path,
    console: Console,
    facts: dict[str, Any],
    *,
    processes: Processes | None = None,
    pictures: ArrayStore | None = None,
    priors: ArrayStore | None = None,
    tensorboard: bool = False,
) -> dict[str, float]:
    """Train a task and keep the result in `out`.

    Files: `<task.file_name>` (what `config.select` says), `last<suffix>` beside a best one, `resume.pt`,
    `metrics.csv`. A run that finds `resume.pt` continues from it; on the CPU the result is the same as that of an
    uninterrupted run.

    Args:
        task: trained in place.
        train: what to learn from.
        validation: what to look at between; may be empty where the last step is kept.
        config: how.
        out: the run's folder.
        console: for progress and rows.
        facts: JSON-ready, kept in the checkpoints.
        processes: the run's; by default this one alone.
        pictures: keeps decoded pictures, see `TrainingViews`.
        priors: holds what the frozen part of the model makes of the pictures, see `TrainingViews`.
        tensorboard: write the rows for TensorBoard, too.

    Returns:
        The evaluation of the result: step, and with a validation set srcc, plcc.

    Raises:
        GliaError: a loss that is not finite, with the step and the pictures; nothing is saved from it.
        UsageError: options that this machine or this dataset cannot do.
    """
    processes = processes or Processes.join()
    device = processes.device
    config.check(train, validation, processes)
    module = task.module.to(device)
    groups = list(train.groups) * config.views
    per_epoch = len(groups) // groups_in_batch(groups, config.batch_size)
    steps = config.steps or config.epochs * per_epoch
    evaluate_every = config.evaluate_every or per_epoch
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        _parameter_groups(trainable, config.weight_decay), lr=config.learning_rate, betas=(0.9, config.beta2)
    )
    state = State.begin(module, optimizer, torch.amp.GradScaler(device.type, enabled=config.precision == "fp16"))
    state.restore(out / RESUME_FILE)
    validated = ValidationViews.prepare(validation, task.view_spec.quick, processes, config.workers, console)
    if config.compile:
        task.compile()
    start = state.step
    part = (processes.rank, processes.count)
    loader = training_loader(
        TrainingViews(train, list(DISTORTIONS), config.seed, task.view_spec, task.views_in_turn, pictures, priors),
        GroupSampler(groups, config.batch_size, steps, config.seed, start, part),
        config.workers,
        pin_memory=device.type == "cuda",
    )
    autocast = torch.autocast(device.type, PRECISIONS[config.precision], enabled=config.precision != "fp32")
    log = Log(out, console, start, tensorboard) if processes.first else None
    losses: list[float] = []  # since the last evaluation
    window = min(_CALIBRATED_ON, sum(map(len, groups)))
    samples, resumed = 0, time.monotonic()
    began = resumed - state.seconds
    with progress(console, "step", steps, start) as advance:
        for step, batch in enumerate(loader, start):
            # Dropout: the same after a resume, another one in each process.
            torch.manual_seed((config.seed * 1_000_003 + step) * processes.count + processes.rank)
            module.train()
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(step, steps, config)
            with autocast:
                moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
                outcome = task.loss(moved, step, processes.gather)
            losses.append(outcome.loss.item())
            if not math.isfinite(losses[-1]):
                raise GliaError(_not_finite(outcome, train, step))
            optimizer.zero_grad(set_to_none=True)
            state.scaler.scale(outcome.loss).backward()
            processes.sum_gradients(trainable)
            state.scaler.unscale_(optimizer)
            if config.clip:
                torch.nn.utils.clip_grad_norm_(trainable, config.clip)
            state.scaler.step(optimizer)
            state.scaler.update()
            state.see(outcome.predicted, outcome.target, window)
            samples += len(outcome.target)
            rate = samples / (time.monotonic() - resumed)  # of the steps alone
            srcc = f"  SRCC {state.last['srcc']:.3f}" if "srcc" in state.last else ""
            advance(f"loss {np.mean(losses[-50:]):.3f}{srcc}  {rate:.1f} samples/s")
            done = step + 1
            if done % evaluate_every == 0 or done == steps:
                task.calibrate(state.predicted, state.target)
                with autocast:
                    figures = validated.evaluate(task, processes)
                row = {
                    "step": done,
                    "epoch": done / per_epoch,
                    "loss": float(np.mean(losses)),
                    **figures,
                    "samples_per_second": rate,
                    "seconds": time.monotonic() - began,
                }
                losses.clear()
                state.step, state.seconds = done, row["seconds"]
                state.last = {"step": float(done), **figures}
                better = bool(figures) and figures["srcc"] > state.best.get("srcc", -math.inf)
                if better:
                    state.best = state.last
                if log is not None:
                    log.append(row, state.seconds / done * (steps - done))
                    training = {**facts, "fit": asdict(config), "step": done, **figures}
                    _save(task, out, training, keep_best=config.select == "best", better=better)
                    state.store(out / RESUME_FILE)
                samples, resumed = 0, time.monotonic()
    if log is not None:
        log.close()
    processes.wait()  # rank 0 may still be writing what the others' caller wants to read
    return state.best if config.select == "best" else state.last


def _save(task: Task, out: Path, training: dict[str, Any], *, keep_best: bool, better: bool) -> None:
    """Write the result so far, and beside the best one the last."""
    if not keep_best:
        task.save(out / task.file_name, {**training, "selected": "last step"})
        return
    if better:
        task.save(out / task.file_name, {**training, "selected": "best SRCC of those evaluated"})
    task.save(out / f"last{Path(task.file_name).suffix}", {**training, "selected": "last step"})


def _parameter_groups(trainable: list[torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices only: biases, norms and scales have no reason to shrink."""
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _schedule(step: int, steps: int, config: FitConfig) -> float:
    rising = max(1, round(config.warm_up * steps))
    return min(1.0, (step + 1) / rising) * 0.5 * (1 + math.cos(math.pi * step / (config.turn or steps)))


def _not_finite(outcome: Outcome, train: Dataset, step: int) -> str:
    """What to say of a loss that is not finite: above all, of which pictures."""
    bad = ~torch.isfinite(outcome.predicted) | ~torch.isfinite(outcome.target)
    chosen: Tensor = outcome.sample[bad] if bad.any() else outcome.sample
    names = [train[int(index)].path or f"sample {int(index)}" for index in chosen[:_NAMED]]
    more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    which = "with predictions that are not finite for" if bad.any() else "over"
    return (
        f"loss is {outcome.loss.item()} at step {step}, {which} {', '.join(map(str, names))}{more}; "
        "look at them; start anew with a lower --learning-rate or without these pictures"
    )
