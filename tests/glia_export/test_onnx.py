"""What an exported ONNX file is, and that it scores as the model does."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir
import onnxruntime  # type: ignore[import-untyped]
import pytest
from onnx import TensorProto

from glia.models import QualityModel
from glia_export.half import SMALLEST_STORED
from glia_export.onnx_export import MANIFEST_KEY, OPSET, build_onnx, embed_manifest
from glia_export.parity import pictures_in, reference_scores
from glia_runtime import Scorer, read_manifest
from glia_runtime.backends.openvino import core
from glia_runtime.errors import ArtifactError, ImageError, ManifestError
from glia_runtime.manifest import InputKind, Limits, Manifest, Precision, manifest_path
from glia_runtime.view_spec import FragmentViews
from tests.glia_export.conftest import Exported, spread_model

PRECISIONS = ("fp32", "fp16", "fp16-weights")
HAS_BF16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this CPU computes no bfloat16")
ALL = [(kind, precision) for kind in ("views", "image") for precision in PRECISIONS]
BOUNDS = {"fp32": 1e-2, "fp16": 1.0, "fp16-weights": 1.0}
every = pytest.mark.parametrize(("kind", "precision"), ALL)

SIGNATURE = {
    "views": {
        "semantic": (TensorProto.UINT8, ["batch", 224, 224, 3]),
        "detail": (TensorProto.UINT8, ["batch", 224, 224, 3]),
    },
    "image": {
        "images": (TensorProto.UINT8, ["batch", "height", "width", 3]),
        "sizes": (TensorProto.INT64, ["batch", 2]),
    },
}


def signature(values: "list[onnx.ValueInfoProto]") -> dict[str, tuple[int, list[object]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


@every
def test_the_file(exported: Exported, kind: InputKind, precision: Precision) -> None:
    path = exported("onnx", kind, precision)
    onnx.checker.check_model(path, full_check=True)
    proto = onnx.load(path)
    assert signature(list(proto.graph.input)) == SIGNATURE[kind]
    assert signature(list(proto.graph.output)) == {"score": (TensorProto.FLOAT, ["batch"])}
    assert {(item.domain, item.version) for item in proto.opset_import} >= {("", OPSET)}
    # Mean and deviation are in the patch embedding: nothing is divided before it (the resize divides weights).
    if kind == "views":
        assert not [node for node in proto.graph.node if node.op_type in ("Div", "Sub")]
    # No weight is turned over when the file is loaded.
    weights = {tensor.name for tensor in proto.graph.initializer}
    assert not [node for node in proto.graph.node if node.op_type == "Transpose" and node.input[0] in weights]
    # Nothing tells of the machine that exported: no stack traces, no paths.
    assert not re.search(rb"\.py\b|site-packages|/home/|/root/", path.read_bytes())
    assert not [node for node in proto.graph.node if node.metadata_props]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_fragments_are_one_node_with_its_body(exported: Exported, precision: Precision) -> None:
    proto = onnx.load(exported("onnx", "image", precision))
    (node,) = [node for node in proto.graph.node if node.domain == "glia"]
    assert node.op_type == "FragmentSample" and list(node.input) == ["images", "sizes"]
    (body,) = proto.functions
    assert (body.domain, body.name) == ("glia", "FragmentSample")
    assert [item.version for item in body.opset_import if item.domain == ""] == [OPSET]


@pytest.mark.parametrize("kind", ["views", "image"])
def test_fp16_halves_the_file_and_keeps_its_islands(exported: Exported, kind: InputKind) -> None:
    small, large = exported("onnx", kind, "fp16"), exported("onnx", kind, "fp32")
    # The test's model is mostly graph: 0.3 MB of nodes, in both. Weights alone are exactly half, but for the norms.
    assert small.stat().st_size < 0.6 * large.stat().st_size
    model = ir.load(small)
    products = [node for node in model.graph if node.op_type in ("MatMul", "Gemm", "Conv")]
    halves = [node for node in products if node.outputs[0].dtype == ir.DataType.FLOAT16]
    # The two products of the resize, when pictures come in, and the head stay in float32.
    assert len(products) - len(halves) == {"views": 1, "image": 3}[kind]
    for node in model.graph:
        if node.op_type == "LayerNormalization":
            assert node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.FLOAT


@pytest.mark.parametrize("kind", ["views", "image"])
def test_fp16_weights_halve_the_file_and_nothing_else(exported: Exported, kind: InputKind, tmp_path: Path) -> None:
    small, large = exported("onnx", kind, "fp16-weights"), exported("onnx", kind, "fp32")
    assert small.stat().st_size < 0.6 * large.stat().st_size
    stored = {value.name: value.const_value for value in ir.load(small).graph.initializers.values()}
    assert [name for name, tensor in stored.items() if tensor is not None and tensor.dtype == ir.DataType.FLOAT16]
    assert not [
        name
        for name, tensor in stored.items()
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT and tensor.size >= SMALLEST_STORED
    ]
    # What ONNX Runtime makes of the file when it loads it: the same float32 graph.
    loaded = {}
    for path in (small, large):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / path.name)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = ir.load(options.optimized_model_filepath).graph
        types = sorted(value.dtype.name for value in graph.initializers.values() if value.dtype is not None)
        loaded[path] = (sorted(node.op_type for node in graph), types)
    assert loaded[small] == loaded[large]


@every
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_scores(
    exported: Exported, model: QualityModel, pictures: Path, kind: InputKind, precision: Precision, backend: str
) -> None:
    """Every batch size, order and padding gives each picture the PyTorch model's score."""
    scorer = Scorer.open(exported("onnx", kind, precision), device="cpu", backend=backend)
    found = pictures_in(pictures, FragmentViews(), Limits(), print)
    images = list(found.images())
    reference = reference_scores(model, found.views)
    together = scorer.score(images)
    assert np.std(reference) > 5
    # The bounds of the issue, as parts of the test model's scale of 100.
    assert np.abs(together - reference).max() <= BOUNDS[precision]
    # Another batch is another blocking of the same sums: float32 rounding, and in fp16 a float16 step or two.
    tolerance = 0.3 if precision == "fp16" else 1e-3
    assert scorer.score(images[::-1])[::-1] == pytest.approx(together, abs=tolerance)
    for image, score in zip(images, together, strict=True):
        assert scorer.score([image])[0] == pytest.approx(score, abs=tolerance)


@needs_bf16
@every
def test_scores_in_bf16(
    exported: Exported, model: QualityModel, pictures: Path, kind: InputKind, precision: Precision
) -> None:
    scorer = Scorer.open(exported("onnx", kind, precision), backend="openvino:bf16")
    found = pictures_in(pictures, FragmentViews(), Limits(), print)
    scores, reference = scorer.score(found.images()), reference_scores(model, found.views)
    difference = np.abs(scores - reference)
    # The issue's bound, 1 % of a scale of 100; and that it is bf16, which float32's 1e-4 would not show.
    assert 1e-2 < difference.mean() <= 1.0
    # Scores further apart than both may be off (4 % of the scale each) keep their order.
    apart = np.subtract.outer(reference, reference)
    assert (np.subtract.outer(scores, scores)[apart > 8.0] > 0).all() and (apart > 8.0).any()


@needs_bf16
def test_auto_takes_the_fastest_whose_row_passes(exported: Exported) -> None:
    path = exported("onnx", "views", "fp32")
    scorer = Scorer.open(path, device="cpu")
    assert scorer.choice == "openvino:bf16 on cpu: the fastest here whose parity row passes"
    # Held to the bound of its row: by the probe's own tolerance, that of fp32, no bf16 could pass.
    assert scorer.manifest.probe.tolerance == pytest.approx(0.01) and scorer.tolerance == pytest.approx(4.0)
    assert scorer.manifest.probe.tolerance < scorer.self_test() <= 4.0


@every
def test_the_manifest(exported: Exported, kind: InputKind, precision: Precision, checkpoint: Path) -> None:
    path = exported("onnx", kind, precision)
    manifest = read_manifest(path)
    assert (manifest.target, manifest.input, manifest.precision) == ("onnx", kind, precision)
    assert manifest.architecture == "glianet" and manifest.config["backbone"] == "test_vit"
    assert manifest.opset == OPSET and manifest.score_scale.dataset == "test"
    row, *others = manifest.parity
    assert (row.backend, row.precision, row.device, row.images) == ("onnxruntime", precision, "cpu", 6)
    expected = [("openvino", "bf16")] * HAS_BF16 + [("openvino", precision)]
    assert [(other.backend, other.precision) for other in others if other.device == "cpu"] == expected
    assert all(each.passed for each in manifest.parity if each.device == "cpu")
    assert row.bound_max_abs == pytest.approx(BOUNDS[precision])
    assert manifest.limits == (Limits(max_height=32768, max_width=32768) if kind == "image" else Limits())
    assert row.srcc is not None and row.srcc >= 0.999
    properties = {item.key: item.value for item in onnx.load(path).metadata_props}
    inside = Manifest.from_json(properties[MANIFEST_KEY])
    outside = json.loads(manifest_path(path).read_text())
    assert inside.artifact_sha256 == "" and len(outside["artifact_sha256"]) == 64
    within = json.loads(properties[MANIFEST_KEY])
    assert within["artifact_bytes"] is None and outside["artifact_bytes"] == path.stat().st_size
    for fields in (within, outside):
        del fields["artifact_sha256"], fields["artifact_bytes"], fields["manifest_sha256"]
    assert within == outside
    assert Scorer.open(path, backend="onnxruntime").self_test() <= manifest.probe.tolerance


def test_a_strip_that_would_grow_beyond_the_graphs_limit_is_refused(exported: Exported) -> None:
    strip = np.zeros((8, 20000, 3), np.uint8)
    with pytest.raises(ImageError, match=r"20000x8 pixels, enlarged to 560000x224, is over .* limit of 32768x32768"):
        Scorer.open(exported("onnx", "image", "fp32")).score([strip])


def test_an_altered_pair_is_refused(exported: Exported, tmp_path: Path) -> None:
    path = exported("onnx", "views", "fp32")
    content, text = path.read_bytes(), manifest_path(path).read_text()
    for altered, manifest, error, reason in (
        (content[:-1] + bytes([content[-1] ^ 1]), text, ArtifactError, "SHA-256"),
        (content[:-9], text, ArtifactError, "copied in part"),
        (content, text.replace('"precision": "fp32"', '"precision": "fp16"', 1), ManifestError, "edited"),
        (content, None, ManifestError, "missing"),
    ):
        copy = tmp_path / "copy.onnx"
        copy.write_bytes(altered)
        manifest_path(copy).unlink(missing_ok=True)
        if manifest is not None:
            manifest_path(copy).write_text(manifest)
        with pytest.raises(error, match=reason):
            Scorer.open(copy)


def test_the_manifest_inside_cannot_hold_the_files_hash(exported: Exported) -> None:
    with pytest.raises(ValueError, match="own hash"):
        embed_manifest(onnx.ModelProto(), read_manifest(exported("onnx", "views", "fp32")))


def test_the_model_is_left_as_it_was(model: QualityModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    build_onnx(model, "views", "fp16")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_a_tiny_model_in_half_precision_fits_the_bundle() -> None:
    proto = build_onnx(spread_model("vit_tiny_patch16_224"), "views", "fp16")
    assert proto.ByteSize() < 15_000_000
