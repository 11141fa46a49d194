"""Anything that scores, a checkpoint or an artifact, as one function over pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from glia.models import load_checkpoint
from glia_runtime.manifest import ScoreScale
from glia_runtime.scorer import BUNDLED_MODEL, Scorer

Picture = npt.NDArray[np.uint8]
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")
BUNDLED = "bundled"


@dataclass(frozen=True)
class OpenedModel:
    """`score` maps pictures, uint8 [H, W, 3] each, to float32 [B] on `scale`."""

    score: Callable[[Sequence[Picture]], npt.NDArray[np.float32]]
    scale: ScoreScale
    name: str


def open_model(source: str) -> OpenedModel:
    """Open a checkpoint, an exported artifact, or "bundled", the model that comes with glia.

    Raises:
        CheckpointError: a checkpoint that cannot be read.
        ArtifactError, ManifestError, BackendError: an artifact that cannot be used.
    """
    if Path(source).suffix not in CHECKPOINT_SUFFIXES:
        scorer = Scorer.open(BUNDLED_MODEL if source == BUNDLED else source)
        return OpenedModel(scorer.score, scorer.manifest.score_scale, f"artifact {scorer.artifact.name}")
    model = load_checkpoint(source)

    @torch.inference_mode()
    def score(images: Sequence[Picture]) -> npt.NDArray[np.float32]:
        views = zip(*map(model.view_spec.sample, images), strict=True)
        scores: npt.NDArray[np.float32] = model(*(torch.from_numpy(np.stack(view)) for view in views)).numpy()
        return scores

    return OpenedModel(score, model.score_scale, f"{model.architecture} checkpoint {source}")
