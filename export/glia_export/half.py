"""From a float32 ONNX graph to a strongly typed float16 or bfloat16 one with float32 islands, or to float16 weights.

Done on the graph rather than on the PyTorch model, because a graph names every operation, also those that a
model calls as functions (softmax), and because it does not depend on the architecture. The converters in
onnxruntime and onnxconverter-common name a Cast after the weight it converts, and so produce an invalid file
where two streams share their weights, as GLIANet's do.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from glia_runtime.errors import ArtifactError

Rule = Callable[[ir.Node], bool]

FLOAT, HALF, BFLOAT = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16

# Measured with every operator's result rounded, LayerNormalization and Softmax taken apart into their steps; figures
# are the largest part of the scale that a score is off by. In float16, on 20 pictures: a trained ViT-tiny is off by
# 5.9e-4, with LayerNormalization in float16 as well by 6.0e-4; but once a channel of its residual stream stands at
# 300, as in many pretrained ViTs, by 1.9e-1 instead of 5e-4, for the square of 300 passes float16's 65504. Softmax in
# float16 changes nothing (5.3e-4; ViT-B/16 with random weights: 6.7e-4 instead of 1.6e-3). On 16 photographs, a
# ViT-tiny with random weights: 1.2e-3, with LayerNormalization in float16 2.3e-3, with Softmax in float32 1.8e-3; a
# ViT-B/16, briefly trained: 1.0e-3, 0.8e-3, 0.9e-3. So the norms are an island for their range alone, and Softmax is
# none. In bfloat16: 2.1e-3, with LayerNormalization in bfloat16 3.6e-3, with Softmax 2.5e-3, with both 4.0e-3: a sum
# of 197 terms is good to 1 in 256. ReduceL2 sums squares as well. Resize takes its scales as float32 only. Conv is not
# defined for bfloat16 before opset 22; as a ViT's patch embedding it is under 1 % of the arithmetic, in GlintIQA half.
FP32_OPERATORS = {
    HALF: frozenset({"LayerNormalization", "ReduceL2", "Resize"}),
    BFLOAT: frozenset({"LayerNormalization", "ReduceL2", "Softmax", "Resize", "Conv"}),
}
_PRODUCTS = frozenset({"MatMul", "Gemm"})
_LARGEST = {HALF: float(np.finfo(np.float16).max), BFLOAT: float.fromhex("0x1.fep127")}

SMALLEST_STORED = 1024
"""Elements of a weight from which storing it as float16 pays: 2 kB saved, where a Cast takes 0.1 kB."""


def to_half(model: ir.Model, in_model: Rule, half: ir.DataType = HALF) -> None:
    """Turn the float32 values of `model` into `half`, in place; graph inputs and outputs keep their types.

    Args:
        model: a graph without subgraphs.
        in_model: whether a node belongs to the network; the others (resize, positions) stay as they are.
        half: FLOAT16 or BFLOAT16.

    Raises:
        ArtifactError: a weight is larger than `half` can hold.
    """
    graph = model.graph
    head, islands = _head(graph), FP32_OPERATORS[half]
    halved = [node for node in graph if in_model(node) and node.op_type not in islands and node not in head]
    as_half = {node for node in halved if _touches_float(node)}
    outputs = set(graph.outputs)
    for node in as_half:
        if node.op_type == "Cast" and node.attributes["to"].as_int() == FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", half)
        for value in node.outputs:
            if value.dtype == FLOAT and value not in outputs:
                value.dtype = half
    converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in list(graph):
        wanted = half if node in as_half else FLOAT
        for index, operand in enumerate(node.inputs):
            if operand is None or operand.dtype not in (FLOAT, half) or operand.dtype == wanted:
                continue
            if node.op_type == "Cast":  # takes either
                continue
            key = (operand, wanted)
            if key not in converted:
                converted[key] = _convert(graph, operand, wanted)
            node.replace_input_with(index, converted[key])
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]


def store_as_half(model: ir.Model, in_model: Rule) -> None:
    """Store the large float32 weights of `model` as float16, in place, each behind a Cast to float32.

    The arithmetic stays as it is: runtimes compute such Casts once, when they load the file.

    Args:
        model: a graph without subgraphs.
        in_model: whether a node belongs to the network; constants that another one uses stay as they are.

    Raises:
        ArtifactError: a weight is larger than float16 can hold.
    """
    graph = model.graph
    for name, weight in list(graph.initializers.items()):
        tensor = weight.const_value
        if tensor is None or tensor.dtype != FLOAT or tensor.size < SMALLEST_STORED:
            continue
        if all(in_model(use.node) for use in weight.uses()):
            stored = _stored_as(graph, weight, HALF)
            ir.convenience.replace_all_uses_with(weight, _cast(graph, stored, FLOAT))
            del graph.initializers[name]


def round_instead(model: ir.Model, half: ir.DataType) -> None:
    """Turn a graph that `to_half` typed into float32 arithmetic with the same rounding, in place.

    Every value of type `half` is computed in float32 and then rounded by a Cast to `half` and one back. For runtimes
    that have no arithmetic in `half`: where a GPU's matrix units sum in float32 and round the result, as NVIDIA's do,
    scores differ from theirs by the order of summation, and by what an engine that fuses operators does not round.
    """
    graph = model.graph
    for name, weight in list(graph.initializers.items()):
        if weight.dtype == half:
            ir.convenience.replace_all_uses_with(weight, _stored_as(graph, weight, FLOAT))
            del graph.initializers[name]
    for node in list(graph):
        for value in node.outputs:
            if value.dtype != half:
                continue
            users = [(use.node, use.idx) for use in value.uses()]
            rounded = value
            if node.op_type != "Cast":
                value.dtype = FLOAT
                rounded = _cast(graph, value, half)
            back = _cast(graph, rounded, FLOAT)
            for user, index in users:
                user.replace_input_with(index, back)


def _touches_float(node: ir.Node) -> bool:
    values = (*node.inputs, *node.outputs)
    return any(value is not None and value.dtype == FLOAT for value in values)


def _head(graph: ir.Graph) -> set[ir.Node]:
    """The last product and what follows it.

    On a scale of 0 to 100 float16 has steps of 1/16, which tie scores that differ: of an early bundled model's
    scores of 200 photographs, all different, it leaves 174. The largest difference of 16 hardly grows (1.5e-3 of
    the scale instead of 1.2e-3 in a ViT-tiny), and float32 costs nothing here: a product of one row.
    """
    head: set[ir.Node] = set()
    waiting = [value.producer() for value in graph.outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in head:
            continue
        head.add(node)
        if node.op_type not in _PRODUCTS:
            waiting += [value.producer() for value in node.inputs if value is not None]
    return head


def _convert(graph: ir.Graph, value: ir.Value, wanted: ir.DataType) -> ir.Value:
    return (_stored_as if value.is_initializer() else _cast)(graph, value, wanted)


def _stored_as(graph: ir.Graph, weight: ir.Value, wanted: ir.DataType) -> ir.Value:
    assert weight.const_value is not None
    name = f"{weight.name}_{wanted.name.lower()}"
    array = weight.const_value.numpy()
    largest = _LARGEST.get(wanted, np.inf)
    if np.abs(array).max(initial=0) > largest:
        raise ArtifactError(
            f"weight {weight.name} reaches {np.abs(array).max():.3g}, {wanted.name.lower()} holds {largest:.5g}: "
            "export with --precision fp32"
        )
    tensor = ir.tensor(array.astype(wanted.numpy()), name=name)
    fresh = ir.Value(name=name, type=ir.TensorType(wanted), shape=weight.shape, const_value=tensor)
    graph.register_initializer(fresh)
    return fresh


def _cast(graph: ir.Graph, value: ir.Value, wanted: ir.DataType) -> ir.Value:
    name = f"{value.name}_{wanted.name.lower()}"
    cast = ir.node("Cast", [value], {"to": ir.AttrInt64("to", wanted)}, name=f"{name}_cast")
    (fresh,) = cast.outputs
    fresh.name, fresh.dtype, fresh.shape = name, wanted, value.shape
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(producer, cast)
    return fresh
