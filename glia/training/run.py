"""One training run from its options: what `glia-train` does."""

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console

from glia.data import Dataset, ListedDataset, Split, Subset, make_split, official_split, open_dataset
from glia.data.store import ArrayStore
from glia.data.synthetic import DISTORTIONS, RECIPE, DrawnFor
from glia.data.views import scoring_views
from glia.models import create_model, load_backbone_weights
from glia.models.backbone import create_backbone, input_statistics
from glia.models.glianet import GLIANetConfig
from glia.models.registry import model_config
from glia.options import with_direction
from glia.training.backbone import BackbonePretraining, whiten_patch_embedding
from glia.training.caches import compute_priors, picture_store, prior_store
from glia.training.check import check_pictures
from glia.training.distributed import Processes
from glia.training.fit import PRECISIONS, FitConfig, fit
from glia.training.labels import SERIES_READ, labelled_samples
from glia.training.record import RUN_FILE, digest, labels_digest, picture_names, read_record, split_below, write_record
from glia.training.state import RESUME_FILE
from glia.training.tasks import BackboneTask, QualityTask, Task
from glia_runtime.errors import OutputError, UsageError
from glia_runtime.view_spec import FragmentViews

SYNTHETIC = "synthetic"
_DRAWN = f"drawn, recipe {RECIPE}"  # recorded in place of names and scores
OFFICIAL, ALL = "official", "all"
_TEST_SHARE = 0.2


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run.

    Attributes:
        dataset: a name of `glia.data.list_datasets()`.
        root: where its files lie; "" for synthetic.
        split: number of the 80/20 split by reference, "official" for the one the dataset's authors publish (its
            validation part is left out), or "all" to train on every picture and test on none. Not for synthetic.
        train_share: share of the references to train on, at most 0.8: the test part stays the same (Table 3).
        lower_is_better: the scores of a csv dataset are DMOS.
        dataset_options: of the dataset's reader. Not for synthetic.
        pictures: pictures drawn for training (synthetic).
        validation_pictures: pictures drawn for validation (synthetic), from another seed.
        architecture: a name of `glia.models.list_models()`.
        model: fields of the architecture's config that differ from its defaults.
        backbone_weights: local file, or "" for timm's hub (random weights when the backbone itself is trained).
        pretrain_backbone: train the backbone itself instead of a model on top of one.
        cache_tokens: compute what the frozen half makes of each picture once, in float16, see `compute_priors`.
        fit: the loop's settings.
    """

    dataset: str
    architecture: str
    model: dict[str, Any]
    root: str = ""
    split: str = "0"
    train_share: float = 1 - _TEST_SHARE
    lower_is_better: bool = False
    dataset_options: dict[str, Any] = field(default_factory=dict)
    pictures: int = 4000
    validation_pictures: int = 26
    backbone_weights: str = ""
    pretrain_backbone: bool = False
    cache_tokens: bool = False
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=1000))

    def __post_init__(self) -> None:
        """Refuse what would have no effect, in one line each."""
        drawn = ("pictures", "validation_pictures")
        filed = ("root", "split", "train_share", "lower_is_better", "dataset_options")
        if useless := self._changed(*(filed if self.dataset == SYNTHETIC else drawn)):
            kind = "datasets of files" if self.dataset == SYNTHETIC else "drawn pictures"
            raise UsageError(f"{useless}: for {kind}, not for {self.dataset}; leave out")
        if not self.pretrain_backbone:
            return
        if self.architecture != "glianet":
            raise UsageError(f"a backbone is trained alone, not as {self.architecture}'s; name it by --backbone")
        plain = GLIANetConfig(**{**self.model, "backbone": GLIANetConfig.backbone}).to_dict()
        above = [name for name, value in plain.items() if value != getattr(GLIANetConfig, name)]
        above += ["loss"] if self.fit.loss != FitConfig.loss else []
        if above:
            raise UsageError(f"{', '.join(above)}: of a model on top of a backbone, which is trained alone; leave out")

    def _changed(self, *names: str) -> str:
        """Those fields that differ from their defaults, in words."""
        return ", ".join(name for name in names if getattr(self, name) != getattr(RunConfig, name, {}))


@dataclass(frozen=True)
class _Parts:
    """The datasets of a run, and what both are parts of; None where pictures are drawn."""

    train: Dataset
    validation: Dataset
    whole: Dataset | None

    def names(self) -> dict[str, list[str]]:
        """The pictures' names as they are recorded; looks at every sample, of which there may be millions."""
        parts = {"train": self.train, "test": self.validation}
        return {} if self.whole is None else {name: picture_names(part) for name, part in parts.items()}

    def labels(self, root: str) -> str:
        """What their scores are recorded as; looks at every sample, too."""
        return _DRAWN if self.whole is None else labels_digest((self.train, self.validation), root)


def train(
    config: RunConfig,
    out: Path,
    cache: Path | None,
    resume: bool,
    console: Console,
    *,
    check: bool = False,
    tensorboard: bool = False,
    random_backbone: bool = True,
    tokens: Path | None = None,
) -> Path:
    """Run, or continue, a training and return the path of what it made.

    Under `torchrun` every process calls this with the same arguments; the first one writes.

    Args:
        config: what to do.
        out: the run's folder: `run.json`, `metrics.csv`, the result, the state to resume from.
        cache: where drawn or decoded pictures are kept, and tokens; None draws and decodes them every time, and
            keeps tokens in `out`.
        resume: continue the run in `out`; its config and its pictures must be the same.
        console: for progress and remarks.
        check: decode every picture first, and do not start where one cannot be used.
        tensorboard: write the rows of `metrics.csv` for TensorBoard, too.
        random_backbone: whether a backbone that timm's hub has no weights for may stay random.
        tokens: where tokens are kept without a `cache`; None for `out`.

    Raises:
        UsageError: options that do not fit together, or `resume` without a run of the same config.
        DatasetError: files that are missing, or pictures that `check` found unusable.
        OutputError: `out` holds a run already, or cannot be written.
        CheckpointError: backbone weights or state that cannot be read, or weights that are not had and needed.
    """
    if check and config.dataset == SYNTHETIC:
        raise UsageError("check: pictures that are drawn need none; leave out --check")
    processes = Processes.join()
    if config.pretrain_backbone and (processes.count > 1 or config.cache_tokens):
        raise UsageError("a backbone is trained by one process, and without --cache-tokens")
    if not processes.first:
        console = Console(quiet=True)
    if processes.first:
        _claim(out, config, resume)
    parts = _open(config, cache)
    config.fit.check(parts.train, parts.validation, processes)
    torch.manual_seed(config.fit.seed)  # of the initial weights
    # The other processes get the first one's weights.
    task, remark = _task(config, parts.train, console, random_backbone or not processes.first)
    processes.share(task.module.state_dict().values())
    weights = _backbone_digest(task)
    priors = _prior_store(config, task, parts.train, cache or tokens or out / "tokens")
    # What looks at every sample comes after all that may be refused at once, and before the folder is taken, so that
    # a mistake leaves it free.
    kept = picture_store(parts.train, cache, console) if cache and isinstance(parts.train, Subset) else None
    if check and processes.first and parts.whole is not None:
        check_pictures(parts.whole, config.fit.workers, console)
    labels = parts.labels(config.root) if resume or processes.first else None
    if resume:
        _check_resumed(out, config, parts, labels, weights, remark)
    elif processes.first:
        write_record(out, _deciding(config), parts.names(), processes, labels=labels, backbone=weights)
    console.print(remark, highlight=False, soft_wrap=True)
    trainable = sum(p.numel() for p in task.module.parameters() if p.requires_grad)
    console.print(
        f"{trainable / 1e6:.2f} M trainable parameters, {len(parts.train)} training samples",
        highlight=False,
    )
    if priors is not None and isinstance(task, QualityTask):
        if processes.first:
            compute_priors(task.module, parts.train, priors, config.fit, processes.device, console)
        processes.wait()
    facts = {
        "dataset": config.dataset,
        "split": config.split,
        "train_share": config.train_share,
        "labels": labels,
        "backbone_weights": remark,
        "glia": version("glia"),
    }
    found = fit(
        task,
        parts.train,
        parts.validation,
        config.fit,
        out,
        console,
        facts,
        processes=processes,
        pictures=kept,
        priors=priors,
        tensorboard=tensorboard,
    )
    result = out / task.file_name
    console.print(f"{_verdict(config, found)}: {result}", highlight=False, soft_wrap=True)
    return result


def split_dataset(dataset: Dataset, split: str, train_share: float = 1 - _TEST_SHARE) -> Split:
    """The training and the test part of a dataset of files.

    Args:
        dataset: all of it.
        split: as in `RunConfig`.
        train_share: as in `RunConfig`; smaller shares are parts of larger ones.

    Raises:
        UsageError: no such split.
    """
    if not split.isdecimal() and train_share != 1 - _TEST_SHARE:
        raise UsageError(f"train_share is a share of the pictures of a numbered split, not of {split!r}")
    if split == ALL:
        return Split(tuple(range(len(dataset))), ())
    if split == OFFICIAL:
        return official_split(cast(ListedDataset, dataset))
    if not split.isdecimal():
        raise UsageError(f"split must be a number, official or all, not {split!r}")
    if not 0 < train_share <= 1 - _TEST_SHARE:
        raise UsageError(f"train_share must be above 0 and at most {1 - _TEST_SHARE}, not {train_share}")
    whole = make_split(dataset, int(split))
    if train_share == 1 - _TEST_SHARE:
        return whole
    return Split(make_split(dataset, int(split), train_share=train_share).train, whole.test)


def _open(config: RunConfig, cache: Path | None) -> _Parts:
    if config.dataset == SYNTHETIC:
        counts = (config.pictures, DrawnFor.TRAINING), (config.validation_pictures, DrawnFor.VALIDATION)
        drawn, validation = (open_dataset(SYNTHETIC, cache, pictures=count, seed=seed) for count, seed in counts)
        return _Parts(drawn, validation, None)
    options = with_direction(config.dataset_options, config.lower_is_better)
    dataset = open_dataset(config.dataset, config.root or None, **options)
    split = split_dataset(dataset, config.split, config.train_share)
    return _Parts(Subset(dataset, split.train), Subset(dataset, split.test), dataset)


def _verdict(config: RunConfig, found: dict[str, float]) -> str:
    if "srcc" not in found:
        return f"trained on every picture, tested on none, step {found['step']:.0f}"
    if config.fit.select == "last":
        return f"last step {found['step']:.0f}, SRCC {found['srcc']:.4f} PLCC {found['plcc']:.4f} on the test part"
    chosen = "" if config.dataset == SYNTHETIC else " (chosen on the test part, so too good)"
    return f"best SRCC {found['srcc']:.4f} at step {found['step']:.0f}{chosen}"


def _claim(out: Path, config: RunConfig, resume: bool) -> None:
    """Start a run's folder, or check that the run in it is the one to resume."""
    if resume:
        check_same(out, config)
        return
    if (out / RUN_FILE).exists():
        raise OutputError(f"{out}: holds a run already; continue it with --resume, or choose another --out")
    if (out / RESUME_FILE).exists():  # else the loop would go on from it
        raise OutputError(f"{out}: holds the state of a run whose {RUN_FILE} is gone; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}); choose another --out") from error


def check_same(out: Path, config: RunConfig) -> None:
    """Check that the run in `out` was started with `config`; the dataset may have moved since.

    Raises:
        UsageError: it was not, or there is none.
    """
    facts = _deciding(config)
    try:
        record = read_record(out)
        before, now = ({**run, **run["fit"], **_whole(run)} for run in (record["config"], facts))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{out}: no run to resume here; start one without --resume") from error
    if record.get("labels"):  # names and scores, as seen from the root, say more than where it lies
        before["root"] = now["root"]
    before.setdefault("dataset_options", {})  # earlier records have none
    keys = [key for key in {**now, **before} if key not in ("fit", "model")]
    different = [key for key in keys if before.get(key) != now.get(key)]
    if different:
        raise UsageError(f"{out}: was started with another {', '.join(different)}; resume with the same options")
    if config.dataset == SYNTHETIC and record.get("labels") not in (None, _DRAWN):
        raise UsageError(f"{out}: was started on pictures that another version of glia drew; choose another --out")


def check_moved(out: Path, config: RunConfig) -> None:
    """Check that a dataset which has moved since the run in `out` has the names and scores that it had then.

    Raises:
        UsageError: it has others.
        DatasetError: it cannot be read.
    """
    record = read_record(out)
    if record["config"]["root"] != config.root:
        _check_labels(out, record, _open(config, None).labels(config.root))


def _check_resumed(
    out: Path, config: RunConfig, parts: _Parts, labels: str | None, weights: str | None, remark: str
) -> None:
    """Refuse what no option shows: other pictures or scores, or other weights, under the same name.

    What an earlier version did not record is not compared.
    """
    record = read_record(out)
    if split_below(record["config"]["root"], record.get("split", {})) != split_below(config.root, parts.names()):
        raise UsageError(f"{out}: the dataset's pictures are not those it was started with; restore them")
    _check_labels(out, record, labels)
    before = record.get("backbone")
    if before is not None and before != weights:
        raise UsageError(f"{out}: was started from other backbone weights; restore those (now: {remark})")


def _check_labels(out: Path, record: dict[str, Any], labels: str | None) -> None:
    if record.get("labels") not in (None, labels):
        raise UsageError(f"{out}: the dataset's scores are not those it was started with; restore them")


def _backbone_digest(task: Task) -> str | None:
    if not isinstance(task, QualityTask):
        return None
    parts = task.module.backbones.items()
    return digest({f"{name} {key}": value for name, part in parts for key, value in part.state_dict().items()})


def _whole(run: dict[str, Any]) -> Any:
    """The fields of a recorded run's model, those with defaults too, whether they were recorded or not."""
    return json.loads(json.dumps(model_config(run["architecture"], **run["model"]).to_dict()))


def _deciding(config: RunConfig) -> dict[str, Any]:
    """The config as JSON-ready values, less what does not change the result: how many processes prepare batches."""
    facts: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    facts["fit"].pop("workers")
    return facts


def _prior_store(config: RunConfig, task: Task, dataset: Dataset, folder: Path) -> ArrayStore | None:
    """Where the tokens of the training pictures lie, if they are to be cached."""
    if not config.cache_tokens or not isinstance(task, QualityTask):
        return None
    if dataset[0].path is None:
        raise UsageError(f"tokens are cached for pictures in files; those of {dataset.name} are not")
    return prior_store(task.module, folder, PRECISIONS[config.fit.precision])


def _task(config: RunConfig, dataset: Dataset, console: Console, random_backbone: bool) -> tuple[Task, str]:
    samples = labelled_samples(dataset, console)
    scores = np.array([sample.score for sample in samples])
    mean, std = float(scores.mean()), max(float(scores.std()), 1e-6)
    source = Path(config.backbone_weights) if config.backbone_weights else None
    if not config.pretrain_backbone:
        model = create_model(config.architecture, **config.model)
        remarks = [
            load_backbone_weights(part, name, source, random_will_do=random_backbone)
            for name, part in model.backbones.items()
        ]
        remark = "\n".join(remarks)
        return QualityTask(model, dataset.scale, mean, std, config.fit.loss, config.cache_tokens), remark
    name = GLIANetConfig(**config.model).backbone
    spec = FragmentViews()
    backbone = create_backbone(name, spec.size)
    statistics = input_statistics(backbone)
    if source:
        remark = load_backbone_weights(backbone, name, source)
    else:
        remark = f"backbone {name}: from random weights"
        measured = np.linspace(0, len(samples) - 1, min(len(samples), 6 * SERIES_READ)).astype(int)
        views = torch.stack([scoring_views(samples[place], spec)[1] for place in measured])
        whiten_patch_embedding(backbone, *statistics, views)
    return BackboneTask(BackbonePretraining(backbone, *statistics, len(DISTORTIONS)), mean, std), remark
