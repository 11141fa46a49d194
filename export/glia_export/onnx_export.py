"""A model becomes one ONNX file: exported through torch.export, tidied, and for fp16 retyped or stored anew."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx_ir as ir
import torch

from glia.models import QualityModel
from glia_export.fragment_sample_onnx import fragment_sample_function
from glia_export.graphs import dynamic_shapes, example_inputs, graph_of
from glia_export.half import BFLOAT, HALF, round_instead, store_as_half, to_half
from glia_runtime.errors import ArtifactError
from glia_runtime.manifest import InputKind, Manifest, Precision, input_names
from glia_runtime.view_spec import FragmentViews

OPSET = 20
"""Gelu is one node from opset 20 on; ONNX Runtime reads it since 1.17."""

MANIFEST_KEY = "glia.manifest"
"""The entry of `metadata_props` that holds the manifest's JSON text, its `artifact_sha256` empty."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_LARGEST_FILE = (1 << 31) - (1 << 20)  # protobuf's limit of 2 GiB, less room for the manifest


def build_onnx(model: QualityModel, kind: InputKind, precision: Precision, *, maps: bool = False) -> onnx.ModelProto:
    """Export `model`.

    Args:
        model: in evaluation mode, on the CPU, float32; it is not changed.
        kind: the graph's inputs.
        precision: "fp32", "fp16", "fp16-weights" or "bf16"; inputs and outputs have the same types in all.
        maps: add the output ``map``.

    Raises:
        ArtifactError: over 2 GiB, or weights that float16 cannot hold.
    """
    graph = graph_of(model, kind, as_node=True, maps=maps)
    with warnings.catch_warnings():
        # Both inputs share one batch dimension; the exporter names it once and says so.
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used", category=UserWarning)
        program = torch.onnx.export(
            graph,
            example_inputs(kind, model.view_spec),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(input_names(kind, model.view_spec)),
            output_names=["score", "map"] if maps else ["score"],
            dynamic_shapes=dynamic_shapes(kind, model.view_spec),
            verbose=False,
        )
    assert program is not None
    built = program.model
    _fold_transposed_weights(built.graph)
    _drop_neutral_arithmetic(built.graph)
    if precision in ("fp16", "bf16"):
        to_half(built, _in_model, HALF if precision == "fp16" else BFLOAT)
    elif precision == "fp16-weights":
        store_as_half(built, _in_model)
    _forget_the_build(built)
    size = sum(value.const_value.nbytes for value in built.graph.initializers.values() if value.const_value)
    if size > _LARGEST_FILE:
        raise ArtifactError(
            f"the graph's weights take {size / 2**30:.1f} GiB and one ONNX file holds 2: "
            "export with --precision fp16, or a smaller backbone"
        )
    proto = ir.serde.serialize_model(built)
    proto.producer_name, proto.producer_version = "glia", ""
    if kind == "image" and isinstance(model.view_spec, FragmentViews):
        proto.functions.append(fragment_sample_function(OPSET))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def rounding_twin(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A bf16 graph of `build_onnx` as one that ONNX Runtime can compute on a CPU: see `half.round_instead`.

    ONNX Runtime 1.31's CPU provider has no bfloat16 kernels: it opens no file with such arithmetic.
    """
    twin = ir.serde.deserialize_model(proto)
    round_instead(twin, BFLOAT)
    made = ir.serde.serialize_model(twin)
    onnx.checker.check_model(made, full_check=True)
    return made


def embed_manifest(proto: onnx.ModelProto, manifest: Manifest) -> None:
    """Put `manifest`, which cannot hold the hash of the file it is written into, in the metadata."""
    if manifest.artifact_sha256:
        raise ValueError("the manifest inside a file cannot hold the file's own hash")
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {MANIFEST_KEY: manifest.to_json()})


def save_onnx(proto: onnx.ModelProto, path: Path) -> None:
    """Write one file, no external data."""
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _in_model(node: ir.Node) -> bool:
    """Whether a node came from the network, by the name under which the graphs of graphs.py hold it.

    The others, which make the views, stay in float32. Weights must: they are rounded to Pillow's fixed point by way of
    2^22, and float16 ends at 65504. With their products alone in float16 the scores of 16 photographs are off by as
    much as before (1.7e-3 of the scale, ViT-tiny), but 7.5 % of the semantic view's pixels are not Pillow's, by up to 2
    grey levels (in float32 0.006 %, by 1); and an engine might then sum in float16 as well, which we cannot try.
    """
    return "'model'" in node.metadata_props.get(_SCOPES, "")


def _fold_transposed_weights(graph: ir.Graph) -> None:
    """Store weights as they are multiplied: the exporter leaves a Transpose before each product.

    Runtimes would fold them each time they load the file.
    """
    folded: dict[tuple[ir.Value, tuple[int, ...]], ir.Value] = {}
    for node in list(graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or not weight.is_initializer() or weight.const_value is None:
            continue
        order = tuple(node.attributes["perm"].as_ints())
        if (weight, order) not in folded:
            array = np.ascontiguousarray(weight.const_value.numpy().transpose(order))
            tensor = ir.tensor(array, name=f"{weight.name}_transposed")
            fresh = ir.Value(name=tensor.name, type=weight.type, shape=ir.Shape(array.shape), const_value=tensor)
            graph.register_initializer(fresh)
            folded[weight, order] = fresh
        _replace(graph, node, folded[weight, order])


def _drop_neutral_arithmetic(graph: ir.Graph) -> None:
    """Remove ``x - 0`` and ``x / 1``: what folding the normalisation leaves of it."""
    neutral = {"Sub": 0.0, "Div": 1.0}
    for node in list(graph):
        if node.op_type not in neutral or node.inputs[0] is None or node.inputs[1] is None:
            continue
        operand = node.inputs[1].const_value
        if operand is None or operand.dtype != ir.DataType.FLOAT:
            continue
        if node.inputs[0].shape == node.outputs[0].shape and (operand.numpy() == neutral[node.op_type]).all():
            _replace(graph, node, node.inputs[0])


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    ir.convenience.replace_all_uses_with(node.outputs[0], value)
    operands = [operand for operand in node.inputs if operand is not None]
    graph.remove(node, safe=True)
    for operand in operands:
        if operand.name and operand.is_initializer() and not operand.uses():
            graph.initializers.pop(operand.name, None)


def _forget_the_build(model: ir.Model) -> None:
    """Drop stack traces and the exporter's notes: they name files of the machine that exported."""
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    graph.doc_string = model.doc_string = None
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
