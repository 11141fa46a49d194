"""One training run from its options: what `glia-train` does."""

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from glia.data import Dataset, open_dataset
from glia.data.synthetic import DISTORTIONS
from glia.data.views import scoring_views
from glia.models import create_model, load_backbone_weights
from glia.models.backbone import create_backbone, input_statistics
from glia.training.backbone import BackbonePretraining, whiten_patch_embedding
from glia.training.fit import FitConfig, fit, write_json
from glia.training.tasks import BackboneTask, QualityTask, Task
from glia_runtime.errors import OutputError, UsageError
from glia_runtime.view_spec import FragmentViews

RUN_FILE = "run.json"
# Series read to find the labels' mean and spread: 200 labels give both to a few percent, all that scaling needs.
_SERIES_READ = 40


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run.

    Attributes:
        dataset: a name of `glia.data.list_datasets()`.
        pictures: pictures drawn for training (synthetic).
        validation_pictures: pictures drawn for validation (synthetic), from another seed.
        architecture: a name of `glia.models.list_models()`.
        model: fields of the architecture's config that differ from its defaults.
        backbone_weights: local file, or "" for timm's hub (random weights when the backbone itself is trained).
        pretrain_backbone: train the backbone itself instead of a model on top of one.
        fit: the loop's settings.
    """

    dataset: str
    pictures: int
    validation_pictures: int
    architecture: str
    model: dict[str, Any]
    backbone_weights: str
    pretrain_backbone: bool
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000))


def train(config: RunConfig, out: Path, cache: Path | None, resume: bool, console: Console) -> Path:
    """Run, or continue, a training and return the path of what it made.

    Args:
        config: what to do.
        out: the run's folder: `run.json`, `metrics.csv`, best and last result, the state to resume from.
        cache: where rendered pictures are kept, or None.
        resume: continue the run in `out`; its config must be the same.
        console: for progress and remarks.

    Raises:
        UsageError: options that do not fit together, or `resume` without a run of the same config.
        OutputError: `out` holds a run already, or cannot be written.
        CheckpointError: backbone weights or state that cannot be read.
    """
    torch.manual_seed(config.fit.seed)
    _claim(out, config, resume)
    sets: dict[str, Dataset] = {
        "train": open_dataset(config.dataset, cache, pictures=config.pictures, seed=0),
        "validation": open_dataset(config.dataset, cache, pictures=config.validation_pictures, seed=1),
    }
    task, remark = _task(config, sets["train"], console)
    if not resume:
        write_json(out / RUN_FILE, _record(config))  # last, so that a mistake above leaves the folder free
    console.print(remark, highlight=False, soft_wrap=True)
    trainable = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    console.print(
        f"{trainable / 1e6:.2f} M trainable parameters, {len(sets['train'])} training samples",
        highlight=False,
    )
    facts = {"dataset": config.dataset, "backbone_weights": remark, "glia": version("glia")}
    best = fit(task, sets["train"], sets["validation"], config.fit, out, console, facts)
    result = out / task.file_name
    console.print(f"best SRCC {best['srcc']:.4f} at step {best['step']:.0f}: {result}", highlight=False, soft_wrap=True)
    return result


def _claim(out: Path, config: RunConfig, resume: bool) -> None:
    """Start a run's folder, or check that the run in it is the one to resume."""
    record = out / RUN_FILE
    if resume:
        facts = _deciding(config)
        try:
            stored = json.loads(record.read_text())["config"]
            before, now = ({**run, **run["fit"], **run["model"]} for run in (stored, facts))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{out}: no run to resume here; start one without --resume") from error
        different = [key for key in now if key not in ("fit", "model") and before.get(key) != now[key]]
        if different:
            raise UsageError(f"{out}: was started with another {', '.join(different)}; resume with the same options")
        return
    if record.exists():
        raise OutputError(f"{out}: holds a run already; continue it with --resume, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}); choose another --out") from error


def _deciding(config: RunConfig) -> dict[str, Any]:
    """The config as JSON-ready values, less what does not change the result: how many processes prepare batches."""
    facts: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    facts["fit"].pop("workers")
    return facts


def _record(config: RunConfig) -> dict[str, Any]:
    versions = {name: version(name) for name in ("glia", "torch", "timm", "numpy", "pillow", "piq", "scikit-image")}
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
    }
    return {"config": _deciding(config), "versions": versions, "machine": machine}


def _task(config: RunConfig, dataset: Dataset, console: Console) -> tuple[Task, str]:
    groups = dataset.groups
    spread = np.linspace(0, len(groups) - 1, min(len(groups), _SERIES_READ)).astype(int)
    columns = track(spread, "reading labels", console=console, transient=True, disable=not console.is_terminal)
    samples = [dataset[index] for place in columns for index in groups[place]]
    scores = np.array([sample.score for sample in samples])
    mean, std = float(scores.mean()), max(float(scores.std()), 1e-6)
    source = Path(config.backbone_weights) if config.backbone_weights else None
    if not config.pretrain_backbone:
        model = create_model(config.architecture, **config.model)
        remarks = [load_backbone_weights(part, name, source) for name, part in model.backbones.items()]
        return QualityTask(model, dataset.scale, mean, std), "\n".join(remarks)
    name = str(config.model["backbone"])
    backbone = create_backbone(name, FragmentViews().size)
    statistics = input_statistics(backbone)
    if source:
        remark = load_backbone_weights(backbone, name, source)
    else:
        remark = f"backbone {name}: from random weights"
        views = torch.stack([scoring_views(sample, FragmentViews())[1] for sample in samples])
        whiten_patch_embedding(backbone, *statistics, views)
    return BackboneTask(BackbonePretraining(backbone, *statistics, len(DISTORTIONS)), mean, std), remark
