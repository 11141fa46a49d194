"""What is made once of every picture for many steps: its pixels, and what the frozen half of the model sees in it.

F_s depends on no random choice but the mirror image, so the frozen half need not run again at every step.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.utils.data import Dataset as TorchDataset

from glia.data.samples import Dataset, Sample
from glia.data.store import ArrayStore
from glia.data.views import Drawn, or_raise, read_all, scoring_views
from glia.models import QualityModel, create_model
from glia.training.fit import PRECISIONS, FitConfig
from glia.training.log import progress
from glia.training.record import digest
from glia_runtime.errors import GliaError, MissingExtraError, UsageError
from glia_runtime.view_spec import FragmentViews

_BATCH = 32
_HEADERS = 20  # read to estimate the size of all
_BYTES = 2  # float16: F_s comes out of a layer norm, so its values are of order one to a hundred


class _Pictures(TorchDataset[Drawn]):
    """The semantic view of some samples, uint8 [224, 224, 3]."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Drawn:
        try:
            return {"view": scoring_views(self.samples[place], FragmentViews())[0]}
        except GliaError as error:
            return error


def picture_store(dataset: Dataset, folder: Path, console: Console) -> ArrayStore:
    """Where decoded pictures are kept, from the first time that they are read on; says how large they will be.

    Raises:
        OutputError: the disk cannot hold them.
        UsageError: they are no files, so that nothing says whether one has changed.
    """
    store = ArrayStore(folder, "pixels 1")
    if dataset[0].path is None:
        raise UsageError(
            f"{dataset.name} has no picture files that could be kept decoded; leave out --cache (for saqt, or make "
            "files by glia-transfer-labels --render)"
        )
    paths = [path for index in range(len(dataset)) if (path := dataset[index].path) is not None]
    missing = [path for path in paths if store.read(path) is None]
    spread = np.linspace(0, len(paths) - 1, min(len(paths), _HEADERS)).astype(int)
    each = float(np.mean([_pixel_bytes(paths[place]) for place in spread]))
    console.print(
        f"decoded pictures: about {len(paths) * each / 1e9:.2f} GB in {folder}, {len(missing)} still to come",
        highlight=False,
        soft_wrap=True,
    )
    store.check_space(round(len(missing) * each))
    return store


def _pixel_bytes(path: Path) -> int:
    try:
        with Image.open(path) as picture:
            return 3 * picture.width * picture.height
    except OSError:  # said with its name when it is decoded
        return 0


def has_tokens(architecture: str, model: Mapping[str, Any]) -> bool:
    """Whether a model has a frozen half whose tokens can be kept; not, where it cannot be built for want of a package.

    Args:
        architecture: its name.
        model: fields of its config.
    """
    try:
        with torch.device("meta"):
            return create_model(architecture, **model).prior_view == "semantic"
    except MissingExtraError:
        return False


def prior_store(model: QualityModel, folder: Path, precision: torch.dtype) -> ArrayStore:
    """Where the priors of this very backbone lie: other weights, or another arithmetic, make others.

    Raises:
        UsageError: the model has nothing that could be computed once.
    """
    if model.prior_view != "semantic":
        raise UsageError(
            "tokens cannot be cached here, only where a frozen half always sees the whole resized picture (glianet "
            "with --guidance semantic and without --token-drop); leave out --cache-tokens"
        )
    frozen = {
        name: tensor for name, tensor in model.state_dict().items() if name.startswith(("backbone.", "mean", "std"))
    }
    return ArrayStore(folder, f"prior 1 {digest(frozen)} {precision}")


@torch.no_grad()
def compute_priors(
    model: QualityModel, dataset: Dataset, store: ArrayStore, config: FitConfig, device: torch.device, console: Console
) -> None:
    """Fill `store` with what is missing: float16 [2, tokens, width] a picture, of itself and of its mirror image.

    The space is stated, and checked, before the first is computed.

    Args:
        model: moved to `device`.
        dataset: pictures in files.
        store: from `prior_store`.
        config: how the run computes: precision, workers.
        device: where.
        console: for the space and for progress.

    Raises:
        OutputError: the disk cannot hold them.
        ImageError: a picture that cannot be read.
    """
    precision = PRECISIONS[config.precision]
    samples = [dataset[index] for index in range(len(dataset))]
    missing = [sample for sample in samples if sample.path and store.read(sample.path) is None]
    model.eval().to(device)
    blank = torch.zeros(1, 224, 224, 3, dtype=torch.uint8, device=device)
    each = 2 * model.prior(blank).numel() * _BYTES
    console.print(
        f"semantic tokens of {len(samples)} pictures: {len(samples) * each / 1e9:.2f} GB in {store.folder}, "
        f"{len(missing)} to be computed",
        highlight=False,
        soft_wrap=True,
    )
    store.check_space(len(missing) * each)
    elements = read_all(_Pictures(missing), config.workers)
    with progress(console, "computing semantic tokens", len(missing)) as advance:
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            view = torch.stack([or_raise(next(elements))["view"] for _ in batch]).to(device)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                made = torch.stack([model.prior(view), model.prior(view.flip(2))], 1)
            for sample, array in zip(batch, made.to(torch.float16).cpu().numpy(), strict=True):
                assert sample.path is not None
                store.write(sample.path, np.ascontiguousarray(array))
                advance()
