"""Anything that scores, a checkpoint or an artifact, as one function over pictures."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glia.models import QualityModel, load_checkpoint
from glia.ops import ragged_views
from glia_runtime.manifest import ScoreScale
from glia_runtime.scorer import BUNDLED_MODEL, Scorer
from glia_runtime.views import sample_views

Picture = npt.NDArray[np.uint8]
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")
BUNDLED = "bundled"


@dataclass(frozen=True)
class OpenedModel:
    """`score` maps pictures, uint8 [H, W, 3] each, to float32 [B] on `scale`."""

    score: Callable[[Sequence[Picture]], npt.NDArray[np.float32]]
    scale: ScoreScale
    name: str


class DeviceScorer:
    """A model that scores raw pictures which are on its device already, without a copy to the host.

    On a GPU it computes in float16 up to the head, and one launch makes both views (`glia.ops.ragged_views`).
    """

    def __init__(self, model: QualityModel, device: str = "cuda") -> None:
        """Copy `model` to `device`; on the CPU it stays in float32."""
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._model.fold_normalization()
        self._dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
        if self._dtype == torch.float16:
            self._model.halve()
        self._model.to(device)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, starts: Tensor, sizes: Tensor) -> Tensor:
        """Score the pictures that `glia.ops.pack_ragged` packed; float32 [B] on the model's scale, on the device.

        Both sides of each picture have to reach 224 pixels, as `glia_runtime.views.enlarge` makes them.
        Raises RuntimeError as `glia.ops.ragged_views`.
        """
        # The model's normalisation is folded into its first layer; float16 holds grey levels exactly.
        spec = self._model.fragment_spec
        views = ragged_views(
            *(pixels, starts, sizes),
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            dtype=self._dtype,
            grid=spec.grid,
            fragment=spec.fragment,
        )
        scores: Tensor = self._model(*(view.permute(0, 2, 3, 1) for view in views))
        return scores


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
        semantic, detail = (np.stack(views) for views in zip(*map(sample_views, images), strict=True))
        scores: npt.NDArray[np.float32] = model(torch.from_numpy(semantic), torch.from_numpy(detail)).numpy()
        return scores

    return OpenedModel(score, model.score_scale, f"{model.architecture} checkpoint {source}")
