"""A model's scores of a dataset's pictures, beside the dataset's own."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glia.data import Dataset
from glia.evaluation.metrics import Agreement, agreement
from glia.evaluation.scoring import evaluation_batch
from glia_runtime.errors import ImageError, UsageError
from glia_runtime.manifest import ScoreScale
from glia_runtime.pipeline import Named
from glia_runtime.scorer import Scorer
from glia_runtime.writers import csv_line, shortest


@dataclass(frozen=True)
class Prediction:
    """One sample's outcome: either `score` or `error` (one line) is None.

    Attributes:
        path: the picture's file, or its place in a dataset without files.
        target: the dataset's score, in its own units.
        score: the model's, on the model's own scale.
        error: what is wrong with the picture.
    """

    path: str
    target: float
    score: float | None
    error: str | None


def predict(scorer: Scorer, dataset: Dataset, advance: Callable[[], object] = lambda: None) -> list[Prediction]:
    """Score every sample, in the dataset's order.

    Pictures are decoded by a pool of threads while others are scored. One that cannot be had, or has no finite score,
    is a prediction with an error, and stops nothing.

    Args:
        scorer: the model.
        dataset: what to score.
        advance: called after each sample.
    """
    predictions: dict[int, Prediction] = {}
    waiting: deque[tuple[int, float]] = deque()

    def sources() -> Iterator[str | Named]:
        for index in range(len(dataset)):
            sample = dataset[index]
            name = str(sample.path or f"{dataset.name}/{index}")
            try:
                source = name if sample.path else (name, sample.image)
            except ImageError as error:
                predictions[index] = Prediction(name, sample.score, None, str(error))
                advance()
                continue
            waiting.append((index, sample.score))
            yield source

    for result in scorer.stream(sources(), batch_size=evaluation_batch(scorer)):
        index, target = waiting.popleft()
        predictions[index] = Prediction(result.path, target, result.score, result.error)
        advance()
    return [predictions[index] for index in range(len(dataset))]


def compare(predictions: Sequence[Prediction], ours: ScoreScale, theirs: ScoreScale) -> Agreement:
    """How the predictions that have a score agree with the dataset's scores.

    Where one scale rises with quality and the other falls, the predictions change their sign.

    Args:
        predictions: of one dataset.
        ours: the model's scale.
        theirs: the dataset's.

    Raises:
        UsageError: no picture was scored.
    """
    scored = [(p.score, p.target) for p in predictions if p.score is not None]
    if not scored:
        first = predictions[0].error if predictions else "there is none"
        raise UsageError(f"none of {len(predictions)} pictures could be scored; the first: {first}")
    scores, targets = np.array(scored, float).T
    return agreement(scores if ours.higher_is_better == theirs.higher_is_better else -scores, targets)


def write_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Write CSV with the columns path, target, score and error to `path`."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(csv_line(("path", "target", "score", "error")))
        for row in predictions:
            score = "" if row.score is None else str(shortest(row.score))
            file.write(csv_line((row.path, str(row.target), score, row.error or "")))
