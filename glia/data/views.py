"""From samples to training batches: views drawn at random as the model's specification says, and an order that can be
resumed.
"""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate
from torch.utils.data import Dataset as TorchDataset

from glia.data.samples import Dataset, Sample
from glia_runtime.errors import GliaError
from glia_runtime.view_spec import ViewSpec

# Index of a sample, the step it is drawn for, and the number of its group.
_Draw = tuple[int, int, int]


class TrainingViews(TorchDataset[dict[str, Tensor] | GliaError]):
    """A dataset's samples as the model's specification draws them, with what is known of them.

    The views by their names, uint8; and of each sample "score" (float32, the dataset's scale), "group" (int64: samples
    with equal numbers belong to one series), "distortion" (int64 index, -1 where there is none or it is unknown) and
    "level" (float32, 0 undistorted, nan where unknown).

    Samples of one group are cut at the same places, so that they differ by their distortion alone. The choices
    depend on the seed, the step and the group, so a resumed run draws what an uninterrupted one does.

    A sample that cannot be had is the error itself: raised in a worker it would reach the user inside its traceback.
    """

    def __init__(self, dataset: Dataset, views: ViewSpec, distortions: Sequence[str], seed: int) -> None:
        self.dataset = dataset
        self.views = views
        self.distortions = {name: index for index, name in enumerate(distortions)}
        self.seed = seed

    def __getitem__(self, draw: _Draw) -> dict[str, Tensor] | GliaError:
        index, step, group = draw
        try:
            sample = self.dataset[index]
        except GliaError as error:
            return error
        rng = np.random.default_rng((self.seed, step, group))
        drawn = self.views.draw(sample.image, rng)
        return {
            **{name: torch.from_numpy(view) for name, view in zip(self.views.names, drawn, strict=True)},
            "score": torch.tensor(sample.score, dtype=torch.float32),
            "group": torch.tensor(group),
            "distortion": torch.tensor(self.distortions.get(sample.distortion, -1)),
            "level": torch.tensor(sample.level, dtype=torch.float32),
        }


class GroupSampler(Sampler[list[_Draw]]):
    """Batches of whole groups in an order that depends on the seed alone, from any step on.

    Args:
        groups: indices of samples that stay together.
        batch_size: samples in a batch; at least one group.
        steps: batches in all.
        seed: of the shuffling.
        start: the first step to draw, for resumed runs.
    """

    def __init__(self, groups: Sequence[Sequence[int]], batch_size: int, steps: int, seed: int, start: int = 0) -> None:
        self.groups, self.steps, self.seed, self.start = groups, steps, seed, start
        self.per_batch = min(len(groups), max(1, batch_size // max(len(group) for group in groups)))

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[_Draw]]:
        per_epoch = len(self.groups) // self.per_batch
        for step in range(self.start, self.steps):
            epoch, place = divmod(step, per_epoch)
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.groups))
            chosen = order[place * self.per_batch : (place + 1) * self.per_batch]
            yield [(index, step, int(group)) for group in chosen for index in self.groups[group]]


def training_loader(
    dataset: Dataset,
    views: ViewSpec,
    distortions: Sequence[str],
    *,
    batch_size: int,
    steps: int,
    seed: int,
    start: int = 0,
    workers: int = 0,
) -> Iterator[dict[str, Tensor]]:
    """Batches for the steps from `start` to `steps`.

    Raises:
        GliaError: whatever the dataset raises.
    """
    loader: DataLoader[dict[str, Tensor] | GliaError] = DataLoader(
        TrainingViews(dataset, views, distortions, seed),
        batch_sampler=GroupSampler(dataset.groups, batch_size, steps, seed, start),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_yield_to_training,
        prefetch_factor=4 if workers else None,
    )
    for batch in loader:
        if isinstance(batch, GliaError):
            raise batch
        yield batch


def _collate(samples: list[dict[str, Tensor] | GliaError]) -> dict[str, Tensor] | GliaError:
    """A batch, or the first error."""
    batch: dict[str, Tensor] | GliaError = next((s for s in samples if isinstance(s, GliaError)), {})
    return batch or default_collate(samples)


def _yield_to_training(_: int) -> None:
    """Let the training's own threads go first: one that waits for a core holds up all the others.

    On two cores with one worker a step of ViT-tiny took 1.5 s so, and 3 s with a worker of equal priority.
    """
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(10)


def scoring_views(sample: Sample, views: ViewSpec) -> tuple[Tensor, ...]:
    """The views as scoring sees them, nothing drawn: uint8."""
    return tuple(map(torch.from_numpy, views.sample(sample.image)))
