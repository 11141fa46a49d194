"""What `glia-eval` prints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from glia.data import Dataset
from glia.data.synthetic import COMMON_DISTORTIONS, KADID_DISTORTIONS
from glia.evaluation.datasets import Prediction, compare, predict
from glia.evaluation.metrics import rmse
from glia.evaluation.photographs import PhotographReport, rank_photographs
from glia.evaluation.progress import say_failures, steps
from glia.evaluation.scoring import title
from glia_runtime.listing import some_pictures
from glia_runtime.manifest import ScoreScale
from glia_runtime.scorer import Scorer


def evaluate_dataset(scorer: Scorer, dataset: Dataset, out: Console, progress: Console) -> list[Prediction]:
    """Print how a model's scores agree with a dataset's, and return them; a line for each picture that has none.

    Raises:
        UsageError: no picture could be scored.
    """
    predictions = predict(scorer, dataset, steps(len(dataset), "scoring", progress))
    say_failures([row.error for row in predictions if row.error], progress)
    ours, theirs = scorer.manifest.score_scale, dataset.scale
    found = compare(predictions, ours, theirs)
    out.print(f"{title(scorer)} on {found.pictures} samples of {dataset.name}", highlight=False, soft_wrap=True)
    if ours.higher_is_better != theirs.higher_is_better:
        better = "higher" if theirs.higher_is_better else "lower"
        out.print(f"{better} is better there, unlike the model's scores: these count with their sign turned")
    figures = {
        "SRCC": found.srcc,
        "PLCC": found.plcc,
        "KRCC": found.krcc,
        "RMSE": _unfitted_rmse(predictions, ours, theirs),
        "PLCC fitted": found.plcc_fitted,
        "RMSE fitted": found.rmse_fitted,
    }
    table = Table()
    for heading in figures:
        table.add_column(heading, justify="right")
    table.add_row(*("-" if figure is None else f"{figure:.4f}" for figure in figures.values()))
    out.print(table)
    return predictions


def _unfitted_rmse(predictions: Sequence[Prediction], ours: ScoreScale, theirs: ScoreScale) -> float | None:
    """None where the two scales are not one: the difference of such scores has no meaning."""
    if (ours.minimum, ours.maximum, ours.higher_is_better) != (theirs.minimum, theirs.maximum, theirs.higher_is_better):
        return None
    scores, targets = np.array([(row.score, row.target) for row in predictions if row.score is not None]).T
    return rmse(scores, targets)


def evaluate_photographs(
    scorer: Scorer, folder: Path, count: int, processes: int, out: Console, progress: Console
) -> PhotographReport:
    """Print, and return, how a model ranks the damaged photographs of a folder."""
    paths = some_pictures(folder, count, lambda line: progress.print(line, highlight=False, soft_wrap=True))
    report = rank_photographs(
        scorer.score,
        paths,
        higher_is_better=scorer.manifest.score_scale.higher_is_better,
        processes=processes,
        advance=steps(len(paths), "distorting and scoring", progress),
    )
    say_failures(report.failures, progress)
    out.print(f"{title(scorer)} on {report.photographs} photographs, damaged", highlight=False, soft_wrap=True)
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
