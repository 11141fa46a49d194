"""The graphs that are exported, as modules."""

import pytest
import torch

from glia.models import QualityModel
from glia.models.pictures import PictureModel
from glia_export.graphs import ImageGraph, example_inputs, graph_of
from glia_runtime.fragments import FragmentSpec
from glia_runtime.view_spec import FragmentViews


@pytest.mark.parametrize("grid", [7, 14])
def test_the_fused_graph_is_the_graph(model: QualityModel, grid: int) -> None:
    """On the CPU through the operator's plain form; its kernel is compared in tests/test_views.py."""
    graph = graph_of(model, "image", as_node=False)
    assert isinstance(graph, ImageGraph)
    spec = FragmentSpec(grid, 224 // grid)
    graph.model.view_spec = FragmentViews(spec)
    inputs = example_inputs("image", model.view_spec)
    # Equal views, but another batch in one product of the resize: a sum may round to the next grey level.
    with torch.inference_mode():
        assert torch.allclose(PictureModel(graph.model, spec)(*inputs), graph(*inputs), atol=1e-2)
