"""From samples to training batches: views drawn as the model's specification says, in an order that can be resumed."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate
from torch.utils.data import Dataset as TorchDataset

from glia.data.samples import Dataset, Sample
from glia.data.store import ArrayStore
from glia_runtime.errors import DatasetError, GliaError
from glia_runtime.view_spec import ViewSpec

# Index of a sample, the step it is drawn for, and the number of its group.
_Draw = tuple[int, int, int]
Drawn = dict[str, Tensor] | GliaError
"""What a DataLoader hands over: what was asked for, or why it cannot be had. An error that is raised in a worker would
reach the user inside its traceback."""


class TrainingViews(TorchDataset[Drawn]):
    """A dataset's samples as the model's specification draws them, with what is known of them.

    The views by their names, uint8, and maybe "prior", float16 [tokens, width], in place of the view it was made of;
    and of each sample "score" (float32, the dataset's scale), "index" (int64, in its dataset), "group" (int64: samples
    with equal numbers belong to one series), "distortion" (int64 index into `distortions`, -1 where there is none or it
    is unknown) and "level" (float32, 0 undistorted, nan where unknown).

    Samples of one group are cut at the same places, so that they differ by their distortion alone. The choices
    depend on the seed, the step and the group, so a resumed run draws what an uninterrupted one does, with any number
    of workers.

    Args:
        dataset: the samples.
        distortions: names of the types, whose places in this list are their numbers.
        seed: of the choices.
        spec: what the model is shown.
        views_in_turn: which views to make, see `views_at`; None for all.
        pictures: keeps the pixels of decoded files, uint8 [H, W, 3]; None decodes them every time.
        priors: holds what the frozen part of the model made of every picture and of its mirror image, float16
            [2, tokens, width]; None where the model computes it with every step.
    """

    def __init__(
        self,
        dataset: Dataset,
        distortions: Sequence[str],
        seed: int,
        spec: ViewSpec,
        views_in_turn: Sequence[Sequence[str]] | None = None,
        pictures: ArrayStore | None = None,
        priors: ArrayStore | None = None,
    ) -> None:
        self.dataset = dataset
        self.distortions = {name: index for index, name in enumerate(distortions)}
        self.seed = seed
        self.spec = spec
        self.views_in_turn = (spec.names,) if views_in_turn is None else views_in_turn
        self.pictures, self.priors = pictures, priors

    def __getitem__(self, draw: _Draw) -> Drawn:
        index, step, group = draw
        try:
            sample = self.dataset[index]
            rng = np.random.default_rng((self.seed, step, group))
            names = views_at(step, self.views_in_turn)
            views, mirrored = self.spec.draw(read_image(sample, self.pictures), rng, names)
            drawn = {name: torch.from_numpy(view) for name, view in views.items()}
            if self.priors is not None:
                drawn["prior"] = torch.from_numpy(_prior(self.priors, sample)[int(mirrored)].copy())
        except GliaError as error:
            return error
        return {
            **drawn,
            "score": torch.tensor(sample.score, dtype=torch.float32),
            "index": torch.tensor(index),
            "group": torch.tensor(group),
            "distortion": torch.tensor(self.distortions.get(sample.distortion, -1)),
            "level": torch.tensor(sample.level, dtype=torch.float32),
        }


def views_at(step: int, views_in_turn: Sequence[Sequence[str]]) -> Sequence[str]:
    """The names of the views that a step is shown: each of `views_in_turn` after the other, over and over."""
    return views_in_turn[step % len(views_in_turn)]


def _prior(priors: ArrayStore, sample: Sample) -> Any:
    stored = priors.read(sample.path) if sample.path else None
    if stored is None:
        raise DatasetError(
            f"{sample.path}: changed, or its tokens removed, since the run began; continue with --resume"
        )
    return stored


def read_image(sample: Sample, pictures: ArrayStore | None) -> Any:
    """The pixels of a sample, uint8 [H, W, 3], from `pictures` where they lie there; decoded and kept there if not."""
    if pictures is None or sample.path is None:
        return sample.image
    return pictures.fetch(sample.path, lambda: sample.image)


def groups_in_batch(groups: Sequence[Sequence[int]], batch_size: int) -> int:
    """How many groups make a batch: as many as fit, at least one."""
    return min(len(groups), max(1, batch_size // max(len(group) for group in groups)))


class GroupSampler(Sampler[list[_Draw]]):
    """Batches of whole groups in an order that depends on the seed alone, from any step on.

    Args:
        groups: indices of samples that stay together.
        batch_size: samples in a batch; at least one group.
        steps: batches in all.
        seed: of the shuffling.
        start: the first step to draw, for resumed runs.
        part: which part of every batch to draw, of how many: each process of a run draws its own.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        batch_size: int,
        steps: int,
        seed: int,
        start: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.groups, self.steps, self.seed, self.start, self.part = groups, steps, seed, start, part
        self.per_batch = groups_in_batch(groups, batch_size)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[_Draw]]:
        per_epoch = len(self.groups) // self.per_batch
        part, parts = self.part
        shuffled, order = -1, np.empty(0, int)
        for step in range(self.start, self.steps):
            epoch, place = divmod(step, per_epoch)
            if epoch != shuffled:  # a million groups take 0.15 s
                shuffled, order = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self.groups))
            chosen = order[place * self.per_batch : (place + 1) * self.per_batch]
            draws = [(index, step, int(group)) for group in chosen for index in self.groups[group]]
            yield draws[len(draws) * part // parts : len(draws) * (part + 1) // parts]


def training_loader(
    views: TrainingViews, sampler: GroupSampler, workers: int = 0, pin_memory: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Batches for the steps of `sampler`. One iterator goes through all epochs, so its workers are started once.

    Raises:
        GliaError: whatever the dataset raises.
    """
    loader: DataLoader[Drawn] = DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_yield_to_training,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )
    yield from map(or_raise, loader)


def _collate(samples: list[Drawn]) -> Drawn:
    """A batch, or the first error."""
    batch: Drawn = next((s for s in samples if isinstance(s, GliaError)), {})
    return batch or default_collate(samples)


def _yield_to_training(_: int) -> None:
    """Let the training's own threads go first: one that waits for a core holds up all the others.

    On two cores with one worker a step of ViT-tiny took 1.5 s so, and 3 s with a worker of equal priority.
    """
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(10)


def scoring_views(sample: Sample, spec: ViewSpec) -> tuple[Tensor, ...]:
    """The views as scoring sees them, nothing drawn: uint8, `spec.shape` each."""
    return tuple(map(torch.from_numpy, spec.sample(sample.image)))


class ScoringViews(TorchDataset[Drawn]):
    """The views of samples as scoring sees them, by name, with the score; see `read_all`."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], spec: ViewSpec) -> None:
        self.dataset = dataset
        self.indices = indices
        self.spec = spec

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Drawn:
        try:
            sample = self.dataset[self.indices[place]]
            views = dict(zip(self.spec.names, scoring_views(sample, self.spec), strict=True))
        except GliaError as error:
            return error
        return {**views, "score": torch.tensor(sample.score, dtype=torch.float64)}


def read_all(dataset: TorchDataset[Drawn], workers: int) -> Iterator[Drawn]:
    """Every element in order, read ahead by `workers` processes."""
    yield from DataLoader(dataset, batch_size=None, num_workers=workers, worker_init_fn=_yield_to_training)


def or_raise(drawn: Drawn) -> dict[str, Tensor]:
    """What was drawn; where it is an error, that is raised."""
    if isinstance(drawn, GliaError):
        raise drawn
    return drawn
