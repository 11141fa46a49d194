"""What is exported: the model with the inputs of an artifact, DESIGN's "views" and "image"."""

import copy

import torch
from torch import Tensor, nn

from glia.models import QualityModel
from glia.ops.resize import LONGEST_SIDE, bicubic_resize
from glia_export.fragment_sample_onnx import FUNCTION_DOMAIN, FUNCTION_NAME
from glia_runtime.fragments import FragmentSpec
from glia_runtime.manifest import InputKind, input_names
from glia_runtime.view_spec import CropViews, FragmentViews, ViewSpec
from glia_runtime.views import VIEW_SIZE

# Any batch of two mixed sizes will do: it only carries dtypes and ranks, and tells the sides apart.
_EXAMPLE_SIZES = ((224, 260), (240, 231))
# More than anyone runs at once.
_MOST_PICTURES = 1 << 16


Outputs = Tensor | tuple[Tensor, Tensor]
"""``score`` float32 [B], and from a `Looking` model ``map`` float32 [B, G, G]."""


class Looking(nn.Module):
    """A model whose forward pass is `QualityModel.look`."""

    def __init__(self, model: QualityModel) -> None:
        super().__init__()
        self.looking = model
        self.view_spec = model.view_spec

    def forward(self, *views: Tensor) -> tuple[Tensor, Tensor]:
        return self.looking.look(*views)


class ViewsGraph(nn.Module):
    """The views of the model's `ViewSpec`, uint8 [B, ...], to `Outputs`."""

    def __init__(self, model: QualityModel | Looking) -> None:
        super().__init__()
        self.model = model

    def forward(self, *views: Tensor) -> Outputs:
        outputs: Outputs = self.model(*views)
        return outputs


class ImageGraph(nn.Module):
    """``images`` uint8 [B, H, W, 3] and ``sizes`` int64 [B, 2] to `Outputs`.

    Args:
        model: the model, normalisation folded.
        as_node: sample fragments by the ONNX node glia::FragmentSample, which computes nothing in PyTorch; else by
            standard operators. The operator torch.ops.glia.fragment_sample is not used: a TorchScript file would
            then load only where glia has been imported, and the runtime does not need glia.
    """

    def __init__(self, model: QualityModel | Looking, as_node: bool) -> None:
        super().__init__()
        self.model = model
        self.as_node = as_node

    def forward(self, images: Tensor, sizes: Tensor) -> Outputs:
        outputs: Outputs = self.model(*sample_in_graph(images, sizes, self.model.view_spec, as_node=self.as_node))
        return outputs


def sample_in_graph(images: Tensor, sizes: Tensor, spec: ViewSpec, *, as_node: bool) -> tuple[Tensor, ...]:
    """`ViewSpec.sample` of a padded batch: uint8 [B, H, W, 3] and int64 [B, 2] to grey levels [B, *spec.shape] each."""
    if isinstance(spec, CropViews):
        return (gather_crops(images, sizes, spec),)
    assert isinstance(spec, FragmentViews)
    sample = _fragment_node if as_node else gather_fragments
    return bicubic_resize(images, sizes, spec.size), sample(images, sizes, spec.fragments)


def gather_crops(images: Tensor, sizes: Tensor, spec: CropViews) -> Tensor:
    """`CropViews.sample` of a padded batch, standard operators only: float32 [B, grid ** 2, crop, crop, 3]."""
    batch, height, width, _ = images.shape
    first, parts = spec.placement
    place = torch.arange(first, first + spec.grid, device=sizes.device)
    within = torch.arange(spec.crop, device=sizes.device)
    starts = torch.div((sizes - spec.crop)[:, :, None] * place, parts, rounding_mode="floor")
    source = starts[:, :, :, None] + within  # [B, 2, grid, crop]
    picture = torch.arange(batch, device=sizes.device) * height
    rows = (picture[:, None, None] + source[:, 0])[:, :, None, :, None]
    address = rows * width + source[:, 1][:, None, :, None, :]  # [B, grid, grid, crop, crop]
    # Cast first: TensorRT lets a UINT8 tensor feed nothing else.
    pixels = images.to(torch.float32).reshape(-1, 3).index_select(0, address.flatten())
    return pixels.reshape(batch, *spec.shape)


def gather_fragments(images: Tensor, sizes: Tensor, spec: FragmentSpec) -> Tensor:
    """`glia_runtime.fragments.fragment_sample` of a padded batch, zero offsets, standard operators only.

    Args:
        images: uint8 [B, H, W, 3].
        sizes: int64 [B, 2].
        spec: grid and fragment.

    Returns:
        uint8 [B, S, S, 3], S = grid * fragment.
    """
    position = torch.arange(spec.size, device=sizes.device)
    cell = torch.div(position, spec.fragment, rounding_mode="floor")
    within = position - cell * spec.fragment
    step = torch.div(sizes, spec.grid, rounding_mode="floor")[:, :, None]
    source = torch.minimum(step * cell, (sizes - spec.fragment)[:, :, None]) + within  # [B, 2, S]
    picture = torch.arange(images.shape[0], device=sizes.device)[:, None, None]
    return images[picture, source[:, 0, :, None], source[:, 1, None, :]]


def _fragment_node(images: Tensor, sizes: Tensor, spec: FragmentSpec) -> Tensor:
    mosaic: Tensor = torch.onnx.ops.symbolic(
        f"{FUNCTION_DOMAIN}::{FUNCTION_NAME}",
        (images, sizes),
        attrs={"grid": spec.grid, "fragment": spec.fragment},
        dtype=torch.float32,
        shape=(images.shape[0], spec.size, spec.size, 3),
        version=1,
    )
    return mosaic


def graph_of(
    model: QualityModel, kind: InputKind, *, as_node: bool, half: bool = False, maps: bool = False
) -> nn.Module:
    """A copy of `model`, its normalisation folded into the first layer, behind the inputs of `kind`; maybe halved.

    With `maps` it has a second output, the map of `QualityModel.look`.
    """
    folded = copy.deepcopy(model).eval()
    folded.requires_grad_(False)
    folded.fold_normalization()
    if half:
        folded.halve()
    network = Looking(folded) if maps else folded
    graph = ViewsGraph(network) if kind == "views" else ImageGraph(network, as_node)
    return graph.eval()


def example_inputs(kind: InputKind, spec: ViewSpec) -> tuple[Tensor, ...]:
    """Tensors to trace with, in the order of `glia_runtime.manifest.input_names`."""
    generator = torch.Generator().manual_seed(0)
    batch = len(_EXAMPLE_SIZES)

    def grey(*shape: int) -> Tensor:
        return torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)

    if kind == "views":
        return tuple(grey(*spec.shape) for _ in spec.names)
    sizes = torch.tensor(_EXAMPLE_SIZES)
    height, width = sizes.amax(0).tolist()
    return grey(height, width, 3), sizes


def dynamic_shapes(kind: InputKind, spec: ViewSpec) -> dict[str, object]:
    """Which dimensions vary, for torch.export: the batch, and a picture's height and width.

    Their upper bounds are finite because of Inductor. Ahead of time it asks what a product of lengths may reach, and
    where one has no bound it goes by the example's: 32 bits, which a batch of large pictures overflows.
    """
    batch = torch.export.Dim("batch", max=_MOST_PICTURES // spec.looks)
    names = input_names(kind, spec)
    if kind == "views":
        return {"views": tuple({0: batch} for _ in names)}  # by the name of the argument: `ViewsGraph.forward`
    first, second = names
    height, width = (torch.export.Dim(name, min=VIEW_SIZE, max=LONGEST_SIDE) for name in ("height", "width"))
    return {first: {0: batch, 1: height, 2: width}, second: {0: batch}}
