"""Opening an artifact: which file, which backend, and every refusal; the self-test; TorchScript."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from glia_runtime import (
    ArtifactError,
    BackendError,
    Manifest,
    ManifestError,
    MissingExtraError,
    ParityRow,
    Probe,
    Scorer,
    read_manifest,
    write_manifest,
)
from glia_runtime.backends import BACKENDS, open_backend
from glia_runtime.backends.base import usable_cpus
from glia_runtime.decode import decode
from glia_runtime.manifest import InputKind, Precision
from glia_runtime.scorer import BUNDLED_MODEL, find_model
from tests.glia_runtime import artifacts


def test_find_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model("a.onnx") == Path("a.onnx")
    assert find_model() == BUNDLED_MODEL
    monkeypatch.setenv("GLIA_MODEL", "b.onnx")
    assert find_model() == Path("b.onnx")
    assert find_model("a.onnx") == Path("a.onnx")
    monkeypatch.setenv("GLIA_MODEL", "")
    assert find_model() == BUNDLED_MODEL


def test_no_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("glia_runtime.scorer.BUNDLED_MODEL", tmp_path / "none.onnx")
    with pytest.raises(ArtifactError, match="holds no bundled model; name one with --model"):
        Scorer.open()


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, Manifest]:
    path = tmp_path / "model.onnx"
    return path, artifacts.save_views(path)


def test_an_altered_artifact_is_refused_before_it_is_loaded(copy: tuple[Path, Manifest]) -> None:
    path, _ = copy
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"its SHA-256 .* the file was changed"):
        Scorer.open(path)


def test_an_altered_manifest_is_refused(copy: tuple[Path, Manifest]) -> None:
    path, manifest = copy
    sidecar = path.with_name("model.onnx.json")
    text = sidecar.read_text()
    sidecar.write_text(text.replace(manifest.artifact_sha256, "c" * 64))
    with pytest.raises(ManifestError, match=r"model.onnx.json: it was edited after export"):
        Scorer.open(path)
    artifacts.rewrite(path, manifest, artifact_sha256="c" * 64)
    with pytest.raises(ArtifactError, match="its SHA-256"):
        Scorer.open(path)
    sidecar.unlink()
    with pytest.raises(ManifestError, match="is missing"):
        Scorer.open(path)


@pytest.mark.parametrize("target", ["onnx", "torchscript"])
def test_a_file_the_library_cannot_load(tmp_path: Path, target: Any) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"not a graph")
    write_manifest(artifacts.manifest_for(path, "views", target), path)
    with pytest.raises(ArtifactError, match=r"model.bin: .* cannot load it .*; export it again") as caught:
        Scorer.open(path)
    assert "\n" not in str(caught.value)


def test_a_graph_of_another_kind_than_its_manifest(copy: tuple[Path, Manifest]) -> None:
    path, manifest = copy
    artifacts.rewrite(path, manifest, input="image")
    with pytest.raises(ArtifactError, match=r"its inputs are .'detail', 'semantic'., not those of kind 'image'"):
        Scorer.open(path)


def test_targets_and_devices(copy: tuple[Path, Manifest]) -> None:
    path, _ = copy
    assert Scorer.open(path, device="cpu").choice == "onnxruntime on cpu: the fastest here whose parity row passes"
    with pytest.raises(BackendError, match="device 'tpu' cannot run onnx artifacts; choose one of: auto, cpu, cuda"):
        Scorer.open(path, device="tpu")
    with pytest.raises(BackendError, match="device 'cuda' cannot run openvino; choose one of: auto, cpu"):
        Scorer.open(path, device="cuda", backend="openvino")
    with pytest.raises(BackendError, match="backend 'torchscript' runs no onnx artifacts; choose one of: auto, onnxr"):
        Scorer.open(path, backend="torchscript")


def test_a_missing_package_names_its_extra(copy: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = copy
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    missing = r"model.onnx: needs onnxruntime, which is not installed: pip install 'glia\[{}\]'"
    for device, extra in (("cpu", "cpu"), ("cuda", "gpu")):
        with pytest.raises(MissingExtraError, match=missing.format(extra)):
            Scorer.open(path, device=device, backend="onnxruntime")
    # Without a row the probe on this machine is the proof.
    assert Scorer.open(path).choice.endswith(": no parity row, but the self-test passes")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=missing.format("cpu")):
        Scorer.open(path)


# Which backend


def row(backend: str, precision: Precision = "fp32", *, passed: bool = True, device: str = "cpu") -> ParityRow:
    return ParityRow(backend, precision, 5, 1e-7, 1e-8, 1.0, 1.0, 1e-4, None, passed, device=device)


def test_auto_takes_the_fastest_whose_row_passes(copy: tuple[Path, Manifest]) -> None:
    path, manifest = copy
    for rows, expected in (
        ([row("onnxruntime"), row("openvino")], "openvino on cpu"),
        ([row("onnxruntime"), row("openvino", passed=False)], "onnxruntime on cpu"),
        ([row("onnxruntime"), row("openvino", device="npu")], "onnxruntime on cpu"),
        ([row("onnxruntime", passed=False), row("openvino")], "openvino on cpu"),
    ):
        artifacts.rewrite(path, manifest, parity=rows)
        assert Scorer.open(path, device="cpu").choice == f"{expected}: the fastest here whose parity row passes"
    assert Scorer.open(path, device="cpu", backend="onnxruntime").choice == "onnxruntime on cpu: as named"
    failing = [row(info.name, info.precision or "fp32", passed=False) for info in BACKENDS if info.target == "onnx"]
    artifacts.rewrite(path, manifest, parity=failing)
    with pytest.raises(ArtifactError, match="no row of its parity report passes here"):
        Scorer.open(path, device="cpu")


def test_what_has_no_row_is_proven_by_the_probe(copy: tuple[Path, Manifest]) -> None:
    path, manifest = copy
    assert Scorer.open(path, backend="openvino").choice == "openvino on cpu: no parity row, but the self-test passes"
    artifacts.rewrite(path, manifest, probe=Probe((0.9,) * 5, 1e-4))
    Scorer.open(path, device="cpu")  # its row passes, so the probe is not asked
    with pytest.raises(ArtifactError, match="self-test failed"):
        Scorer.open(path, backend="openvino")


def test_no_bf16_where_the_cpu_has_none(copy: tuple[Path, Manifest]) -> None:
    """As OpenVINO sees an older CPU."""
    path, manifest = copy
    artifacts.rewrite(path, manifest, parity=[row("onnxruntime"), row("openvino", "bf16")])
    program = f"""
from glia_runtime import BackendError, Scorer
print(Scorer.open({str(path)!r}, device="cpu").choice)
try:
    Scorer.open({str(path)!r}, backend="openvino:bf16")
except BackendError as error:
    print(error)
"""
    environment = {**os.environ, "OV_CPU_MAX_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    chosen, refused = done.stdout.splitlines()
    assert chosen == "onnxruntime on cpu: the fastest here whose parity row passes"
    assert refused == f"{path}: openvino:bf16 on cpu: this CPU computes no bfloat16; choose --backend openvino"


def test_cuda_that_is_not_there_is_an_error(copy: tuple[Path, Manifest]) -> None:
    path, _ = copy
    onnxruntime = import_module("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(BackendError, match=r"no CUDA: pip uninstall onnxruntime, then pip install 'glia\[gpu\]'"):
        Scorer.open(path, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no NVIDIA GPU on this machine")
@pytest.mark.parametrize("kind", ["views", "image"])
def test_cuda_scores_as_the_cpu_does(kind: InputKind, tmp_path: Path, pictures: list[Path]) -> None:
    if "CUDAExecutionProvider" not in import_module("onnxruntime").get_available_providers():
        pytest.skip("needs the extra gpu in place of cpu")
    path = tmp_path / "model.onnx"
    artifacts.save_views(path) if kind == "views" else artifacts.save_image(path)
    images = [decode(picture) for picture in pictures]
    on_gpu = Scorer.open(path, device="cuda")
    assert on_gpu.choice == "onnxruntime on cuda: no parity row, but the self-test passes"
    assert Scorer.open(path).choice == on_gpu.choice  # what auto prefers
    expected = [artifacts.expected_score(image, kind) for image in images]
    assert on_gpu.score(images) == pytest.approx(expected, abs=1e-5)  # see test_scorer.CLOSE
    for image, score in zip(images, expected, strict=True):
        assert on_gpu.score([image])[0] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_threads(copy: tuple[Path, Manifest], backend: str) -> None:
    path, manifest = copy
    loaded, *_ = open_backend(path, manifest, "cpu", backend, threads=1)
    assert loaded.threads == 1
    default, *_ = open_backend(path, manifest, "cpu", backend)
    assert default.threads == usable_cpus()


def test_torch_takes_the_threads(torchscript_artifact: Path) -> None:
    import torch

    manifest, before = read_manifest(torchscript_artifact), torch.get_num_threads()
    try:
        for threads in (1, 2):
            open_backend(torchscript_artifact, manifest, "cpu", threads=threads)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_registry_entries_resolve() -> None:
    for info in BACKENDS:
        cls = getattr(import_module(f"glia_runtime.backends.{info.module}"), info.cls)
        assert cls.name == info.name


def test_usable_cpus() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


# Self-test


def test_self_test_passes(artifact: Path) -> None:
    assert 0 <= Scorer.open(artifact).self_test() <= 1e-5  # see test_scorer.CLOSE


def test_self_test_fails_when_a_score_is_off(copy: tuple[Path, Manifest]) -> None:
    path, manifest = copy
    scores = list(manifest.probe.scores)
    scores[3] += 2e-4
    artifacts.rewrite(path, manifest, probe=Probe(tuple(scores), 1e-4))
    with pytest.raises(ArtifactError, match=r"self-test failed: a probe score is off by 0.0002, more than 0.0001"):
        Scorer.open(path).self_test()
    artifacts.rewrite(path, manifest, probe=Probe(tuple(scores[:2]), 1e-4))
    with pytest.raises(ArtifactError, match="2 probe scores"):
        Scorer.open(path).self_test()


# TorchScript


@pytest.fixture
def torchscript_artifact(tmp_path: Path) -> Path:
    torch = pytest.importorskip("torch")

    class MeanGrey(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, semantic: Any, detail: Any) -> Any:
            return (semantic.float().mean(dim=(1, 2, 3)) + detail.float().mean(dim=(1, 2, 3))) / 510

    path = tmp_path / "model.ts"
    view = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        # torch.jit is deprecated in favour of torch.export; TorchScript is what this backend is for.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")
        torch.jit.trace(MeanGrey().eval(), (view, view)).save(str(path))
    write_manifest(artifacts.manifest_for(path, "views", "torchscript"), path)
    return path


def test_torchscript(torchscript_artifact: Path, pictures: list[Path]) -> None:
    scorer = Scorer.open(torchscript_artifact)
    assert scorer.self_test() <= 1e-5  # see test_scorer.CLOSE
    assert [result.error for result in scorer.stream(pictures)] == [None] * len(pictures)
