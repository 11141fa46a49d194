"""The rivals of Table 6: what learns in each, what it computes, and checkpoints that need no peft."""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from glia.models import TunedViT, create_model, load_backbone_weights, load_checkpoint, save_checkpoint
from glia_runtime.errors import MissingExtraError, UsageError

METHODS = ("linear-probe", "full-fine-tune", "adapter", "lora", "vpt")


def tuned(method: str, **config: object) -> Any:  # a TunedViT; Any, because torch types submodules as Tensor | Module
    torch.manual_seed(0)
    model = create_model(method, backbone="test_vit", **config)
    assert isinstance(model, TunedViT)
    return model.eval()


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    semantic, detail = torch.randint(0, 256, (2, 2, 224, 224, 3), dtype=torch.uint8, generator=generator)
    return semantic, detail


def trained(method: str) -> Any:
    """One step away from the start, where adapters and low-rank products are zero."""
    model = tuned(method, dropout=0.0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def test_trainable_counts_on_vit_b16_are_those_counted_by_hand() -> None:
    width, blocks = 768, 12
    vit = 85_798_656  # timm's vit_base_patch16_224 without its head
    norm = 2 * width
    by_hand = {
        "linear-probe": 0,
        "full-fine-tune": vit,
        "adapter": blocks * (norm + (width * 64 + 64) + (64 * width + width)),  # 1.21 M
        "lora": blocks * 8 * ((width + 3 * width) + (width + width)),  # A and B of qkv, then of proj: 0.44 M
        "vpt": blocks * 50 * width,  # 0.46 M
    }
    with torch.device("meta"):  # shapes without memory
        counts = {method: create_model(method).num_trainable() for method in METHODS}
    assert counts == {method: count + width + 1 for method, count in by_hand.items()}


@pytest.mark.parametrize("method", METHODS)
def test_what_is_trainable_learns_and_nothing_else(method: str) -> None:
    model = trained(method).train()
    model(*views()).square().sum().backward()
    gradients = {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}
    assert gradients == {name: p.requires_grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_sees_the_one_view_it_is_told(method: str) -> None:
    (semantic, detail), (other, another) = views(), views(seed=1)
    for view, model in ((view, tuned(method, view=view)) for view in ("semantic", "detail")):
        with torch.no_grad():
            score = model(semantic, detail)
            assert torch.equal(model(other, detail), score) == (view == "detail")
            assert torch.equal(model(semantic, another), score) == (view == "semantic")


@pytest.mark.parametrize("method", ["linear-probe", "full-fine-tune", "adapter", "lora"])
def test_starts_as_timms_own_forward_pass(method: str) -> None:
    model, plain = tuned(method), tuned("linear-probe")
    model.head.load_state_dict(plain.head.state_dict())
    load_state = {name.replace(".base_layer", ""): t for name, t in model.backbone.state_dict().items()}
    plain.backbone.load_state_dict({name: t for name, t in load_state.items() if "lora_" not in name})
    semantic, detail = views()
    normalized = ((semantic / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = plain.head(plain.backbone.forward_features(normalized)[:, 0])[:, 0]
        # fp32 in another order of operations: a few ulp of values around 1
        torch.testing.assert_close(model(semantic, detail), expected, rtol=1e-4, atol=1e-5)


def test_the_blocks_of_vpt_see_their_own_prompts_and_the_patches() -> None:
    model = tuned("vpt", prompts=3)
    seen: list[Tensor] = []
    for block in model.backbone.blocks:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(*views())
    assert [tokens.shape[1] for tokens in seen] == [1 + 3 + 196] * len(seen)
    for tokens, prompts in zip(seen, model.prompts, strict=True):
        assert torch.equal(tokens[:, 1:4], prompts.expand(2, -1, -1))


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_scores_the_same_and_needs_no_peft(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(method)
    save_checkpoint(model, tmp_path / "model.pt")
    monkeypatch.setitem(sys.modules, "peft", None)  # `import peft` raises
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.architecture == method
    with torch.no_grad():
        # LoRA: W x + B (A x) becomes (W + B A) x, one rounding of each weight
        torch.testing.assert_close(loaded(*views()), model(*views()), rtol=1e-4, atol=1e-5)
    assert loaded.merged() is loaded


def test_lora_without_peft_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'glia\[tune\]'"):
        tuned("lora")


def test_saving_leaves_lora_as_it_was() -> None:
    model = trained("lora")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = model.merged()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any("lora_" in name or "base_layer" in name for name in merged.state_dict())
    with torch.no_grad():
        weight = before["backbone.blocks.0.attn.qkv.base_layer.weight"]
        low_rank = (before[f"backbone.blocks.0.attn.qkv.lora_{side}.default.weight"] for side in "BA")
        expected = weight + 16 / 8 * next(low_rank) @ next(low_rank)
    # the same products in float32, summed over 8
    torch.testing.assert_close(merged.backbone.blocks[0].attn.qkv.weight, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_takes_the_weights_of_a_plain_vit(method: str, tmp_path: Path) -> None:
    donor: Any = timm.create_model("test_vit", num_classes=0, img_size=224)
    torch.save(donor.state_dict(), tmp_path / "vit.pt")
    model = tuned(method)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items() if "lora_" in name}
    load_backbone_weights(model.backbone, "test_vit", tmp_path / "vit.pt")
    held = {name.replace(".base_layer", ""): tensor for name, tensor in model.backbone.state_dict().items()}
    assert all(torch.equal(held[name], tensor) for name, tensor in donor.state_dict().items())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in fresh.items())


def test_lora_resumes_from_its_own_state() -> None:
    model, other = trained("lora"), tuned("lora")
    other.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("method", "config", "says"),
    [
        ("linear-probe", {"view": "sideways"}, "semantic, detail"),
        ("linear-probe", {"dropout": 1.0}, "dropout"),
        ("linear-probe", {"rank": 4}, "no config field rank"),
        ("adapter", {"bottleneck": 0}, "bottleneck must be at least 1"),
        ("lora", {"rank": 0}, "rank must be at least 1"),
        ("vpt", {"prompts": 0}, "prompts must be at least 1"),
    ],
)
def test_refuses_in_one_line_what_cannot_be_built(method: str, config: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        tuned(method, **config)
    assert "\n" not in str(caught.value)
