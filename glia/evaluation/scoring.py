"""Anything that scores, a checkpoint or an artifact, opened as the runtime's `Scorer`."""

from pathlib import Path
from typing import Any

import numpy.typing as npt

from glia_runtime.backends.base import Backend
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import Manifest, Probe, manifest_path, sha256_file
from glia_runtime.scorer import BUNDLED_MODEL, Scorer

BUNDLED = "bundled"
_BATCH = 32  # looks at a picture in one run of a model
_CHECKPOINTS = (".pt", ".pth", ".safetensors")


class EagerBackend(Backend):
    """A checkpoint in eager PyTorch fp32, as whoever trains it runs it.

    Its manifest says what an export would, but for `target`, which has no name for a checkpoint.
    """

    name = "pytorch"

    def __init__(self, checkpoint: Path, device: str = "cpu") -> None:
        """Load `checkpoint` on `device`, "cpu" or "cuda".

        Raises:
            CheckpointError: it cannot be read.
        """
        from glia.models import load_checkpoint

        self._model = model = load_checkpoint(checkpoint)
        digest = sha256_file(checkpoint)
        manifest = Manifest(
            architecture=model.architecture,
            config=model.config.to_dict(),
            checkpoint_sha256=digest,
            artifact_sha256=digest,
            target="torchscript",
            input="views",
            precision="fp32",
            score_scale=model.score_scale,
            parity=(),
            probe=Probe((), 0.0),
            **model.view_spec.manifest_fields(),
        )
        super().__init__(checkpoint, manifest, device)

    def _load(self) -> None:
        import torch

        torch.set_num_threads(self.threads)
        self._model.to(self.device)

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        import torch

        with torch.inference_mode():
            views = (torch.from_numpy(inputs[name]).to(self.device) for name in self.manifest.input_names)
            scores: npt.NDArray[Any] = self._model(*views).float().cpu().numpy()
        return scores


def is_checkpoint(path: Path) -> bool:
    """Whether PyTorch runs this file, and no backend of the runtime; it need not be there."""
    return path.suffix in _CHECKPOINTS and not manifest_path(path).exists()


def open_scorer(source: str) -> Scorer:
    """Open a checkpoint (on a GPU where there is one), an exported artifact, or "bundled", which comes with glia.

    Raises:
        CheckpointError: a checkpoint that cannot be read.
        ArtifactError, ManifestError, BackendError: an artifact that cannot be used.
    """
    path = BUNDLED_MODEL if source == BUNDLED else Path(source)
    if not is_checkpoint(path):
        return Scorer.open(path)
    import torch

    return Scorer(EagerBackend(path, "cuda" if torch.cuda.is_available() else "cpu"))


def batch_size(scorer: Scorer) -> int:
    """Pictures in one run, fewer where each is many crops."""
    return max(1, _BATCH // scorer.manifest.view_spec.looks)


def title(scorer: Scorer) -> str:
    """What reports call it: "artifact model.onnx", or "glianet checkpoint runs/a/model.pt (last step)".

    In brackets what `glia-train --select` kept: the best evaluation is too good on the test part that chose it.
    """
    path = scorer.artifact
    if not is_checkpoint(path):
        return f"artifact {path.name}"
    from glia.models.checkpoint import read_training

    kept = read_training(path).get("selected")
    return f"{scorer.manifest.architecture} checkpoint {path}" + (f" ({kept})" if kept else "")
