"""GLIANet against the paper's equations, its parameter count and its switches."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn.functional import gelu

from glia.models import PRESETS, GLIANet, create_model, list_models, register_model
from glia.models.attention import attend
from glia.models.backbone import PLAIN_BACKBONES, create_backbone, load_backbone_weights
from glia_runtime.errors import CheckpointError, UsageError

TINY = {"backbone": "test_vit", "latent_dim": 16, "heads": 2}


def views(batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    semantic, detail = torch.randint(0, 256, (2, batch, 224, 224, 3), dtype=torch.uint8, generator=generator)
    return semantic, detail


def tiny(**config: object) -> Any:  # GLIANet; Any, because torch types every submodule as "Tensor | Module"
    torch.manual_seed(0)
    model = create_model("glianet", **{**TINY, **config})
    assert isinstance(model, GLIANet)
    return model.eval()


def test_default_has_the_papers_eight_million_trainable_parameters() -> None:
    # Issue of record: 8.1 M +- 0.1 M; the paper prints "8M".
    model = create_model("glianet")
    assert 8.0e6 <= model.num_trainable() <= 8.2e6
    backbone = sum(p.numel() for name, p in model.named_parameters() if name.startswith("backbone."))
    assert backbone == sum(p.numel() for p in timm.create_model("vit_base_patch16_224", num_classes=0).parameters())
    assert model.num_trainable() == sum(p.numel() for p in model.parameters()) - backbone


def test_loda_preset_has_lodas_widths() -> None:
    model = create_model("glianet", **PRESETS["loda"].to_dict())
    assert 8.6e6 <= model.num_trainable() <= 8.9e6  # research: 8.77 M in this reading


@pytest.mark.parametrize("config", [{}, {"lgf": False}, {"glr": False}, {"residual": "replace"}, {"up": "wide"}])
def test_every_trainable_parameter_receives_a_gradient(config: dict[str, object]) -> None:
    model = tiny(**config).train()
    model(*views()).sum().backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert idle == []
    assert all(p.grad is None for p in model.backbone.parameters())


def test_follows_the_equations_written_out() -> None:
    """The whole forward pass again, from timm's own forward and Eq. 3 and 4, on the model's weights."""
    model = tiny()
    semantic, detail = views()
    with torch.no_grad():
        score = model(semantic, detail)

        def attention(layer: Any, queries: Tensor, context: Tensor) -> Tensor:
            reference: Any = torch.nn.MultiheadAttention(16, 2, batch_first=True)
            reference.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key_value.weight]))
            reference.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key_value.bias]))
            reference.out_proj.weight.copy_(layer.out.weight)
            reference.out_proj.bias.copy_(layer.out.bias)
            result: Tensor = reference(queries, context, context)[0]
            return result

        vit = model.backbone
        normalized = [((v / 255 - 0.5) / 0.5).permute(0, 3, 1, 2) for v in (semantic, detail)]
        prior = model.project(vit.forward_features(normalized[0]))
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(normalized[1])))
        for index, (adapter, block) in enumerate(zip(model.adapters, vit.blocks, strict=True)):
            norm, first, _, second = adapter.down
            local = second(gelu(first(norm(tokens))))
            fused = local + adapter.fuse_scale * attention(adapter.fuse, local, prior)
            if index < len(vit.blocks) - 1:
                prior = prior + adapter.refine_scale * attention(adapter.refine, prior, local)
            tokens = block(tokens + adapter.up_scale * adapter.up(fused))
        expected = model.head(vit.norm(tokens)[:, 0])[:, 0]
    # fp32 in another order of operations: a few ulp of values around 1
    torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-5)


def test_table_5_rows_use_the_views_they_name() -> None:
    semantic, detail = views()
    for guidance in ("semantic", "detail"):
        for main in ("semantic", "detail"):
            model = tiny(guidance=guidance, main=main)
            with torch.no_grad():
                score = model(semantic, detail)
                other = views(seed=1)
                moved = {
                    "semantic": not torch.equal(model(other[0], detail), score),
                    "detail": not torch.equal(model(semantic, other[1]), score),
                }
            assert moved == {name: name in (guidance, main) for name in moved}


def test_replacement_discards_the_tokens_and_addition_keeps_them() -> None:
    tokens, prior = torch.randn(1, 5, 64), torch.randn(1, 5, 16)
    for residual, kept in (("additive", True), ("replace", False)):
        adapter = tiny(residual=residual).adapters[0]
        with torch.no_grad():
            for parameter in adapter.up.parameters():
                parameter.zero_()
            updated, _ = adapter(tokens, prior)
        assert torch.equal(updated, tokens) == kept


def test_where_it_looked_is_timms_own_attention() -> None:
    """The weights that timm's unfused attention hands to its dropout, in the last block of a real forward pass."""
    model = tiny()
    with torch.no_grad():
        for parameter in model.backbone.blocks[-1].attn.qkv.parameters():
            parameter.mul_(8)  # random weights attend to everything alike
    seen: list[Tensor] = []
    attention = model.backbone.blocks[-1].attn
    attention.fused_attn = False
    attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    for block in model.backbone.blocks[:-1]:
        block.attn.fused_attn = True
    with torch.no_grad():
        score, where = model.look(*views())
        expected = seen[-1].mean(1)[:, 0, 1:].reshape(-1, 14, 14)
        assert torch.equal(score, model(*views()))
    assert where.amax() > 2 * where.mean()
    # shares around 1/196, in another order of summation
    torch.testing.assert_close(where, expected, rtol=1e-4, atol=1e-7)


def test_which_view_it_shows() -> None:
    assert tiny().map_view == "detail"
    assert tiny(main="semantic").map_view == "semantic"
    assert tiny(lgf=False).map_view is None  # the score is read from the prior


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("glianet", TINY),
        ("linear-probe", {"backbone": "test_vit"}),
        ("glintiqa", {"backbone": "test_vit", "blocks": (4, 5), "frozen_blocks": 3, "cnn": "test_resnet"}),
    ],
)
def test_autocast_does_not_round_the_score(name: str, config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = create_model(name, **config).eval()
    shown = views(8) if name != "glintiqa" else (views(8)[0][:, None],)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model.predict(*shown)
    assert output.dtype == torch.float32 and not torch.equal(output, output.bfloat16().float())


def test_folding_the_normalization_keeps_scores() -> None:
    model = tiny()
    with torch.no_grad():
        before = model(*views())
        model.fold_normalization()
        after = model(*views())
    assert torch.equal(model.mean, torch.zeros(3)) and torch.equal(model.std, torch.ones(3))
    # one more rounding of each weight, summed over 768 inputs of up to 255
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_backbone_stays_in_evaluation_mode() -> None:
    model = tiny().train()
    assert model.dropout.training and not model.backbone.training


def test_token_drop_changes_training_only() -> None:
    model = tiny(token_drop=0.5, dropout=0.0)
    with torch.no_grad():
        assert torch.equal(model(*views()), model(*views()))
        model.train()
        assert not torch.equal(model(*views()), model(*views()))


def test_attention_equals_pytorchs() -> None:
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attend(query, key, value), expected)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"backbone": "resnet18"}, "not a plain ViT"),
        ({"backbone": "vit_tiny_r_s16_p8_224"}, "not a plain ViT"),  # its patches come out of a ResNet
        ({"backbone": "no_such_vit"}, "no_such_vit"),
        (
            {"backbone": "vit_tiny_patch16_224.nonsense"},
            "no pretrained tag 'nonsense' for vit_tiny_patch16_224; .*vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        ),
        ({"latent_dim": 10, "heads": 3}, "multiple of heads"),
        ({"residual": "sideways"}, "additive, replace"),
        ({"lgf": False, "glr": False}, "at least one"),
        ({"dropout": 1.0}, "dropout"),
        ({"widht": 3}, "no config field widht"),
    ],
)
def test_refuses_in_one_line_what_cannot_be_built(config: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        create_model("glianet", **{**TINY, **config})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PLAIN_BACKBONES)
def test_the_suggested_backbones_are_accepted(name: str) -> None:
    with torch.device("meta"):  # shapes without memory
        assert create_backbone(name, 224).patch_embed.num_patches == 14 * 14


def test_registry_refuses_unknown_names_and_duplicates() -> None:
    assert "glianet" in list_models()
    with pytest.raises(UsageError, match="known: "):
        create_model("glinet")
    with pytest.raises(ValueError, match="registered already"):
        register_model("glianet")(GLIANet)


def test_backbone_weights_from_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    donor: Any = timm.create_model("test_vit", num_classes=10, img_size=224)
    torch.save(donor.state_dict(), path)
    model = tiny()
    remark = load_backbone_weights(model.backbone, "test_vit", path)
    assert str(path) in remark
    assert torch.equal(model.backbone.patch_embed.proj.weight, donor.patch_embed.proj.weight)
    other = tiny(backbone="vit_tiny_patch16_224")
    with pytest.raises(CheckpointError, match="not the weights of this backbone"):
        load_backbone_weights(other.backbone, "vit_tiny_patch16_224", path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_backbone_weights(model.backbone, "test_vit", path.with_name("gone.pth"))
