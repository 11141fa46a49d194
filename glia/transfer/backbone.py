"""What pictures have in common: the pooled features of a timm backbone."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from glia.data.samples import Picture
from glia.models.backbone import check_tag, load_backbone_weights, load_from_hub
from glia_runtime.errors import ImageError, UsageError

DEFAULT_BACKBONE = "resnet50.tv_in1k"
"""torchvision's first ImageNet weights, which the authors' older scripts load; their description names a ResNet-101."""


class Backbone:
    """Pooled features of a timm model, of pictures of any size.

    Args:
        name: of the timm model.
        weights: a local file of its state dict, or None for timm's hub.
        random_will_do: whether random weights (the same every time) may stand in where the hub is out of reach.

    Attributes:
        remark: one line for people: which weights these are.

    Raises:
        UsageError: no such model, one that takes pictures of one size only, or no weights; when called, a batch too
            large for the GPU.
        CheckpointError: a local file that is missing, broken or of another model.
    """

    def __init__(self, name: str, weights: Path | None, *, random_will_do: bool) -> None:
        if not timm.is_model(name):
            raise UsageError(f"timm has no backbone {name!r}; {DEFAULT_BACKBONE}, for instance, is one")
        check_tag(name)
        with torch.random.fork_rng(devices=[]):  # the caller's generator is left alone
            torch.manual_seed(0)
            self._model = _create(name)
            self.remark = (
                load_backbone_weights(self._model, name, weights)
                if weights
                else _load_from_hub(self._model, name, random_will_do)
            )
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = self._model.to(self._device).eval()
        config = cast("dict[str, Any]", self._model.pretrained_cfg)
        self._mean, self._std = (
            255 * torch.tensor(config[key], device=self._device)[:, None, None] for key in ("mean", "std")
        )

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Picture]) -> list[Tensor | ImageError]:
        """Features of length 1, float32 [D], on the CPU; or why there are none. Pictures of equal size run together.

        Args:
            pictures: uint8 [H, W, 3] each.
        """
        alike: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, picture in enumerate(pictures):
            alike[picture.shape].append(place)
        rows: dict[int, Tensor | ImageError] = {}
        for places in alike.values():
            batch = torch.from_numpy(np.stack([pictures[place] for place in places])).to(self._device)
            try:
                features = self._model((batch.permute(0, 3, 1, 2) - self._mean) / self._std)
            except torch.OutOfMemoryError as error:
                raise UsageError(
                    f"the GPU's memory does not hold {len(places)} pictures at once; lower --batch-size, then go on "
                    "with --resume"
                ) from error
            except RuntimeError as error:  # a few pixels, where the model halves them once too often
                height, width, _ = batch.shape[1:]
                reason = f"{width}x{height} pixels, which the backbone does not take ({str(error).splitlines()[0]})"
                rows |= dict.fromkeys(places, ImageError(reason))
                continue
            rows |= zip(places, normalize(features.float()).cpu(), strict=True)
        return [rows[place] for place in range(len(pictures))]


def nearest(features: Tensor, references: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The references most similar to each picture, exactly, by cosine.

    Args:
        features: float32 [B, D], each of length 1.
        references: float32 [R, D], likewise.
        count: how many, at most R.

    Returns:
        Similarities, float32 [B, count], the largest first, and the references' numbers, int64 [B, count].
    """
    similarities, numbers = (features @ references.T).topk(count)
    return similarities, numbers


def _create(name: str) -> Any:
    """The model with random weights, for pictures of any size."""
    any_size: dict[str, Any] = {"dynamic_img_size": True, "dynamic_img_pad": True}  # what ViTs need for it
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **any_size)
    except TypeError:
        model = timm.create_model(name, pretrained=False, num_classes=0)
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, 250, 330))
    except (AssertionError, RuntimeError) as error:
        raise UsageError(
            f"backbone {name!r} takes pictures of one size only; choose a ResNet or a plain ViT"
        ) from error
    return model


def _load_from_hub(model: nn.Module, name: str, random_will_do: bool) -> str:
    reason = load_from_hub(model, name)
    if not reason:
        return f"backbone {name}: pretrained weights from timm's hub"
    if random_will_do:
        return f"backbone {name}: random weights, since timm's hub gave none; enough for drawn pictures"
    raise UsageError(
        f"backbone {name}: timm's hub gave no weights ({reason}), and random ones find nothing alike; "
        "give a local file as --backbone-weights"
    )
