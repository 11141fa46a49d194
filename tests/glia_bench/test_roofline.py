"""Limits are measured, operations are counted, and a part of a limit is a part."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from glia.models import create_model, save_checkpoint
from glia_bench.cli import app
from glia_bench.machine import this_machine
from glia_bench.options import BUNDLED
from glia_bench.results import Measurement, read_run
from glia_bench.roofline import MACHINE, Ceilings, copy_bytes, limit_facts, measure_ceilings, model_cost
from glia_bench.subjects import Spec, open_subject
from glia_bench.tables import of_limit, times_eager
from glia_runtime.manifest import read_manifest, sha256_file
from glia_runtime.scorer import BUNDLED_MODEL
from tests.glia_bench.subjects import recorder, run_of
from tests.glia_export.conftest import spread_model
from tests.glia_runtime.artifacts import rewrite


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
    computing = limit_facts(bundled, inputs, Ceilings("cpu", {"fp32": 1e9}, copy=1e15))
    assert computing["limit"] == pytest.approx(1e9 / computing["flops"])
    moving = limit_facts(bundled, inputs, Ceilings("cpu", {"fp32": 1e15}, copy=1e6))
    weights = BUNDLED_MODEL.stat().st_size
    assert moving["limit"] == pytest.approx(1e6 / ((weights + 2 * view.nbytes) / 2))
    half = Measurement("a", "rate", "images/s", "higher", (moving["limit"] / 2,), moving)
    assert of_limit(half) == "50%"
    twice = Measurement("a", "time", "s", "lower", (2.0,), {"limit": 1.0})
    assert of_limit(twice) == "50%"


def test_weights_are_read_as_narrow_as_they_are_computed_with(checkpoint: Path) -> None:
    view = np.zeros((1, 224, 224, 3), np.uint8)
    ceilings = Ceilings("cpu", {"fp32": 1e15}, copy=1e6)
    size = checkpoint.stat().st_size
    for backend, part in (("pytorch", 1.0), ("pytorch:fp16", 0.5)):
        opened = open_subject(Spec(str(checkpoint), "cpu", backend))
        facts = limit_facts(opened, {"semantic": view, "detail": view}, ceilings)
        assert facts["bytes_a_picture"] == part * size + 2 * view.nbytes
    # Weights that are stored as fp16 and computed with as fp32 are read as fp16.
    narrow = open_subject(Spec(str(checkpoint), "cpu"))
    narrow.backend.manifest = replace(narrow.manifest, precision="fp16-weights")
    facts = limit_facts(narrow, {"semantic": view, "detail": view}, ceilings)
    assert facts["bytes_a_picture"] == size + 2 * view.nbytes


def test_narrow_arithmetic_is_never_held_to_less_than_fp32() -> None:
    assert Ceilings("cpu", {"fp32": 3.0, "bf16": 2.0}, 1.0).peak("bf16") == ("fp32", 3.0)
    assert Ceilings("cpu", {"fp32": 3.0, "bf16": 9.0}, 1.0).peak("bf16") == ("bf16", 9.0)
    assert Ceilings("cpu", {"fp32": 3.0}, 1.0).peak("fp16") == ("fp32", 3.0)


@pytest.mark.parametrize(
    ("device", "quick", "cache", "memory", "size"),
    [
        ("cpu", False, 503 << 20, 64 << 30, 4 * 503 << 20),
        ("cpu", True, 503 << 20, 64 << 30, 2 * 503 << 20),
        ("cpu", False, 503 << 20, 8 << 30, 1 << 30),  # source and target: a quarter of the memory
        ("cpu", False, 1 << 20, None, 64 << 20),
        ("cpu", False, None, 8 << 30, 64 << 20),
        ("cuda", False, 503 << 20, 8 << 30, 1 << 30),
    ],
)
def test_a_copy_exceeds_the_cache_and_not_the_memory(
    device: str, quick: bool, cache: int | None, memory: int | None, size: int
) -> None:
    machine = replace(this_machine(), cache_bytes=cache, memory_bytes=memory)
    assert copy_bytes(device, machine, quick=quick) == size


def test_without_pytorch_there_are_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = open_subject(Spec(BUNDLED, backend="onnxruntime"))
    monkeypatch.setitem(sys.modules, "torch", None)
    recording = recorder()
    assert measure_ceilings(recording, [bundled], quick=True) is None
    run = recording.finish()
    assert not run.measurements and any("takes PyTorch" in note for note in run.notes)


def test_another_device_has_no_limit_here() -> None:
    bundled = open_subject(Spec(BUNDLED, backend="onnxruntime"))
    view = np.zeros((1, 224, 224, 3), np.uint8)
    assert not limit_facts(bundled, {"semantic": view, "detail": view}, Ceilings("cuda", {"fp32": 1e9}, 1e9))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(spread_model(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_the_command_measures_the_ceilings_and_every_model_against_eager(
    checkpoint: Path, views_artifact: Path, tmp_path: Path
) -> None:
    # An artifact that says it was exported from the checkpoint, and one that says otherwise.
    ours, theirs = tmp_path / "ours.onnx", tmp_path / "theirs.onnx"
    for path, digest in ((ours, sha256_file(checkpoint)), (theirs, "0" * 64)):
        path.write_bytes(views_artifact.read_bytes())
        rewrite(path, read_manifest(views_artifact), checkpoint_sha256=digest)
    models = [option for path in (ours, theirs, checkpoint) for option in ("--model", str(path))]
    output, html = tmp_path / "roofline.json", tmp_path / "roofline.html"
    threads = torch.get_num_threads()
    try:
        options = ["--batch", "3", "--device", "cpu", "--quick", "-o", str(output), "--html", str(html)]
        done = CliRunner().invoke(app, ["roofline", *models, "--backend", "onnxruntime", *options])
    finally:
        torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    run = read_run(output)
    ceilings = {item.metric: item.median for item in run.measurements if item.subject == MACHINE}
    # A core of the last ten years adds and multiplies more than once a nanosecond, and copies more than 100 MB/s.
    assert max(rate for name, rate in ceilings.items() if name.startswith("fp32")) > 1e9
    assert ceilings["copy bandwidth"] > 1e8
    engine = {item.subject.split()[0]: item for item in run.measurements if item.subject != MACHINE}
    assert {item.metric for item in engine.values()} == {"engine rate, batch 3"}
    eager = engine["model.pt"]
    assert 0 < eager.median < eager.facts["limit"]
    ratio = engine["ours.onnx"].median / eager.median
    (shown,) = times_eager(run).values()
    times, _, interval = shown.partition(" (")
    assert float(times) == pytest.approx(ratio, rel=0.01)
    if interval:  # none where the machine drifted
        low, high = (float(end) for end in interval.rstrip(")").split(" to "))
        assert low <= float(times) <= high
    rows = {line.split()[0]: line.rstrip() for line in done.stdout.splitlines()}
    assert rows["ours.onnx"].endswith(shown) and not rows["theirs.onnx"].endswith(shown)
    assert html.read_text().count("data:image/svg+xml;base64,") == 1


def rate(subject: str, target: str, device: str, *values: float) -> Measurement:
    facts = {"target": target, "computes_in": "fp32", "checkpoint": "a", "device": device}
    return Measurement(subject, "engine rate", "images/s", "higher", values, facts)


def test_eager_is_a_measure_on_its_own_device_only() -> None:
    eager = rate("model.pt", "checkpoint", "cuda", 100.0)
    onnx = [rate("on the GPU", "onnx", "cuda", 250.0), rate("on the CPU", "onnx", "cpu", 5.0)]
    assert times_eager(replace(run_of(1.0), measurements=(eager, *onnx))) == {("on the GPU", "engine rate"): "2.50"}


@pytest.mark.parametrize(("later", "shown"), [(100.0, "2.50 (2.50 to 2.50)"), (103.0, "2.50")])
def test_times_eager_has_an_interval_where_nothing_drifted(later: float, shown: str) -> None:
    eager = rate("model.pt", "checkpoint", "cpu", *[100.0] * 6, *[later] * 5)
    onnx = rate("model.onnx", "onnx", "cpu", *[250.0] * 6)
    assert times_eager(replace(run_of(1.0), measurements=(eager, onnx))) == {("model.onnx", "engine rate"): shown}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_eager_and_halved_against_the_peak_of_a_gpu(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "roofline.json"
    backends = ["--backend", "pytorch", "--backend", "pytorch:fp16", "--device", "cuda"]
    done = CliRunner().invoke(app, ["roofline", "--model", str(checkpoint), *backends, "--quick", "-o", str(output)])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert any(item.metric.startswith("fp16 matrix product") for item in run.measurements)
    rates = [item for item in run.measurements if item.unit == "images/s"]
    assert {item.facts["computes_in"] for item in rates} == {"fp32", "fp16"}
    assert all(0 < item.median < item.facts["limit"] for item in rates)
