"""Opening an artifact: which file, which backend, and every refusal; the self-test; TorchScript."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from glia_runtime import ArtifactError, BackendError, GliaError, Manifest, ManifestError, Probe, Scorer, write_manifest
from glia_runtime.backends import BACKENDS
from glia_runtime.backends.base import usable_cpus
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
    assert Scorer.open(path, device="cpu").choice == (
        "onnxruntime on cpu: the first backend for onnx that can run here"
    )
    with pytest.raises(BackendError, match="device 'cuda' cannot run onnx artifacts; choose one of: auto, cpu"):
        Scorer.open(path, device="cuda")


def test_a_missing_package_names_its_extra(copy: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        GliaError, match=r"model.onnx: needs onnxruntime, which is not installed: pip install 'glia\[cpu\]'"
    ):
        Scorer.open(copy[0])


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


def test_torchscript(tmp_path: Path, pictures: list[Path]) -> None:
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
    scorer = Scorer.open(path)
    assert scorer.self_test() <= 1e-5  # see test_scorer.CLOSE
    assert [result.error for result in scorer.stream(pictures)] == [None] * len(pictures)
