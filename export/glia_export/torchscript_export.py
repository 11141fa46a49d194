"""A model becomes a TorchScript file: traced, frozen, saved."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch.jit._trace import TracerWarning  # to mypy, torch.jit does not export it

from glia.models import QualityModel
from glia_export.graphs import example_inputs, graph_of
from glia_runtime.manifest import InputKind, Precision


def save_torchscript(model: QualityModel, kind: InputKind, precision: Precision, path: Path) -> None:
    """Trace `model` with the inputs of `kind` and write one file, for any device; `model` is not changed.

    Args:
        model: in float32.
        kind: the inputs.
        precision: "fp32", or "fp16" for a model that computes in float16 up to its head.
        path: the file.
    """
    graph = graph_of(model, kind, as_node=False, half=precision == "fp16")
    with warnings.catch_warnings(), torch.no_grad():
        # torch.jit is deprecated (from Python 3.14 on: not supported) in favour of torch.export, and still what
        # libtorch programs load.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")
        # timm asserts that the views have the model's size: always 224, so the answer the trace records holds. The
        # sizes of pictures are never asked for in Python; the tests run traces on other sizes than the traced ones.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python ", category=TracerWarning)
        traced = torch.jit.trace(graph, example_inputs(kind, model.view_spec), check_trace=False)
        frozen = torch.jit.freeze(traced)
        _follow_the_inputs(frozen.graph)
        content = frozen.save_to_buffer()
    path.write_bytes(content)  # where a full disk is an OSError; torch raises a RuntimeError of its own


def _follow_the_inputs(graph: Any) -> None:  # torch._C.Graph, of which mypy knows only a part
    """Let tensors be made where the inputs are; the trace recorded the device that it was made on."""
    pictures = list(graph.inputs())[1]
    recorded = [node for node in graph.findAllNodes("prim::Constant") if str(node.output().type()) == "Device"]
    if recorded:
        device = graph.create("prim::device", [pictures])
        device.output().setType(torch._C.DeviceObjType.get())
        graph.prependNode(device)
        for node in recorded:
            node.output().replaceAllUsesWith(device.output())
