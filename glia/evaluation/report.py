"""What `glia-eval` prints."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from glia.data import open_dataset
from glia.data.synthetic import COMMON_DISTORTIONS, KADID_DISTORTIONS
from glia.evaluation.metrics import krcc, plcc, rmse, srcc
from glia.evaluation.photographs import PhotographReport, rank_photographs
from glia.evaluation.scoring import OpenedModel
from glia_runtime.listing import some_pictures

# Not the seeds of training (0) and validation (1).
_EVALUATION_SEED = 2


def evaluate_dataset(
    model: OpenedModel, name: str, cache: Path | None, pictures: int, out: Console, progress: Console
) -> None:
    """Print SRCC, PLCC, KRCC and RMSE of a model on a dataset it was not trained on."""
    dataset = open_dataset(name, cache, pictures=pictures, seed=_EVALUATION_SEED)
    predicted, labels = [], []
    for index in track(range(len(dataset)), "scoring", console=progress, disable=not progress.is_terminal):
        sample = dataset[index]
        predicted.append(float(model.score([sample.image])[0]))
        labels.append(sample.score)
    scores, target = np.array(predicted), np.array(labels)
    out.print(f"{model.name} on {len(dataset)} samples of {name}", highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("SRCC", "PLCC", "KRCC", "RMSE"):
        table.add_column(heading, justify="right")
    table.add_row(*(f"{figure(scores, target):.4f}" for figure in (srcc, plcc, krcc, rmse)))
    out.print(table)


def evaluate_photographs(
    model: OpenedModel, folder: Path, count: int, processes: int, out: Console, progress: Console
) -> PhotographReport:
    """Print, and return, how a model ranks the damaged photographs of a folder."""
    paths = some_pictures(folder, count, lambda line: progress.print(line, highlight=False, soft_wrap=True))
    steps = iter(track(range(len(paths)), "distorting and scoring", console=progress, disable=not progress.is_terminal))
    report = rank_photographs(
        model.score,
        paths,
        higher_is_better=model.scale.higher_is_better,
        processes=processes,
        advance=lambda: next(steps, None),
    )
    for line in report.failures:
        progress.print(line, highlight=False)
    out.print(f"{model.name} on {report.photographs} photographs, damaged", highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("SRCC with level, within a photograph")
    table.add_column("mean", justify="right")
    for name in COMMON_DISTORTIONS:
        table.add_row(name, f"{report.within[name]:.3f}")
    table.add_section()
    for name in KADID_DISTORTIONS:
        if name not in COMMON_DISTORTIONS:
            table.add_row(name, f"{report.within[name]:.3f}")
    table.add_section()
    table.add_row(f"mean of KADID-10k's {len(KADID_DISTORTIONS)} types", f"{report.within_kadid:.3f}")
    out.print(table)
    out.print(
        f"with the full-reference label, over all: SRCC {report.srcc:.3f}  PLCC {report.plcc:.3f}  "
        f"KRCC {report.krcc:.3f}",
        highlight=False,
    )
    return report
