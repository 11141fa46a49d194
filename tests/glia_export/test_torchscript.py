"""What an exported TorchScript file is, and that it scores as the model does."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from glia.models import QualityModel
from glia.ops import pack_ragged, ragged_views
from glia_export.parity import BOUNDS, pictures_in, reference_scores
from glia_runtime import BackendError, Scorer, read_manifest
from glia_runtime.manifest import InputKind, Limits, Precision
from glia_runtime.view_spec import FragmentViews
from glia_runtime.views import enlarge
from tests.glia_export.conftest import Exported

kinds = pytest.mark.parametrize("kind", ["views", "image"])
precisions = pytest.mark.parametrize("precision", ["fp32", "fp16"])
devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=(pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))
        ),
    ],
)


@devices
@precisions
@kinds
def test_scores(
    exported: Exported, model: QualityModel, pictures: Path, kind: InputKind, precision: Precision, device: str
) -> None:
    path = exported("torchscript", kind, precision)
    scorer = Scorer.open(path, device)
    found = pictures_in(pictures, FragmentViews(), Limits(), print)
    images = list(found.images())
    together = scorer.score(images)
    bound = BOUNDS[precision].max_abs * model.score_scale.range
    assert np.abs(together - reference_scores(model, found.views)).max() <= bound
    # Another batch is another blocking of the same sums, each rounded to 24 bits, or to float16's 11.
    tolerance = {"fp32": 1e-3, "fp16": 0.5}[precision]
    for image, score in zip(images, together, strict=True):
        assert scorer.score([image])[0] == pytest.approx(score, abs=tolerance)
    manifest = read_manifest(path)
    assert (manifest.target, manifest.input, manifest.opset) == ("torchscript", kind, None)
    assert [(row.backend, row.precision, row.images, row.passed) for row in manifest.parity] == [
        ("torchscript", precision, 6, True)
    ]
    scorer.self_test()


@devices
@precisions
def test_views_from_the_fused_operator(
    exported: Exported, model: QualityModel, pictures: Path, precision: Precision, device: str
) -> None:
    """For programs that have glia beside the file, as docs/export.md shows; on a GPU one launch for all pictures."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")  # deprecated
        loaded = torch.jit.load(str(exported("torchscript", "views", precision)), map_location=device)
    found = pictures_in(pictures, FragmentViews(), Limits(), print)
    packed = pack_ragged([torch.from_numpy(enlarge(image)).to(device) for image in found.images()])
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        views = ragged_views(*packed, mean=(0.0,) * 3, std=(1.0,) * 3, dtype=torch.float16)
        scores = loaded(*(view.permute(0, 2, 3, 1) for view in views)).cpu().numpy()
    bound = BOUNDS[precision].max_abs * model.score_scale.range
    assert np.abs(scores - reference_scores(model, found.views)).max() <= bound


@kinds
def test_the_file_loads_without_glia(exported: Exported, kind: InputKind) -> None:
    program = f"""
import sys
sys.modules["glia"] = sys.modules["timm"] = None
from glia_runtime import Scorer
Scorer.open({str(exported("torchscript", kind, "fp32"))!r}).self_test()
print("scored")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "scored\n", done.stderr


@precisions
@kinds
def test_the_file_names_no_device(exported: Exported, kind: InputKind, precision: Precision) -> None:
    """A trace records the device it was made on; tensors made there would not meet those on a GPU."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")  # deprecated
        graph = torch.jit.load(str(exported("torchscript", kind, precision))).graph
    types = [str(node.output().type()) for node in graph.findAllNodes("prim::Constant")]
    assert "Tensor" in types and "Device" not in types
    assert len(graph.findAllNodes("prim::device")) == (1 if kind == "image" else 0)


def test_half_is_half(exported: Exported) -> None:
    full, half = (exported("torchscript", "views", precision).stat().st_size for precision in ("fp32", "fp16"))
    assert half < 0.6 * full
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")  # deprecated
        loaded = torch.jit.load(str(exported("torchscript", "views", "fp16")))
    # On a GPU the fused kernel; traced on a CPU all the same.
    assert loaded.graph.findAllNodes("aten::scaled_dot_product_attention")
    views = (torch.zeros(1, 224, 224, 3, dtype=torch.uint8),) * 2
    assert loaded(*views).dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line(exported: Exported) -> None:
    with pytest.raises(BackendError, match=r"views-fp32.ts: torchscript on cuda: torch .* finds no CUDA GPU here"):
        Scorer.open(exported("torchscript", "views", "fp32"), device="cuda")
