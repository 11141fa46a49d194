"""The backbone of an exported model, which is the bundled one's."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch

from glia.models import create_model, load_backbone_weights
from glia_runtime.errors import CheckpointError
from glia_runtime.scorer import BUNDLED_MODEL


def test_the_bundled_backbone_computes_what_the_bundled_graph_does() -> None:
    """The prior, which the graph projects first: one whole pass through the backbone."""
    model: Any = create_model("linear-probe", backbone="vit_tiny_patch16_224").eval()
    load_backbone_weights(model.backbone, "vit_tiny_patch16_224", BUNDLED_MODEL)
    semantic, detail = torch.randint(0, 256, (2, 1, 224, 224, 3), dtype=torch.uint8)
    proto = onnx.load(BUNDLED_MODEL)
    made = {name: node for node in proto.graph.node for name in node.output}
    biased = next(n for n in proto.graph.node if any(name.startswith("model.project.bias") for name in n.input))
    projected = next(made[name] for name in biased.input if name in made and made[name].op_type == "MatMul")
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(projected.input[0]))
    graph = onnxruntime.InferenceSession(proto.SerializeToString())
    (expected,) = graph.run([projected.input[0]], {"semantic": semantic.numpy(), "detail": detail.numpy()})
    normalized = ((semantic / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.no_grad():
        tokens = model.backbone.forward_features(normalized)
    # the graph computes in float16, 12 blocks deep: 2e-3 measured on drawn pictures, of values around 1
    torch.testing.assert_close(tokens, torch.from_numpy(expected).float(), rtol=0, atol=2e-2)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    model: Any = create_model("linear-probe", backbone="test_vit")
    broken, empty = tmp_path / "broken.onnx", tmp_path / "empty.onnx"
    broken.write_bytes(b"no protobuf")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "none", [], [])), empty)
    for path, says in ((broken, "ONNX file"), (empty, "no backbone"), (tmp_path / "gone.onnx", "ONNX file")):
        with pytest.raises(CheckpointError, match=says) as caught:
            load_backbone_weights(model.backbone, "test_vit", path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="not the weights of this backbone"):
        load_backbone_weights(model.backbone, "test_vit", BUNDLED_MODEL)
