"""Pretrained parts of a model: which timm ViTs may be frozen under one, and where weights come from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import huggingface_hub
import huggingface_hub.constants
import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models import get_pretrained_cfg
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from glia.models.onnx_weights import read_onnx_backbone
from glia_runtime.errors import CheckpointError, UsageError

PLAIN_BACKBONES = tuple(f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large"))
"""Backbones to suggest; any other plain timm ViT will do."""

_HUB_TIMEOUT_SECONDS = 5.0


def create_backbone(name: str, image_size: int) -> VisionTransformer:
    """A timm ViT without head, random weights.

    Raises:
        UsageError: no such timm model or pretrained tag, or not a plain ViT with a class token.
    """
    known = ", ".join(PLAIN_BACKBONES)
    if not timm.is_model(name):
        raise UsageError(f"timm has no backbone {name!r}; try one of {known}")
    check_tag(name)
    try:
        # timm resizes the position embedding of models made for another size (test_vit: 160). Views have one size:
        # a model that takes any would resize it in each exported graph again, antialiased, which TensorRT refuses.
        backbone = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size, dynamic_img_size=False)
    except (RuntimeError, ValueError, TypeError):  # other architectures take no img_size
        backbone = None
    if (
        not isinstance(backbone, VisionTransformer)
        or not isinstance(backbone.patch_embed, PatchEmbed)  # a hybrid's patches come out of a ResNet
        or backbone.cls_token is None
        or backbone.num_prefix_tokens != 1
    ):
        raise UsageError(f"backbone {name!r} is not a plain ViT with one class token; try one of {known}")
    for block in cast("list[Any]", backbone.blocks):
        block.attn.fused_attn = torch.cuda.is_available()  # see glia.models.attention
    return backbone


def check_tag(name: str) -> None:
    """Refuse a pretrained tag, what follows the dot of a timm name, that timm does not know."""
    try:
        get_pretrained_cfg(name)
    except RuntimeError as error:
        architecture, _, tag = name.partition(".")
        known = ", ".join([*timm.list_pretrained(f"{architecture}.*"), architecture])
        raise UsageError(f"timm has no pretrained tag {tag!r} for {architecture}; try one of {known}") from error


def input_statistics(backbone: VisionTransformer) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation the weights were trained with, float [3], in grey levels 0..255."""
    config = cast("dict[str, Any]", backbone.pretrained_cfg)
    return torch.tensor(config["mean"]) * 255, torch.tensor(config["std"]) * 255


def load_backbone_weights(backbone: nn.Module, name: str, source: Path | None, *, random_will_do: bool = True) -> str:
    """Fill a backbone with weights and say in one line which.

    Args:
        backbone: changed in place; may be the leading part of the timm model.
        name: its timm name, for the hub.
        source: a local .safetensors or .pt/.pth file of a timm state dict, an .onnx file made by glia-export (its
            backbone), or a folder with a file called `name`; None for timm's hub.
        random_will_do: whether the weights may stay random where the hub is out of reach.

    Returns:
        One line for people: what was loaded, or that the weights stay random and why.

    Raises:
        CheckpointError: a local file that is missing, broken or of another model; or the hub gave nothing, and random
            weights will not do.
        MissingExtraError: an .onnx file, and onnx is not installed.
    """
    if source is not None:
        source = _named(source, name)
        _load(backbone, name, _tensors_in(source, backbone), source)
        return f"backbone {name}: weights from {source}"
    reason = load_from_hub(backbone, name)
    if reason and not random_will_do:
        raise CheckpointError(
            f"backbone {name}: timm's hub gave no weights ({reason}), and with random ones the figures would mean "
            "nothing; give a local file of them by --backbone-weights FILE"
        )
    if reason:
        return f"backbone {name}: random weights, since timm's hub gave none ({reason})"
    return f"backbone {name}: pretrained weights from timm's hub"


def load_from_hub(backbone: nn.Module, name: str) -> str:
    """Fill a backbone with the weights of timm's hub, and return "", or in a few words why the hub gave none."""
    # A ViT's position embedding is made for its size of picture.
    size = {"img_size": backbone.patch_embed.img_size[0]} if isinstance(backbone, VisionTransformer) else {}
    try:
        with offline_unless_reachable():
            pretrained = timm.create_model(name, pretrained=True, num_classes=0, **size)
    except Exception as error:  # the hub's client raises its own, its transport's and timm's errors
        return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    _load(backbone, name, pretrained.state_dict(), "timm's hub")
    return ""


@contextmanager
def offline_unless_reachable() -> Iterator[None]:
    """Ask the hub once whether it is there; if not, let its client look in its cache only.

    Left alone, the client repeats every request with growing pauses: 100 s until it gave up, measured.
    """
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    if not before:
        try:
            huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=_HUB_TIMEOUT_SECONDS)
        except Exception:  # no route, no name, refused, timed out: the transport's own errors
            huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def _named(source: Path, name: str) -> Path:
    """The file to read: `source` itself, or the one in that folder that is called `name`."""
    if not source.is_dir():
        return source
    files = [source / f"{name}{suffix}" for suffix in (".safetensors", ".pt", ".pth")]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        raise CheckpointError(f"{source}: holds no {files[0].name}; put the backbone's weights there under this name")
    return found


def _tensors_in(source: Path, backbone: nn.Module) -> Mapping[str, Tensor]:
    from glia.models.checkpoint import read_tensors

    if source.suffix == ".onnx" and isinstance(backbone, VisionTransformer):
        return read_onnx_backbone(source, *input_statistics(backbone))
    return read_tensors(source)


def _load(backbone: nn.Module, name: str, tensors: Mapping[str, Tensor], source: object) -> None:
    """Load a timm model's tensors; those of its head and of later parts that `backbone` does not have are left out."""
    with torch.device("meta"):
        whole = timm.create_model(name, pretrained=False).state_dict()
    try:
        found = backbone.load_state_dict(tensors, strict=False)
        if wrong := [*found.missing_keys, *(key for key in found.unexpected_keys if key not in whole)]:
            raise RuntimeError(f"{wrong[0]} is missing, or does not belong there")
    except RuntimeError as error:
        reason = str(error).replace("\n", " ")[:200]
        raise CheckpointError(
            f"{source}: not the weights of this backbone, {name} ({reason}); for several, name a folder of files"
        ) from error
