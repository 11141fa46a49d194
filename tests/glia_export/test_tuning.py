"""Table 6's rivals become ONNX graphs like any other architecture, though they look at one of the two inputs."""

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch

from glia.models import TunedViT, create_model
from glia_export.onnx_export import build_onnx
from glia_runtime.manifest import ScoreScale, View


# The graphs of a linear probe and of full fine-tuning are that of a merged LoRA: a plain ViT's.
@pytest.mark.parametrize(("method", "view"), [("lora", "detail"), ("adapter", "semantic"), ("vpt", "semantic")])
def test_the_graph_scores_any_batch_as_the_model_does(method: str, view: View) -> None:
    torch.manual_seed(0)
    model = create_model(method, backbone="test_vit", view=view)
    assert isinstance(model, TunedViT)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))  # adapters and low-rank products are zero at first
        model.head.weight.mul_(4.0)  # a fresh head's scores hardly differ
    model.set_scale(ScoreScale(0.0, 100.0, True, "test"), mean=50.0, std=20.0)
    graph = onnxruntime.InferenceSession(build_onnx(model.merged().eval(), "views", "fp32").SerializeToString())
    semantic, detail = torch.randint(0, 256, (2, 3, 224, 224, 3), dtype=torch.uint8)
    (scores,) = graph.run(["score"], {"semantic": semantic.numpy(), "detail": detail.numpy()})
    with torch.no_grad():
        expected = model.eval()(semantic, detail).numpy()
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(scores, expected, atol=1e-2)  # the exporter's own bound for fp32 on this scale
