"""The backbone inside an exported GLIANet, for whoever has the ONNX file and not the checkpoint."""

import re
from pathlib import Path

import torch
from torch import Tensor

from glia_runtime.errors import CheckpointError, MissingExtraError

# What export calls weights that both streams use, with what it did to them. It forgets the names of those with 8192
# elements or fewer, which it transposes while folding constants; a ViT's matrices are larger from ViT-tiny on.
_NAME = re.compile(r".*\bbackbone\.(?P<name>.+?)(?P<transposed>_transposed)?(_(b?)float16)?")


def read_onnx_backbone(path: Path, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """A backbone's tensors, float32, by their timm names; in float16 graphs they have its precision.

    Args:
        path: an ONNX file made by glia-export from a trained GLIANet over ViT-tiny or larger, such as the bundled one.
        mean: of the backbone's input, grey levels, [3]; export folds both into the patch embedding.
        std: of the backbone's input, grey levels, [3].

    Raises:
        CheckpointError: not an ONNX file, or one without a backbone.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("onnx", "export", "a backbone from an ONNX file") from error
    try:
        stored = onnx.load(path).graph.initializer
    except Exception as error:  # protobuf's DecodeError, which onnx does not name, or the system's errors
        reason = str(error).replace("\n", " ")[:160]
        raise CheckpointError(f"{path}: cannot be read as an ONNX file ({reason})") from error
    tensors: dict[str, Tensor] = {}
    for tensor in stored:
        if found := _NAME.fullmatch(tensor.name):
            value = torch.from_numpy(numpy_helper.to_array(tensor).astype("float32"))
            tensors[found["name"]] = value.T.contiguous() if found["transposed"] else value
    if not {"patch_embed.proj.weight", "patch_embed.proj.bias"} <= tensors.keys():
        raise CheckpointError(f"{path}: holds no backbone; give an exported GLIANet")
    folded, bias = tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"]
    unfolded = {"weight": folded * std.view(1, 3, 1, 1), "bias": bias + (folded * mean.view(1, 3, 1, 1)).sum((1, 2, 3))}
    return tensors | {f"patch_embed.proj.{name}": tensor for name, tensor in unfolded.items()}
