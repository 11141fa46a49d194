"""From a float32 ONNX graph to a strongly typed float16 one with float32 islands, or to float16 weights alone.

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

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16

# LayerNormalization squares what it is given, and a ViT's residual stream has channels in the hundreds: their
# square passes float16's 65504. Softmax sums 197 exponentials. (Reasoned, not measured: ONNX Runtime's CPU kernels
# compute both in float32 either way.) Resize takes its scales as float32 only.
FP32_OPERATORS = frozenset({"LayerNormalization", "Softmax", "Resize"})
_PRODUCTS = frozenset({"MatMul", "Gemm"})
_LARGEST = float(np.finfo(np.float16).max)

SMALLEST_STORED = 1024
"""Elements of a weight from which storing it as float16 pays: 2 kB saved, where a Cast takes 0.1 kB."""


def to_half(model: ir.Model, in_model: Rule) -> None:
    """Turn the float32 values of `model` into float16, in place; graph inputs and outputs keep their types.

    Args:
        model: a graph without subgraphs.
        in_model: whether a node belongs to the network; the others (resize, positions) stay as they are.

    Raises:
        ArtifactError: a weight is larger than float16 can hold.
    """
    graph = model.graph
    head = _head(graph)
    halved = [node for node in graph if in_model(node) and node.op_type not in FP32_OPERATORS and node not in head]
    as_half = {node for node in halved if _touches_float(node)}
    outputs = set(graph.outputs)
    for node in as_half:
        if node.op_type == "Cast" and node.attributes["to"].as_int() == FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", HALF)
        for value in node.outputs:
            if value.dtype == FLOAT and value not in outputs:
                value.dtype = HALF
    converted: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in list(graph):
        wanted = HALF if node in as_half else FLOAT
        for index, operand in enumerate(node.inputs):
            if operand is None or operand.dtype not in (FLOAT, HALF) or operand.dtype == wanted:
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


def _touches_float(node: ir.Node) -> bool:
    values = (*node.inputs, *node.outputs)
    return any(value is not None and value.dtype == FLOAT for value in values)


def _head(graph: ir.Graph) -> set[ir.Node]:
    """The last product and what follows it.

    On a scale of 0 to 100 float16 has steps of 1/16, which would tie scores that differ.
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
    if np.abs(array).max(initial=0) > _LARGEST:
        raise ArtifactError(
            f"weight {weight.name} reaches {np.abs(array).max():.3g}, float16 holds {_LARGEST:.0f}: "
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
