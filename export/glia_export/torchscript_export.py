"""A model becomes a TorchScript file: traced, frozen, saved."""

import warnings
from pathlib import Path

import torch
from torch.jit._trace import TracerWarning  # to mypy, torch.jit does not export it

from glia.models import QualityModel
from glia_export.graphs import example_inputs, graph_of
from glia_runtime.manifest import InputKind


def save_torchscript(model: QualityModel, kind: InputKind, path: Path) -> None:
    """Trace `model` with the inputs of `kind` and write one file; `model` is not changed."""
    graph = graph_of(model, kind, as_node=False)
    with warnings.catch_warnings(), torch.no_grad():
        # torch.jit is deprecated (from Python 3.14 on: not supported) in favour of torch.export, and still what
        # libtorch programs load.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")
        # timm asserts that the views have the model's size: always 224, so the answer the trace records holds. The
        # sizes of pictures are never asked for in Python; the tests run traces on other sizes than the traced ones.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python ", category=TracerWarning)
        traced = torch.jit.trace(graph, example_inputs(kind, model.fragment_spec), check_trace=False)
        content = torch.jit.freeze(traced).save_to_buffer()
    path.write_bytes(content)  # where a full disk is an OSError; torch raises a RuntimeError of its own
