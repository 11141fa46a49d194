"""What is looked at between epochs: pictures as scoring sees them, prepared once and shared among the processes."""

from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from glia.data.samples import Dataset
from glia.data.views import ScoringViews, or_raise, read_all
from glia.evaluation.metrics import plcc, srcc
from glia.training.distributed import Processes
from glia.training.log import progress
from glia.training.tasks import Task

_BATCH = 64


@dataclass(frozen=True)
class ValidationViews:
    """One process's part of the pictures.

    Attributes:
        semantic: uint8 [N, 224, 224, 3].
        detail: the same.
        scores: float64 [N], the dataset's scale.
    """

    semantic: Tensor
    detail: Tensor
    scores: Tensor

    @classmethod
    def prepare(cls, dataset: Dataset, processes: Processes, workers: int, console: Console) -> "ValidationViews":
        """Read a dataset, 0.3 MB of memory a picture."""
        indices = range(processes.rank, len(dataset), processes.count)
        views = ScoringViews(dataset, indices)
        empty = torch.empty(len(indices), 224, 224, 3, dtype=torch.uint8)
        made = cls(empty, torch.empty_like(empty), torch.empty(len(indices), dtype=torch.float64))
        with progress(console, len(indices), 0) as advance:
            for place, element in enumerate(map(or_raise, read_all(views, workers))):
                made.semantic[place], made.detail[place] = element["semantic"], element["detail"]
                made.scores[place] = element["score"]
                advance("preparing validation pictures")
        return made

    @torch.no_grad()
    def evaluate(self, task: Task, processes: Processes) -> dict[str, float]:
        """SRCC and PLCC of a task over the pictures of all processes; nothing where there are none."""
        task.module.eval()
        batches = zip(self.semantic.split(_BATCH), self.detail.split(_BATCH), strict=True)
        device = processes.device
        parts = [task.predict(s.to(device), d.to(device)).float() for s, d in batches if len(s)]
        predicted = processes.gather(torch.cat(parts) if parts else torch.empty(0, device=device)).cpu().numpy()
        scores = processes.gather(self.scores.to(device)).cpu().numpy()
        if len(scores) == 0:
            return {}
        return {"srcc": srcc(predicted, scores), "plcc": plcc(np.asarray(predicted, np.float64), scores)}
