"""The training loop: one for every task, resumable at any moment, the same result either way."""

import csv
import io
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from glia.data.samples import Dataset
from glia.data.synthetic import DISTORTIONS
from glia.data.views import scoring_views, training_loader
from glia.evaluation.metrics import plcc, srcc
from glia.training.tasks import Task
from glia_runtime.atomic import atomic_write
from glia_runtime.errors import CheckpointError, GliaError, OutputError

RESUME_FILE = "resume.pt"
_WARM_UP = 0.05
# In one evaluation step, of 224x224 pixels.
_PICTURES = 64


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all.
        batch_size: samples a step, rounded down to whole groups.
        learning_rate: AdamW's peak, after a warm-up of 5 % of the steps; then a cosine to zero.
        weight_decay: AdamW's, on matrices only.
        seed: of order, augmentation and dropout.
        precision: "fp32", or "bf16" for autocast.
        evaluate_every: steps between evaluations; each also writes the state to resume from.
        workers: processes that prepare batches; 0 prepares them in this one.
    """

    steps: int
    batch_size: int = 20
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    seed: int = 0
    precision: str = "fp32"
    evaluate_every: int = 500
    workers: int = 0


def fit(
    task: Task,
    train: Dataset,
    validation: Dataset,
    config: FitConfig,
    out: Path,
    console: Console,
    facts: dict[str, Any],
) -> dict[str, float]:
    """Train a task and keep the best and the last of it in `out`.

    Files: `<task.file_name>` (best SRCC on `validation`), `last<suffix>`, `resume.pt`, `metrics.csv`. A run that
    finds `resume.pt` continues from it; on the CPU the result is the same as that of an uninterrupted run.

    Returns:
        The best evaluation: step, srcc, plcc.

    Raises:
        GliaError: a loss that is not finite, with the step; nothing is saved from it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = task.module.to(device)
    optimizer = torch.optim.AdamW(
        _parameter_groups(module, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98)
    )
    start, best = _restore(out / RESUME_FILE, module, optimizer)
    views, labels = _validation_views(task, validation, console)
    loader = training_loader(
        train,
        task.views,
        list(DISTORTIONS),
        batch_size=config.batch_size,
        steps=config.steps,
        seed=config.seed,
        start=start,
        workers=config.workers,
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    losses: list[float] = []
    began = time.monotonic()
    with _progress(console, config.steps, start) as advance:
        for step, batch in enumerate(loader, start):
            torch.manual_seed(config.seed * 1_000_003 + step)  # dropout: the same after a resume
            module.train()
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(step, config.steps)
            with autocast:
                loss = task.loss({name: tensor.to(device) for name, tensor in batch.items()}, step)
            if not torch.isfinite(loss):
                raise GliaError(
                    f"loss is {loss.item()} at step {step}; lower --learning-rate, or resume from {out / RESUME_FILE}"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            advance(f"loss {np.mean(losses[-50:]):.3f}  best SRCC {best['srcc']:.3f}")
            done = step + 1
            if done % config.evaluate_every == 0 or done == config.steps:
                with autocast:
                    figures = evaluate_views(task, views, labels, device)
                row = {
                    "step": done,
                    "loss": float(np.mean(losses)),
                    **figures,
                    "seconds": time.monotonic() - began,
                }
                _append(out / "metrics.csv", row)
                console.print("  ".join(f"{k} {v:.4g}" for k, v in row.items()))
                losses.clear()
                training = {**facts, "fit": asdict(config), "step": done, **figures}
                if figures["srcc"] > best["srcc"]:
                    best = {"step": float(done), **figures}
                    task.save(out / task.file_name, training)
                task.save(out / f"last{Path(task.file_name).suffix}", training)
                _store(out / RESUME_FILE, done, module, optimizer, best)
    return best


@torch.no_grad()
def evaluate_views(
    task: Task, views: Sequence[Tensor], scores: np.ndarray[Any, Any], device: torch.device
) -> dict[str, float]:
    """SRCC and PLCC of a task on prepared views, as `task.views` samples them, [N, ...] each, and labels [N]."""
    task.module.eval()
    batches = zip(*(view.split(max(1, _PICTURES // task.views.looks)) for view in views), strict=True)
    predicted = torch.cat([task.predict(*(v.to(device) for v in batch)).float().cpu() for batch in batches]).numpy()
    return {"srcc": srcc(predicted, scores), "plcc": plcc(predicted, scores)}


def _validation_views(
    task: Task, dataset: Dataset, console: Console
) -> tuple[tuple[Tensor, ...], np.ndarray[Any, Any]]:
    views, scores = [], []
    with _progress(console, len(dataset), 0) as advance:
        for index in range(len(dataset)):
            sample = dataset[index]
            views.append(scoring_views(sample, task.views))
            scores.append(sample.score)
            advance("preparing validation pictures")
    return tuple(map(torch.stack, zip(*views, strict=True))), np.array(scores)


def _parameter_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices only: biases, norms and scales have no reason to shrink."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _schedule(step: int, steps: int) -> float:
    warm_up = max(1, round(_WARM_UP * steps))
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _store(
    path: Path, step: int, module: torch.nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, float]
) -> None:
    state = {"step": step, "module": module.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())  # where a full disk is an OSError, which becomes one line


def _restore(path: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, float]]:
    if not path.exists():
        return 0, {"step": 0.0, "srcc": -math.inf, "plcc": 0.0}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # whatever a broken file or another model's state makes torch raise
        reason = str(error).replace("\n", " ")[:160]
        raise CheckpointError(f"{path}: cannot be resumed from ({reason}); start anew with another --out") from error
    return int(state["step"]), dict(state["best"])


def _append(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    try:
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); free some space, then --resume") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a run's facts in one piece."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + os.linesep)


@contextmanager
def _progress(console: Console, total: int, completed: int) -> Iterator[Any]:
    """A progress line on a terminal, nothing elsewhere; yields a function that advances it by one."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        line = progress.add_task("", total=total, completed=completed)
        yield lambda text: progress.update(line, advance=1, description=text)
