"""Running the paper's tables on the datasets that are there, so that a stopped run goes on, and printing them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from glia.data import Subset, open_dataset
from glia.data.synthetic import DrawnFor
from glia.evaluation.datasets import compare, predict
from glia.evaluation.metrics import Agreement
from glia.evaluation.paper import PAPER
from glia.evaluation.progress import say_failures, steps
from glia.evaluation.scoring import open_scorer
from glia.evaluation.table_report import as_rich, write_table
from glia.evaluation.tables import Experiment, experiments, quick, synthetic_experiments
from glia.models import create_model
from glia.training.caches import has_tokens
from glia.training.record import RUN_FILE
from glia.training.run import SYNTHETIC, RunConfig, check_moved, check_same, split_dataset, train
from glia_runtime.atomic import atomic_write
from glia_runtime.errors import DatasetError, UsageError

# What people call a dataset's folder, in lower case and without punctuation; the first is the dataset's own name.
FOLDERS = {
    "live": ("live", "databaserelease2"),
    "csiq": ("csiq",),
    "tid2013": ("tid2013",),
    "kadid": ("kadid", "kadid10k"),
    "koniq": ("koniq", "koniq10k", "koniq10k1024x768"),
    "livec": ("livec", "clive", "challengedbrelease", "livechallenge", "liveinthewild", "livewild"),
    "spaq": ("spaq",),
    "flive": ("flive", "flivedatabase", "paq2piq"),
}


@dataclass(frozen=True)
class TableRuns:
    """How tables are run.

    Attributes:
        out: the folder of the runs, one for all tables, and of the results.
        data: a folder with a folder for each dataset, or None.
        cache: see `glia.training.run.train`; None keeps drawn pictures in `out`, and decoded ones not at all.
        splits: how many; None for 10, on synthetic 3 seeds, with `quick` 1.
        quick: see `glia.evaluation.tables.quick`.
        backbone_weights: local file, or "" for timm's hub (on synthetic, for the bundled model's).
        precision: of the training steps.
        workers: processes that prepare batches.
        cache_tokens: see `RunConfig`; of the rows whose model allows it, others do without.
        compile: have torch.compile translate the training steps.
    """

    out: Path
    data: Path | None = None
    cache: Path | None = None
    splits: int | None = None
    quick: bool = False
    backbone_weights: str = ""
    precision: str = "fp32"
    workers: int = 0
    cache_tokens: bool = False
    compile: bool = False

    def splits_of(self, experiment: Experiment) -> int:
        """How many splits, or seeds, of an experiment."""
        return self.splits or (1 if self.quick else 3 if experiment.tested == SYNTHETIC else 10)

    def prepare(self, experiment: Experiment) -> Experiment:
        """An experiment with these options."""
        config = experiment.config
        fit = replace(config.fit, precision=self.precision, workers=self.workers, compile=self.compile)
        tokens = self.cache_tokens and config.dataset != SYNTHETIC and has_tokens(config.architecture, config.model)
        weights = self.backbone_weights or config.backbone_weights
        prepared = replace(experiment, config=replace(config, backbone_weights=weights, cache_tokens=tokens, fit=fit))
        return quick(prepared) if self.quick else prepared


def print_table(
    number: int,
    datasets: Sequence[str],
    rows: Sequence[str],
    runs: TableRuns,
    out: Console,
    progress: Console,
) -> None:
    """Run what a table needs, as far as its datasets are there, and print it.

    Args:
        number: 1 to 6.
        datasets: only columns with one of these; "synthetic" adds a column. Empty for all of the paper's.
        rows: only these of the paper's; empty for all.
        runs: how.
        out: for the table.
        progress: for everything else.

    Raises:
        UsageError: no such dataset or row in this table, or runs that were started with other options.
        GliaError: whatever training and the datasets' readers raise.
    """
    paper = PAPER[number]
    roots = find_datasets(runs.data) if runs.data else {}
    wanted = _choose(number, datasets, rows)
    for name in sorted({name for experiment in wanted for name in _needed(experiment)} - roots.keys()):
        where = f"under {runs.data}, as {' or '.join(FOLDERS[name])}" if runs.data else "without --data"
        progress.print(f"{name}: not found {where}; its cells stay empty", highlight=False, soft_wrap=True)
    wanted = [runs.prepare(experiment) for experiment in wanted if _needed(experiment) <= roots.keys()]
    for name in sorted({name for experiment in wanted for name in _needed(experiment)}):
        open_dataset(name, roots[name])  # what is wrong with one is said before hours are spent on another
    for architecture, model in {e.config.architecture: e.config.model for e in wanted}.items():
        with torch.device("meta"):  # likewise, a package that one needs and that is not installed
            create_model(architecture, **model)
    found = _finished(number, wanted, roots, runs, progress)
    drawn = SYNTHETIC in datasets or any(column == SYNTHETIC for _, column in found)
    columns = [*paper.columns, *([SYNTHETIC] if drawn else [])]
    title = f"Table {number}: {paper.title}" + (" (quick: the figures mean nothing)" if runs.quick else "")
    path = runs.out / f"table{number}{'-quick' if runs.quick else ''}"
    for split in range(max(map(runs.splits_of, wanted), default=0)):
        for experiment in wanted:
            cell = found.setdefault((experiment.row, experiment.column), {})
            if split < runs.splits_of(experiment) and split not in cell:
                heading = f"{experiment.row}, {experiment.column}, split {split + 1} of {runs.splits_of(experiment)}"
                progress.print(heading, highlight=False, soft_wrap=True)
                cell[split] = run_split(experiment, split, roots, runs.out, runs.cache, progress)
                write_table(path, title, paper, columns, _in_order(found))
    out.print(title, highlight=False, soft_wrap=True)
    out.print(as_rich(paper, columns, _in_order(found)))
    if any(found.values()):
        write_table(path, title, paper, columns, _in_order(found))
        progress.print(f"kept as {path}.md and {path}.csv", highlight=False, soft_wrap=True)


def _choose(number: int, datasets: Sequence[str], rows: Sequence[str]) -> list[Experiment]:
    found = experiments(number)
    known = sorted({name for experiment in found for name in _needed(experiment)})
    for name in datasets:
        if name not in (*known, SYNTHETIC):
            raise UsageError(f"table {number} has no column of {name!r}; it has {', '.join(known)}, and synthetic")
    if SYNTHETIC in datasets:
        found += synthetic_experiments(number)
    labels = list(dict.fromkeys(experiment.row for experiment in found))
    for row in rows:
        if row not in labels:
            raise UsageError(f"table {number} has no row {row!r} to run; it has {', '.join(labels)}")
    return [
        experiment
        for experiment in found
        if (not rows or experiment.row in rows)
        and (not datasets or {experiment.tested, experiment.config.dataset} & set(datasets))
    ]


def _finished(
    number: int, wanted: Sequence[Experiment], roots: Mapping[str, Path], runs: TableRuns, progress: Console
) -> dict[tuple[str, str], dict[int, Agreement]]:
    """Every split that is finished of a table's cells, also of those that this call does not run.

    Raises:
        UsageError: one of a cell to run was started with other options, or on other scores.
    """
    known = experiments(number) + ([] if number == 2 else synthetic_experiments(number))
    found: dict[tuple[str, str], dict[int, Agreement]] = {}
    for experiment in map(runs.prepare, known):
        folders = (runs.out / experiment.name).glob("split-*")
        numbers = [int(name) for folder in folders if (name := folder.name.removeprefix("split-")).isdecimal()]
        to_run = experiment in wanted
        try:
            results = {split: _kept(experiment, split, roots, runs.out, moved=to_run) for split in numbers}
        except UsageError as error:
            if to_run:
                raise
            place = f"{experiment.row}, {experiment.column}"
            progress.print(f"{place}: left out of the table; {error}", highlight=False, soft_wrap=True)
            continue
        if cell := {split: result for split, result in results.items() if result is not None}:
            found[experiment.row, experiment.column] = cell
    return found


def _kept(
    experiment: Experiment, number: int, roots: Mapping[str, Path], out: Path, *, moved: bool = True
) -> Agreement | None:
    """What came of a split, or None where it is not finished.

    Args:
        experiment: what.
        number: which split.
        roots: where the datasets lie.
        out: the folder of all runs.
        moved: whether to compare the scores of a dataset that has moved; it must be there.

    Raises:
        UsageError: the split was run with other options, or on other scores.
    """
    result = _result(experiment, number, out)
    if not result.exists():
        return None
    config = _config(experiment, number, roots)
    check_same(result.parent, config)
    if moved:
        check_moved(result.parent, config)
    return Agreement(**json.loads(result.read_text()))


def _result(experiment: Experiment, number: int, out: Path) -> Path:
    return out / experiment.name / f"split-{number}" / f"tested-{experiment.tested}.json"


def _in_order(found: Mapping[tuple[str, str], Mapping[int, Agreement]]) -> dict[tuple[str, str], list[Agreement]]:
    return {cell: [splits[split] for split in sorted(splits)] for cell, splits in found.items()}


def _config(experiment: Experiment, number: int, roots: Mapping[str, Path]) -> RunConfig:
    return replace(experiment.split(number), root=str(roots.get(experiment.config.dataset, "")))


def _needed(experiment: Experiment) -> set[str]:
    """The datasets whose files an experiment needs."""
    return {experiment.config.dataset, experiment.tested} - {SYNTHETIC}


def find_datasets(root: Path) -> dict[str, Path]:
    """The folders of a folder that are called like one of the paper's datasets.

    Raises:
        UsageError: there is no such folder.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; give the one in which the datasets' folders lie")
    found: dict[str, Path] = {}
    for folder in sorted(root.iterdir()):
        plain = re.sub(r"[^a-z0-9]", "", folder.name.lower())
        for name, known in FOLDERS.items():
            if plain in known and folder.is_dir():
                found.setdefault(name, folder)
    return found


def run_split(
    experiment: Experiment, number: int, roots: Mapping[str, Path], out: Path, cache: Path | None, console: Console
) -> Agreement:
    """Train and test one split, or read what came of it; a run that was stopped goes on.

    Args:
        experiment: what.
        number: which split, from 0.
        roots: where the datasets lie.
        out: the folder of all runs.
        cache: see `TableRuns`.
        console: for what training says.

    Raises:
        UsageError: the folder holds a run with other options, or on other scores.
        DatasetError: pictures to test on that cannot be scored.
        GliaError: whatever training and the dataset's reader raise.
    """
    if kept := _kept(experiment, number, roots, out):
        return kept
    config, result = _config(experiment, number, roots), _result(experiment, number, out)
    folder = result.parent
    if cache is None and config.dataset == SYNTHETIC:
        cache = out / "drawn"
    resume = (folder / RUN_FILE).exists()
    made = train(
        config, folder, cache, resume, console, random_backbone=experiment.random_backbone, tokens=out / "tokens"
    )
    scorer = open_scorer(str(made))
    if experiment.tested == SYNTHETIC:
        tested = open_dataset(SYNTHETIC, cache, pictures=experiment.pictures, seed=DrawnFor.TEST)
    else:
        tested = open_dataset(experiment.tested, roots[experiment.tested])
        if experiment.tested == config.dataset:
            tested = Subset(tested, split_dataset(tested, config.split, config.train_share).test)
    predictions = predict(scorer, tested, steps(len(tested), "testing", console))
    failures = [f"not tested: {row.error}" for row in predictions if row.error]
    if failures:  # figures over the rest would be kept as the split's for good
        say_failures(failures, console)
        raise DatasetError(
            f"{len(failures)} of {len(tested)} pictures of {tested.name} cannot be tested; restore them and start the "
            "same command again: what is trained is kept"
        )
    found = compare(predictions, scorer.manifest.score_scale, tested.scale)
    with atomic_write(result) as temporary:
        temporary.write_text(json.dumps(asdict(found), indent=2) + "\n")
    return found
