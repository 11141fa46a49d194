"""Small real artifacts for the runtime's tests: graphs whose scores a line of NumPy can check.

``views``: half the mean grey of each view; ``image``: the mean grey of the picture, by sum and true size, so
that a wrong size or padding shows. Both on a scale of 0..1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from glia_runtime.fragments import Image
from glia_runtime.manifest import (
    InputKind,
    Manifest,
    ParityRow,
    Probe,
    ScoreScale,
    Target,
    View,
    sha256_file,
    write_manifest,
)
from glia_runtime.probe import probe_images
from glia_runtime.views import enlarge, sample_views

FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


def expected_score(image: Image, kind: InputKind) -> float:
    """What the graphs below compute, in float64."""
    if kind == "image":
        return float(enlarge(image).mean(dtype=np.float64) / 255)
    semantic, detail = sample_views(image)
    return float((semantic.mean(dtype=np.float64) + detail.mean(dtype=np.float64)) / 510)


def manifest_for(
    artifact: Path, kind: InputKind, target: Target = "onnx", scores: list[float] | None = None
) -> Manifest:
    return Manifest(
        architecture="mean-grey",
        config={"depth": 0, "nested": {"list": [1, 2.5, None, "text"]}},
        checkpoint_sha256="0" * 64,
        artifact_sha256=sha256_file(artifact),
        artifact_bytes=artifact.stat().st_size,
        target=target,
        input=kind,
        precision="fp32",
        score_scale=ScoreScale(0.0, 1.0, True, "none"),
        parity=(ParityRow("onnxruntime", "fp32", 5, 1e-7, 1e-8, 1.0, 1.0, 1e-4, None, True),),
        # A mean of a million float32 values is good to about 1e-6 whatever the order of summation; 1e-4 is
        # the bound that exports promise on a scale of range 1.
        probe=Probe(tuple(scores or [expected_score(image, kind) for image in probe_images()]), 1e-4),
        opset=18,
        glia_version="0.1.0",
        created="2026-01-01T00:00:00+00:00",
    )


def _save(
    graph_nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    constants: dict[str, Any],
    path: Path,
    outputs: tuple[onnx.ValueInfoProto, ...] = (helper.make_tensor_value_info("score", FLOAT, ["B"]),),
) -> None:
    graph = helper.make_graph(
        graph_nodes,
        "mean_grey",
        inputs,
        list(outputs),
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def expected_map(view: Image) -> npt.NDArray[np.float32]:
    """The map that `save_views` gives: the mean grey of each patch of 16x16 pixels, float32 [14, 14]."""
    means: npt.NDArray[np.float32] = view.reshape(14, 16, 14, 16, 3).mean((1, 3, 4), dtype=np.float64).astype("f4")
    return means


def save_views(path: Path, *, nan_on_black: bool = False, map_view: View | None = None) -> Manifest:
    """Write the views graph; with `nan_on_black` it divides by the mean once too often, `map_view` adds a map."""
    nodes = []
    for name in ("semantic", "detail"):
        nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=FLOAT))
        nodes.append(helper.make_node("ReduceMean", [f"{name}_float", "axes"], [f"{name}_mean"], keepdims=0))
    nodes.append(helper.make_node("Add", ["semantic_mean", "detail_mean"], ["sum"]))
    nodes.append(helper.make_node("Div", ["sum", "range"], ["mean"]))
    if nan_on_black:
        nodes.append(helper.make_node("Div", ["mean", "mean"], ["one"]))
        nodes.append(helper.make_node("Mul", ["mean", "one"], ["score"]))
    else:
        nodes.append(helper.make_node("Identity", ["mean"], ["score"]))
    inputs = [helper.make_tensor_value_info(name, UINT8, ["B", 224, 224, 3]) for name in ("semantic", "detail")]
    constants: dict[str, Any] = {"axes": np.array([1, 2, 3], np.int64), "range": np.array(510, np.float32)}
    outputs = [helper.make_tensor_value_info("score", FLOAT, ["B"])]
    if map_view is not None:
        nodes.append(helper.make_node("Reshape", [f"{map_view}_float", "patches"], ["patched"]))
        nodes.append(helper.make_node("ReduceMean", ["patched", "within"], ["map"], keepdims=0))
        constants["patches"] = np.array([-1, 14, 16, 14, 16, 3], np.int64)
        constants["within"] = np.array([2, 4, 5], np.int64)
        outputs.append(helper.make_tensor_value_info("map", FLOAT, ["B", 14, 14]))
    _save(nodes, inputs, constants, path, tuple(outputs))
    manifest = replace(manifest_for(path, "views"), map_view=map_view)
    write_manifest(manifest, path)
    return manifest


def save_image(path: Path) -> Manifest:
    """Write the image graph: sum of all samples over the number of true ones."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=FLOAT),
        helper.make_node("ReduceSum", ["float", "axes"], ["sum"], keepdims=0),
        helper.make_node("ReduceProd", ["sizes", "last"], ["pixels"], keepdims=0),
        helper.make_node("Cast", ["pixels"], ["pixels_float"], to=FLOAT),
        helper.make_node("Mul", ["pixels_float", "white"], ["all_white"]),
        helper.make_node("Div", ["sum", "all_white"], ["score"]),
    ]
    inputs = [
        helper.make_tensor_value_info("images", UINT8, ["B", "H", "W", 3]),
        helper.make_tensor_value_info("sizes", INT64, ["B", 2]),
    ]
    constants: dict[str, Any] = {
        "axes": np.array([1, 2, 3], np.int64),
        "last": np.array([1], np.int64),
        "white": np.array(765, np.float32),
    }
    _save(nodes, inputs, constants, path)
    manifest = manifest_for(path, "image")
    write_manifest(manifest, path)
    return manifest


def rewrite(artifact: Path, manifest: Manifest, **changes: object) -> Manifest:
    """Write the manifest anew, with a right digest, some fields changed."""
    changed = replace(manifest, **changes)  # type: ignore[arg-type]
    write_manifest(changed, artifact)
    return changed
