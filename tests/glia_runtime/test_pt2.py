"""What an AOTInductor package is bound to is compared before anything of it is loaded."""

import io
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glia_runtime import ArtifactError, BackendError, GliaError, Scorer, write_manifest
from glia_runtime.manifest import EngineInfo
from tests.glia_runtime import artifacts

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("engine", "error", "reason"),
    [
        (None, ArtifactError, "does not say that it was compiled for cpu"),
        (EngineInfo("tensorrt", "11.4"), ArtifactError, "does not say that it was compiled for cpu"),
        (
            EngineInfo("aotinductor-cpu", "2.0.0"),
            ArtifactError,
            r"compiled with torch 2.0.0, but torch .* is here .*; export it again here: glia-export MODEL\.pt --to pt2 "
            r"--precision fp32 --input views --device cpu -o \S+/model\.pt2$",
        ),
        pytest.param(
            *(EngineInfo("aotinductor-cuda", torch.__version__, ("8.9",)), BackendError, "torch finds none here"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_refusals(tmp_path: Path, engine: EngineInfo | None, error: type[GliaError], reason: str) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"never read")
    write_manifest(replace(artifacts.manifest_for(path, "views", "pt2"), engine=engine), path)
    with pytest.raises(error, match=rf"model.pt2: .*{reason}"):
        Scorer.open(path)


def test_a_cpu_without_avx2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"never read")
    engine = EngineInfo("aotinductor-cpu", torch.__version__)
    write_manifest(replace(artifacts.manifest_for(path, "views", "pt2"), engine=engine), path)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(ArtifactError, match="compiled for x86-64 CPUs with AVX2, and this one is not"):
        Scorer.open(path)


def test_the_device_is_the_package_s(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"never read")
    engine = EngineInfo("aotinductor-cpu", torch.__version__)
    write_manifest(replace(artifacts.manifest_for(path, "views", "pt2"), engine=engine), path)
    with pytest.raises(BackendError, match="device 'cuda' cannot run pt2 artifacts; choose one of: auto, cpu"):
        Scorer.open(path, device="cuda")


def test_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my model.pt2"
    path.write_bytes(b"never read")
    engine = EngineInfo("aotinductor-cuda", torch.__version__, ("8.9",))
    manifest = artifacts.manifest_for(path, "views", "pt2")
    write_manifest(replace(manifest, engine=engine, precision="fp16"), path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Test")
    with pytest.raises(ArtifactError) as raised:
        Scorer.open(path)
    assert str(raised.value) == (
        f"{path}: compiled for compute capability 8.9, and this GPU (NVIDIA Test) has 9.0; "
        f"export it again here: glia-export MODEL.pt --to pt2 --precision fp16 --input views --device cuda -o '{path}'"
    )


class Payload:
    """Unpickling this would leave a folder behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def hostile_package(path: Path, target: Path) -> None:
    """An archive with a program whose weights are pickled, which torch's own function unpickles."""
    from torch.export.pt2_archive._package import package_pt2

    class Scaled(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, x: Any) -> Any:
            return x * self.weight

    honest, pickled = io.BytesIO(), io.BytesIO()
    package_pt2(honest, exported_programs={"model": torch.export.export(Scaled(), (torch.ones(2),))})
    torch.save(Payload(target), pickled)
    planted = set()
    with zipfile.ZipFile(honest) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("weights_config.json"):
                config = json.loads(content)
                for entry in config["config"].values():
                    entry["use_pickle"] = True
                    planted.add("switch")
                content = json.dumps(config).encode()
            elif "/data/weights/" in name:
                content = pickled.getvalue()
                planted.add("pickle")
            archive.writestr(name, content)
    assert planted == {"switch", "pickle"}  # else torch has moved its weights, and nothing hostile is tested


def test_a_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    path, target = tmp_path / "model.pt2", tmp_path / "executed"
    hostile_package(path, target)
    engine = EngineInfo("aotinductor-cpu", torch.__version__)
    write_manifest(replace(artifacts.manifest_for(path, "views", "pt2"), engine=engine), path)
    with pytest.raises(ArtifactError, match=r"model\.pt2: aotinductor cannot load it"):
        Scorer.open(path)
    assert not target.exists()


def test_a_torch_without_the_private_loader_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"never read")
    engine = EngineInfo("aotinductor-cpu", torch.__version__)
    write_manifest(replace(artifacts.manifest_for(path, "views", "pt2"), engine=engine), path)
    monkeypatch.delattr("torch._C._aoti.AOTIModelPackageLoader")
    with pytest.raises(ArtifactError, match="cannot load it"):
        Scorer.open(path)
