"""The retyping of a graph to float16, and the storing of its weights so, on graphs small enough to read."""

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir
import onnxruntime  # type: ignore[import-untyped]
import pytest
from onnx import TensorProto, helper, numpy_helper

from glia_export import half
from glia_export.half import BFLOAT, round_instead, store_as_half, to_half
from glia_runtime.errors import ArtifactError

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def shared_weight_graph(scale: float = 1.0) -> onnx.ModelProto:
    """Two streams with one weight, a norm and a softmax between, a head after: GLIANet in small."""
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((8, 8)) * scale).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], "cast", to=FLOAT),
        helper.make_node("MatMul", ["x", "weight"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "weight"], ["b"], "second"),
        helper.make_node("LayerNormalization", ["b", "gamma"], ["c"], "norm"),
        helper.make_node("Softmax", ["c"], ["d"], "softmax"),
        helper.make_node("MatMul", ["d", "head"], ["e"], "head"),
        helper.make_node("Mul", ["e", "std"], ["score"], "affine"),
    ]
    constants = {
        "weight": weight,
        "gamma": np.ones(8, np.float32),
        "head": rng.standard_normal((8, 1)).astype(np.float32),
        "std": np.array([20], np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", 8])],
        [helper.make_tensor_value_info("score", FLOAT, ["B", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        value_info=[helper.make_tensor_value_info(name, FLOAT, ["B", 8]) for name in "xabcd"]
        + [helper.make_tensor_value_info("e", FLOAT, ["B", 1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def halved(proto: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.serde.deserialize_model(proto)
    to_half(model, lambda node: True)
    made = ir.serde.serialize_model(model)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(proto: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.arange(24, dtype=np.uint8).reshape(3, 8)
    return np.asarray(session.run(None, {"pixels": pixels})[0])


def test_types() -> None:
    made = halved(shared_weight_graph())
    weights = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert weights == {"weight_float16": HALF, "gamma": FLOAT, "head": FLOAT, "std": FLOAT}
    types = {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info}
    assert types["x"] == types["a"] == types["b"] == types["d"] == HALF
    assert types["c"] == types["e"] == FLOAT
    assert made.graph.output[0].type.tensor_type.elem_type == FLOAT
    casts = [node for node in made.graph.node if node.op_type == "Cast"]
    assert len(casts) == 4  # pixels to half, to float and back around the norm, to float before the head


def test_scores_stay() -> None:
    plain, close = run(shared_weight_graph()), run(halved(shared_weight_graph()))
    assert close.dtype == np.float32
    # Two products of eight terms at float16's 2^-11 relative, before a norm: some 1e-3 of an output of 20.
    assert np.abs(plain - close).max() < 0.05
    assert not np.array_equal(plain, close)


def rounding_twin(scale: float = 1.0) -> onnx.ModelProto:
    model = ir.serde.deserialize_model(shared_weight_graph(scale))
    to_half(model, lambda node: True, BFLOAT)
    typed = ir.serde.serialize_model(model)
    onnx.checker.check_model(typed, full_check=True)
    assert BFLOAT in {tensor.data_type for tensor in typed.graph.initializer}
    round_instead(model, BFLOAT)
    twin = ir.serde.serialize_model(model)
    onnx.checker.check_model(twin, full_check=True)
    return twin


def test_a_twin_computes_in_float32_and_rounds_each_value() -> None:
    twin = rounding_twin()
    assert {tensor.data_type for tensor in twin.graph.initializer} == {FLOAT}
    types = {value.name: value.type.tensor_type.elem_type for value in twin.graph.value_info}
    assert types["a"] == types["b"] == types["c"] == FLOAT

    def rounded(values: np.ndarray) -> np.ndarray:
        return values.astype(BFLOAT.numpy()).astype(np.float32)

    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in shared_weight_graph().graph.initializer}
    weight = rounded(weights["weight"])
    pixels = np.arange(24, dtype=np.float32).reshape(3, 8)
    b = rounded(rounded(pixels @ weight) @ weight)
    norm = (b - b.mean(-1, keepdims=True)) / np.sqrt(b.var(-1, keepdims=True) + 1e-5)
    parts = np.exp(norm) / np.exp(norm).sum(-1, keepdims=True)
    # float32 sums in another order, on scores of some 20; one rounding left out shows in the third digit.
    assert run(twin) == pytest.approx(parts @ weights["head"] * 20, abs=1e-3)
    assert np.abs(run(twin) - run(shared_weight_graph())).max() > 1e-2


def test_bfloat16_holds_what_float16_does_not() -> None:
    assert np.isfinite(run(rounding_twin(scale=1e6))).all()


def test_a_weight_beyond_float16_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"weight weight reaches .*--precision fp32"):
        halved(shared_weight_graph(scale=1e6))


def test_nodes_outside_the_network_stay() -> None:
    model = ir.serde.deserialize_model(shared_weight_graph())
    to_half(model, lambda node: False)
    made = ir.serde.serialize_model(model)
    assert [node.op_type for node in made.graph.node].count("Cast") == 1
    assert np.array_equal(run(made), run(shared_weight_graph()))


@pytest.fixture
def small_weights_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store the 8x8 weight of the small graph, and none of its vectors."""
    monkeypatch.setattr(half, "SMALLEST_STORED", 64)


def stored(proto: onnx.ModelProto, in_model: half.Rule = lambda node: True) -> onnx.ModelProto:
    model = ir.serde.deserialize_model(proto)
    store_as_half(model, in_model)
    made = ir.serde.serialize_model(model)
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.usefixtures("small_weights_too")
def test_only_the_storage_of_large_weights_changes() -> None:
    made = stored(shared_weight_graph())
    weights = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert weights == {"weight_float16": HALF, "gamma": FLOAT, "head": FLOAT, "std": FLOAT}
    types = {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info}
    assert all(types[name] == FLOAT for name in "xabcde")
    before = [node.op_type for node in shared_weight_graph().graph.node]
    assert [node.op_type for node in made.graph.node] == ["Cast", *before]  # one for both users of the weight


@pytest.mark.usefixtures("small_weights_too")
def test_scores_are_those_of_the_rounded_weights() -> None:
    rounded = shared_weight_graph()
    weight = numpy_helper.to_array(rounded.graph.initializer[0])
    rounded.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(weight.astype(np.float16).astype(np.float32), "weight")
    )
    assert np.array_equal(run(stored(shared_weight_graph())), run(rounded))
    assert not np.array_equal(run(rounded), run(shared_weight_graph()))


@pytest.mark.usefixtures("small_weights_too")
def test_weights_that_cannot_or_need_not_be_stored_as_float16() -> None:
    with pytest.raises(ArtifactError, match=r"weight weight reaches .*--precision fp32"):
        stored(shared_weight_graph(scale=1e6))
    # A constant that a node outside the network uses as well.
    assert stored(shared_weight_graph(), lambda node: node.name != "second") == stored(
        shared_weight_graph(), lambda node: False
    )


def test_small_weights_stay() -> None:
    assert "Cast" not in [node.op_type for node in stored(shared_weight_graph()).graph.node][1:]
