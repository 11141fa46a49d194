"""GlintIQA against its authors' public description: counts, what is frozen, and the forward pass written out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm

from glia.models import GlintIQA, create_model, load_backbone_weights, load_checkpoint, save_checkpoint
from glia_runtime.errors import CheckpointError, UsageError
from glia_runtime.view_spec import CropViews

TINY = {"backbone": "test_vit", "blocks": (2, 3, 4, 5), "frozen_blocks": 2, "cnn": "test_resnet"}


def tiny(**config: object) -> Any:  # GlintIQA; Any, because torch types every submodule as "Tensor | Module"
    torch.manual_seed(0)
    model = create_model("glintiqa", **{**TINY, **config})
    assert isinstance(model, GlintIQA)
    return model.eval()


def crops(batch: int = 2, count: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, count, 224, 224, 3), dtype=torch.uint8, generator=generator)


def test_trainable_parameters_are_those_counted_by_hand() -> None:
    with torch.device("meta"):
        model = create_model("glintiqa")
    positions, width = 14 * 14, 384
    attention = 3 * (positions**2 + positions) + 2 * positions  # q, k, v; layer norm
    embeddings = sum(width * (channels * k * k + 1) for channels, k in ((256, 4), (512, 2), (1024, 1)))
    aggregation = attention + (3 * width * width + width) + 4 * (attention + 2 * width * width * 9)
    head = (width * width + width) + (width + 1)
    vit_block = 2 * 2 * width + (width * 3 * width + 3 * width) + (width * width + width) + (8 * width**2 + 5 * width)
    first, other = 512 * 256 + 9 * 256**2 + 256 * 1024, 1024 * 256 + 9 * 256**2 + 256 * 1024
    norms = 6 * 2 * (256 + 256 + 1024) + 2 * 1024
    layer3 = first + 512 * 1024 + 5 * other + norms  # the first block has a shortcut of its own
    counted = embeddings + aggregation + head + 5 * vit_block + layer3
    print(f"glintiqa: {counted:,} trainable parameters")
    assert model.num_trainable() == counted == 30_513_301


def test_early_parts_are_frozen_and_all_else_receives_a_gradient() -> None:
    model = tiny().train()
    for block in model.cnn.layer3:  # timm starts a block as its shortcut alone
        torch.nn.init.ones_(block.bn3.weight)
    statistics = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    model(crops(4)).square().sum().backward()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    early = ("vit.patch_embed", "vit.cls_token", "vit.pos_embed", "vit.blocks.0.", "vit.blocks.1.")
    assert frozen == {
        name
        for name, _ in model.named_parameters()
        if name.startswith((*early, "cnn.conv1.", "cnn.bn1.", "cnn.layer1.", "cnn.layer2."))
    }
    idle = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert idle == []
    moved = {name for name, value in model.named_buffers() if "running" in name and not value.equal(statistics[name])}
    assert moved == set()  # layer 3's neither, whose scales and shifts are trained


def test_follows_the_description_written_out() -> None:
    """The forward pass again on the model's weights, from timm's own features and plain formulas."""
    model = tiny()
    picture = crops()
    with torch.no_grad():
        score = model(picture)
        pixels = (picture[:, 0].permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        vit: Any = timm.create_model(
            "test_vit", num_classes=0, img_size=224, features_only=True, out_indices=(2, 3, 4, 5)
        )
        vit.model.load_state_dict(model.vit.state_dict())
        cnn: Any = timm.create_model("test_resnet", num_classes=0).eval()
        cnn.load_state_dict(model.cnn.state_dict(), strict=False)  # layer 4 is not in the model

        def attention(layer: Any, channels: Tensor) -> Tensor:
            q, k, v = (part(channels) for part in (layer.query, layer.key, layer.value))
            q, k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
            shares = ((q @ k.transpose(1, 2)) * 196**-0.5).softmax(-1)
            norm = layer.norm
            return channels + layer_norm(shares @ v, (196,), norm.weight, norm.bias)

        feature = cnn.maxpool(cnn.act1(cnn.bn1(cnn.conv1(pixels))))
        local = []
        for layer, embed, kernel in zip((cnn.layer1, cnn.layer2, cnn.layer3), model.embeddings, (4, 2, 1), strict=True):
            feature = layer(feature)
            local.append(conv2d(feature, embed.weight, embed.bias, stride=kernel).flatten(2))
        mixed = attention(model.local, torch.cat(local, 1))
        feature = torch.einsum("oc,bcp->bop", model.project.weight, mixed) + model.project.bias[:, None]
        for stage, tokens in zip(model.stages, vit(pixels), strict=True):
            joined = attention(stage.channels, torch.cat([tokens.flatten(2), feature], 1))
            feature = conv2d(joined.unflatten(2, (14, 14)), stage.space.weight, padding=1).flatten(2)
        first = model.hidden[0]
        hidden = gelu(feature.mean(2) @ first.weight.T + first.bias)
        expected = (hidden @ model.head.weight.T + model.head.bias)[:, 0]
    assert torch.allclose(score, expected, atol=1e-5)


def test_a_score_is_the_mean_over_crops() -> None:
    model = tiny()
    several = crops(2, 3)
    with torch.no_grad():
        alone = torch.stack([model(several[:, index : index + 1]) for index in range(3)])
        assert torch.allclose(model(several), alone.mean(0), atol=1e-6)
    assert alone.std() > 1e-5
    assert model.view_spec == CropViews()
    assert tiny(crops=1).view_spec.looks == 1


def test_folding_the_normalisation_keeps_the_scores() -> None:
    model = tiny()
    with torch.no_grad():
        before = model(crops())
        model.fold_normalization()
        assert torch.equal(model.std, torch.ones(3))
        assert torch.allclose(model(crops()), before, atol=1e-5)


def test_a_long_vector_is_still_of_length_one_in_float16() -> None:
    from glia.models.glintiqa import _unit

    vectors = torch.full((1, 1, 196), 100.0, dtype=torch.float16)
    assert _unit(vectors).square().float().sum() == pytest.approx(1.0, abs=1e-2)
    assert not _unit(torch.zeros(1, 1, 196, dtype=torch.float16)).isnan().any()


def test_checkpoints_come_back(tmp_path: Path) -> None:
    model = tiny()
    for name in ("model.pt", "model.safetensors"):
        save_checkpoint(model, tmp_path / name)
        again = load_checkpoint(tmp_path / name)
        assert again.config == model.config
        with torch.no_grad():
            assert torch.equal(again(crops()), model(crops()))


def test_backbone_weights_from_a_folder(tmp_path: Path) -> None:
    vit, resnet = timm.create_model("test_vit", img_size=224), timm.create_model("test_resnet")
    donors = {"test_vit": vit, "test_resnet": resnet}
    for name, donor in donors.items():
        torch.save(donor.state_dict(), tmp_path / f"{name}.pth")
    model = tiny()
    for name, part in model.backbones.items():
        assert str(tmp_path / f"{name}.pth") in load_backbone_weights(part, name, tmp_path)
        for key, value in part.state_dict().items():
            assert torch.equal(value, donors[name].state_dict()[key])
    with pytest.raises(CheckpointError, match=r"of this backbone, test_resnet .*name a folder of files"):
        load_backbone_weights(model.cnn, "test_resnet", tmp_path / "test_vit.pth")
    (tmp_path / "test_resnet.pth").unlink()
    with pytest.raises(CheckpointError, match=r"holds no test_resnet.safetensors"):
        load_backbone_weights(model.cnn, "test_resnet", tmp_path)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"blocks": (5, 6)}, "test_vit has blocks 0 to 5, not 6"),
        ({"blocks": (3, 2)}, "rising order, not 3, 2"),
        ({"blocks": ()}, "blocks must be numbers"),
        ({"frozen_blocks": 7}, "frozen_blocks must be 0 to 6, not 7"),
        ({"dropout": 1.0}, "dropout"),
        ({"crops": 0}, "crops must be 1 or more"),
        ({"cnn": "no_such"}, "timm has no backbone 'no_such'"),
        ({"cnn": "resnet18.nothing"}, "no pretrained tag 'nothing' for resnet18"),
        ({"cnn": "test_vit"}, "'test_vit' is not a ResNet"),
        ({"backbone": "vit_base_patch8_224"}, "patches of 8 pixels"),
        ({"backbone": "vit_small_patch14_dinov2"}, "patches of 14 pixels"),
        ({"cnn": "test_efficientnet"}, "'test_efficientnet' is not a ResNet"),
        ({"backbone": "test_resnet"}, "not a plain ViT"),
        ({"latent_dim": 3}, "glintiqa has no config field latent_dim; its fields: backbone, blocks"),
    ],
)
def test_refuses_in_one_line_what_cannot_be_built(config: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        create_model("glintiqa", **{**TINY, **config})
    assert "\n" not in str(caught.value)


def test_views_of_a_picture_go_straight_in() -> None:
    model = tiny()
    (view,) = model.view_spec.sample(np.full((100, 260, 3), 90, np.uint8))
    with torch.no_grad():
        assert model(torch.from_numpy(view)[None]).shape == (1,)
