"""Limits are measured, operations are counted, and a part of a limit is a part."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glia.models import create_model
from glia_bench.options import BUNDLED
from glia_bench.results import Measurement
from glia_bench.roofline import Ceilings, limit_facts, measure_ceilings, model_cost
from glia_bench.subjects import Spec, open_subject
from glia_bench.tables import of_limit
from glia_runtime.manifest import read_manifest
from glia_runtime.scorer import BUNDLED_MODEL
from tests.glia_bench.subjects import recorder


def test_operations_are_those_of_a_plain_vit_twice_and_its_adapters() -> None:
    cost = model_cost(read_manifest(BUNDLED_MODEL))
    assert cost is not None
    # One pass of a plain ViT by hand (width d, N tokens, L blocks): 24 N d^2 + 4 N^2 d a block, and the patches.
    backbone = create_model("glianet", backbone="vit_tiny_patch16_224").get_submodule("backbone")
    width, depth, tokens = 192, 12, 197
    once = depth * (24 * tokens * width**2 + 4 * tokens**2 * width) + 2 * 196 * 768 * width
    assert 2 * once < cost.flops < 2.2 * 2 * once * 1.5  # the adapters are the rest
    assert cost.parameters > sum(parameter.numel() for parameter in backbone.parameters())


def test_every_crop_is_counted() -> None:
    config = {"backbone": "test_vit", "blocks": [4, 5], "cnn": "test_resnet", "frozen_blocks": 2}
    bundled = read_manifest(BUNDLED_MODEL)
    one, four = (
        model_cost(replace(bundled, architecture="glintiqa", config={**config, "crops": side})) for side in (1, 2)
    )
    assert one is not None and four is not None
    assert four.flops == 4 * one.flops > 0
    assert four.parameters == one.parameters


def test_an_architecture_that_is_not_here_has_no_limit(views_artifact: object) -> None:
    assert model_cost(read_manifest(str(views_artifact))) is None


def test_the_limit_is_the_slower_of_the_two() -> None:
    bundled = open_subject(Spec(BUNDLED, backend="onnxruntime"))
    view = np.zeros((2, 224, 224, 3), np.uint8)
    inputs = {"semantic": view, "detail": view}
    computing = limit_facts(bundled, inputs, Ceilings({"fp32": 1e9}, copy=1e15))
    assert computing["limit"] == pytest.approx(1e9 / computing["flops"])
    moving = limit_facts(bundled, inputs, Ceilings({"fp32": 1e15}, copy=1e6))
    weights = BUNDLED_MODEL.stat().st_size
    assert moving["limit"] == pytest.approx(1e6 / ((weights + 2 * view.nbytes) / 2))
    half = Measurement("a", "rate", "images/s", "higher", (moving["limit"] / 2,), moving)
    assert of_limit(half) == "50%"
    twice = Measurement("a", "time", "s", "lower", (2.0,), {"limit": 1.0})
    assert of_limit(twice) == "50%"


def test_narrow_arithmetic_is_never_held_to_less_than_fp32() -> None:
    assert Ceilings({"fp32": 3.0, "bf16": 2.0}, 1.0).peak("bf16") == ("fp32", 3.0)
    assert Ceilings({"fp32": 3.0, "bf16": 9.0}, 1.0).peak("bf16") == ("bf16", 9.0)
    assert Ceilings({"fp32": 3.0}, 1.0).peak("fp16") == ("fp32", 3.0)


def test_the_ceilings_are_measured() -> None:
    threads = torch.get_num_threads()
    recording = recorder()
    ceilings = measure_ceilings(recording, quick=True)
    torch.set_num_threads(threads)
    found = {item.metric: item.median for item in recording.finish().measurements}
    assert ceilings.peaks["fp32"] == max(rate for name, rate in found.items() if name.startswith("fp32"))
    assert ceilings.copy == found["copy bandwidth"]
    # A core of the last ten years adds and multiplies more than once a nanosecond, and copies more than 100 MB/s.
    assert ceilings.peaks["fp32"] > 1e9 and ceilings.copy > 1e8
