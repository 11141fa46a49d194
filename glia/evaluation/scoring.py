"""Anything that scores, a checkpoint or an artifact, opened as the runtime's `Scorer`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from glia_runtime.backends.base import Backend
from glia_runtime.errors import BackendError
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import InputKind, Limits, Manifest, Precision, Probe, manifest_path, sha256_file
from glia_runtime.scorer import BUNDLED_MODEL, Scorer
from glia_runtime.view_spec import FragmentViews

if TYPE_CHECKING:
    from torch import nn

    from glia.models import QualityModel

BUNDLED = "bundled"
_BATCH = 32  # looks at a picture in one run of a model
_CHECKPOINTS = (".pt", ".pth", ".safetensors")


class EagerBackend(Backend):
    """A checkpoint in eager PyTorch, as whoever trains it runs it; or halved, as an export to fp16 is.

    On a GPU it takes whole pictures and makes GLIANet's views there (`PictureModel`). Its manifest says what an export
    would, but for `target`, which has no name for a checkpoint.
    """

    name = "pytorch"

    def __init__(self, checkpoint: Path, device: str = "auto", precision: Precision = "fp32") -> None:
        """Load `checkpoint` on `device`: "cpu", "cuda", or "auto" (a GPU where there is one), for fp32 or fp16.

        Raises:
            CheckpointError: it cannot be read.
            BackendError: no such device, or there is no GPU.
        """
        import torch

        from glia.models import load_checkpoint
        from glia.ops.resize import PICTURE_LIMITS

        if device not in ("auto", "cpu", "cuda"):
            raise BackendError(f"device {device!r} cannot run checkpoints; choose one of: auto, cpu, cuda")
        has_gpu = torch.cuda.is_available()
        if device == "cuda" and not has_gpu:
            raise BackendError(f"{checkpoint}: torch {torch.__version__} finds no CUDA GPU here; use device cpu")
        if device == "auto":
            device = "cuda" if has_gpu else "cpu"
        model = load_checkpoint(checkpoint)
        if precision == "fp16":
            model.fold_normalization()
            model.halve()
        kind, self._graph = _graph_on(device, model)
        digest = sha256_file(checkpoint)
        manifest = Manifest(
            architecture=model.architecture,
            config=model.config.to_dict(),
            checkpoint_sha256=digest,
            artifact_sha256=digest,
            target="torchscript",
            input=kind,
            precision="fp32",
            score_scale=model.score_scale,
            parity=(),
            probe=Probe((), 0.0),
            limits=PICTURE_LIMITS if kind == "image" else Limits(),
            **model.view_spec.manifest_fields(),
        )
        super().__init__(checkpoint, manifest, device, precision=precision)

    def _load(self) -> None:
        import torch

        torch.set_num_threads(self.threads)
        self._graph.to(self.device)

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        import torch

        # Left alone, the patch embedding, a convolution, takes TF32, which keeps 10 bits in a float32 product.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            tensors = (torch.from_numpy(inputs[name]).to(self.device) for name in self.manifest.input_names)
            scores: npt.NDArray[Any] = self._graph(*tensors).float().cpu().numpy()
        return scores


def _graph_on(device: str, model: "QualityModel") -> tuple[InputKind, "nn.Module"]:
    """What a model is fed with on `device`, and the module that takes it."""
    from glia.models.pictures import PictureModel

    spec = model.view_spec
    if device == "cuda" and isinstance(spec, FragmentViews):
        return "image", PictureModel(model, spec.fragments)
    return "views", model


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
    return Scorer(EagerBackend(path)) if is_checkpoint(path) else Scorer.open(path)


def evaluation_batch(scorer: Scorer) -> int:
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
