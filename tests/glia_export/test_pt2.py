"""What an exported AOTInductor package is, that it scores as the model does, and what cannot be compiled."""

import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glia.models import QualityModel
from glia_export import export_checkpoint
from glia_export.parity import BOUNDS, pictures_in, reference_scores
from glia_runtime import Scorer, read_manifest
from glia_runtime.errors import ArtifactError, BackendError, UsageError
from glia_runtime.manifest import InputKind, Limits, Precision, sha256_file, write_manifest
from glia_runtime.view_spec import FragmentViews
from tests.glia_export.conftest import Exported

# Compiling takes most of a minute however small the model is: one package serves the whole suite. Its inputs are
# pictures, and so are those of the package of another architecture in test_glintiqa.py.


@pytest.mark.slow
def test_scores(exported: Exported, model: QualityModel, pictures: Path) -> None:
    path = exported("pt2", "image", "fp32")
    scorer = Scorer.open(path)
    found = pictures_in(pictures, FragmentViews(), Limits(), print)
    images = list(found.images())
    together = scorer.score(images)
    # The bound for fp32, 1e-4 of a scale of 100.
    assert np.abs(together - reference_scores(model, found.views)).max() <= 1e-2
    for image, score in zip(images, together, strict=True):  # batches of 1 and 6 through one package
        # Another batch is another blocking of the same sums.
        assert scorer.score([image])[0] == pytest.approx(score, abs=1e-3)
    manifest = read_manifest(path)
    assert [(row.backend, row.images, row.passed) for row in manifest.parity] == [("aotinductor", 6, True)]
    assert manifest.engine is not None
    assert manifest.engine.flavour == "aotinductor-cpu" and manifest.engine.compute_capabilities == ()
    assert manifest.engine.version == torch.__version__
    scorer.self_test()


@pytest.fixture
def library(exported: Exported, tmp_path: Path) -> Path:
    """The compiled code inside a package."""
    with zipfile.ZipFile(exported("pt2", "image", "fp32")) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        path = tmp_path / "model.so"
        path.write_bytes(archive.read(name))
    return path


def test_the_package_loads_without_glia_and_without_its_caches(exported: Exported) -> None:
    program = f"""
import sys
sys.modules["glia"] = sys.modules["timm"] = None
from glia_runtime import Scorer
Scorer.open({str(exported("pt2", "image", "fp32"))!r}).self_test()
print("scored")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("scored\n", "")


def test_no_newer_instructions_than_promised(library: Path) -> None:
    """AVX-512 would name a zmm register; the same package then kills the process on most desktop CPUs."""
    if (objdump := shutil.which("objdump")) is None:
        pytest.skip("no objdump here")
    listing = subprocess.run([objdump, "-d", library], capture_output=True, text=True, check=True).stdout
    assert "%ymm" in listing and "%zmm" not in listing


def test_as_many_threads_as_the_machine_that_runs_it_has(library: Path) -> None:
    """The fixture compiles under one thread; with that compiled in, no parallel region would be left."""
    assert b"GOMP_parallel" in library.read_bytes()


def test_a_damaged_package_is_one_line(exported: Exported, tmp_path: Path) -> None:
    """Also where somebody made the hash fit."""
    whole = exported("pt2", "image", "fp32")
    content = whole.read_bytes()
    for name, damaged in {"short": content[: len(content) // 2], "text": b"not a package", "empty": b""}.items():
        path = tmp_path / f"{name}.pt2"
        path.write_bytes(damaged)
        write_manifest(
            replace(read_manifest(whole), artifact_sha256=sha256_file(path), artifact_bytes=len(damaged)), path
        )
        with pytest.raises(ArtifactError, match=rf"{name}.pt2: aotinductor cannot load it \(.*\); export it again"):
            Scorer.open(path)


@pytest.mark.parametrize(
    ("compiler", "device", "precision", "reason"),
    [
        ("no-such-compiler", "cpu", "fp32", "needs a C.. compiler, and there is no no-such-compiler"),
        ("g++", "cpu", "fp16", "--device cpu makes fp32 only; for fp16 add --device cuda"),
        pytest.param(
            *("g++", "cuda", "fp16", "compiles for the GPU in this machine, and there is none"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_cannot_be_compiled_here(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiler: str,
    device: str,
    precision: str,
    reason: str,
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(UsageError, match=reason):
        export_checkpoint(
            checkpoint,
            "pt2",
            tmp_path / "model.pt2",
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
        )
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_one_line(probe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (compiler := tmp_path / "broken-g++").write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, str(compiler)))
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(ArtifactError, match=r"could not compile the graph for the CPU .*check the C.. compiler"):
        export_checkpoint(probe, "pt2", tmp_path / "model.pt2", input="views")
    assert [path.name for path in tmp_path.iterdir()] == ["broken-g++"]


def test_other_targets_take_no_device(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--to torchscript compiles for no device"):
        export_checkpoint(checkpoint, "torchscript", tmp_path / "model.ts", device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["image", "views"])
def test_a_package_for_the_gpu(
    checkpoint: Path, model: QualityModel, pictures: Path, tmp_path: Path, kind: InputKind, precision: Precision
) -> None:
    """The fused operator inside ("image"), and CUDA graphs, recorded at a batch size's second run ("views")."""
    path = tmp_path / "model.pt2"
    export_checkpoint(checkpoint, "pt2", path, input=kind, precision=precision, device="cuda", images=pictures)
    engine = read_manifest(path).engine
    assert engine is not None and engine.flavour == "aotinductor-cuda"
    assert engine.compute_capabilities == ("{}.{}".format(*torch.cuda.get_device_capability()),)
    scorer = Scorer.open(path)
    found = pictures_in(pictures, FragmentViews(), Limits(), print)
    images = list(found.images())
    reference = reference_scores(model, found.views)
    bound = BOUNDS[precision].max_abs * model.score_scale.range
    for _ in range(3):
        for batch in (1, 2, 6):  # a graph holds memory of its own for each
            assert np.abs(scorer.score(images[:batch]) - reference[:batch]).max() <= bound
    # Other pictures through the same recording.
    assert np.abs(scorer.score(images[::-1]) - reference[::-1]).max() <= bound
    with pytest.raises(BackendError, match="device 'cpu' cannot run pt2 artifacts; choose one of: auto, cuda"):
        Scorer.open(path, device="cpu")
