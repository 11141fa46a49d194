"""Verdicts are remembered for what they are bound to, and never stand in the way."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from glia_runtime import ArtifactError, Manifest, Probe, Scorer
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.probe import PROBE_SIZES
from glia_runtime.verdicts import _path, facts_of, has_passed, remember
from tests.glia_runtime import artifacts

MACHINE = {"gpu": "NVIDIA Test", "compute_capability": "8.9", "driver": "600.1", "library": "tensorrt 11.4"}
FACTS = facts_of("a" * 64, MACHINE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def test_a_pass_is_remembered_for_exactly_its_facts(cache: Path) -> None:
    assert not has_passed(FACTS)
    remember(FACTS, 1e-5)
    assert has_passed(FACTS)
    for name in FACTS:
        assert not has_passed({**FACTS, name: FACTS[name] + "0"})
    assert not has_passed(facts_of("b" * 64, MACHINE))
    (path,) = (cache / "glia" / "probes").iterdir()
    assert json.loads(path.read_text()) == {"passed": FACTS, "difference": 1e-5}


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        path = _path(FACTS)
        assert path is not None and path.parent == tmp_path / "home" / ".cache" / "glia" / "probes"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    remember(FACTS, 0.0)
    assert not has_passed(FACTS)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"passed": true}', b"[" * 100_000])
def test_a_broken_file_is_no_verdict_and_is_replaced(content: bytes) -> None:
    path = _path(FACTS)
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert not has_passed(FACTS)
    remember(FACTS, 0.0)
    assert has_passed(FACTS)


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    remember(FACTS, 0.0)
    assert not has_passed(FACTS)
    cache.unlink()
    path = _path(FACTS)
    assert path is not None
    path.mkdir(parents=True)  # a folder where the file should be
    remember(FACTS, 0.0)
    assert not has_passed(FACTS)


# Opening an artifact whose backend wants it probed


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Manifest, dict[str, str]]:
    """An artifact run by ONNX Runtime, as a backend whose verdicts are bound to the machine."""
    machine = dict(MACHINE)

    class Bound(OnnxRuntimeBackend):
        def _load(self) -> None:
            super()._load()
            self.machine = machine

    monkeypatch.setattr(import_module("glia_runtime.backends.onnxruntime"), "OnnxRuntimeBackend", Bound)
    path = tmp_path / "model.onnx"
    return path, artifacts.save_views(path), machine


def pictures_run(scorer: Scorer) -> int:
    return scorer._backend.timing.pictures


def test_the_first_use_on_a_machine_is_probed(probed: tuple[Path, Manifest, dict[str, str]], tmp_path: Path) -> None:
    path, manifest, machine = probed
    assert pictures_run(Scorer.open(path)) == len(PROBE_SIZES)
    assert pictures_run(Scorer.open(path)) == 0
    machine["driver"] = "600.2"
    assert pictures_run(Scorer.open(path)) == len(PROBE_SIZES)
    machine["driver"] = "600.1"
    assert pictures_run(Scorer.open(path)) == 0
    # The manifest is not the artifact: the same file under another name is the one that passed.
    other = tmp_path / "other.onnx"
    other.write_bytes(path.read_bytes())
    artifacts.rewrite(other, manifest)
    assert pictures_run(Scorer.open(other)) == 0


def test_a_failed_probe_refuses_to_score_and_is_tried_again(probed: tuple[Path, Manifest, Any], cache: Path) -> None:
    path, manifest, _ = probed
    wrong = Probe(tuple(score + 1 for score in manifest.probe.scores), manifest.probe.tolerance)
    artifacts.rewrite(path, manifest, probe=wrong)
    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"self-test failed: .* do not use it on this machine, export it again"):
            Scorer.open(path)
    assert not cache.exists()
    artifacts.rewrite(path, manifest)
    assert pictures_run(Scorer.open(path)) == len(PROBE_SIZES)


def test_a_failed_self_test_is_no_longer_a_pass(probed: tuple[Path, Manifest, Any], cache: Path) -> None:
    path, manifest, _ = probed
    scorer = Scorer.open(path)
    assert len(list(cache.rglob("*.json"))) == 1
    probe = Probe(tuple(score + 1 for score in manifest.probe.scores), manifest.probe.tolerance)
    scorer.manifest = replace(manifest, probe=probe)  # as if the machine had begun to compute something else
    for _ in range(2):
        with pytest.raises(ArtifactError, match="self-test failed"):
            scorer.self_test()
        assert not list(cache.rglob("*.json"))
    assert pictures_run(Scorer.open(path)) == len(PROBE_SIZES)


def test_artifacts_that_need_no_probe_leave_no_cache(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "model.onnx"
    artifacts.save_views(path)
    assert pictures_run(Scorer.open(path)) == 0 and not cache.exists()
