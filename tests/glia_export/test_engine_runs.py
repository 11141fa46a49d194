"""Really built engines, opened: each refusal has its own line; and, where there is a GPU for them, run."""

import gc
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from glia.models import QualityModel
from glia_export import export_checkpoint
from glia_export.cli import app as export_app
from glia_export.engine_options import EngineOptions
from glia_export.parity import BOUNDS, reference_scores
from glia_runtime import ArtifactError, BackendError, GliaError, Scorer, read_manifest, sample_views, write_manifest
from glia_runtime.backends import engines, tensorrt
from glia_runtime.backends.engines import RTX, Library, Machine, import_if_here
from glia_runtime.backends.gpu import Gpu
from glia_runtime.backends.tensorrt import TensorRTBackend, engine_faults, error_logger
from glia_runtime.cli import app as infer_app
from glia_runtime.manifest import InputKind, Precision, manifest_path
from tests.glia_export.conftest import Engine, needs_rtx
from tests.shapes import noise_image

ADA_ONLY = EngineOptions(("8.9",), max_batch=4)
NO_GPU = not torch.cuda.is_available()


def copy_of(engine: Path, folder: Path, manifest_of: Path | None = None) -> Path:
    path = folder / "b16.engine"
    shutil.copy(engine, path)
    shutil.copy(manifest_path(manifest_of or engine), manifest_path(path))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(GliaError) as raised:
        Scorer.open(path)
    line = str(raised.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.fixture
def views(engine: Engine) -> Path:
    return engine("trt-rtx", "views", "bf16", ADA_ONLY)


def on_a_machine_with(monkeypatch: pytest.MonkeyPatch, capability: str, version: str) -> None:
    """Let the checks see another machine than this one."""
    gpu = Gpu("NVIDIA Test", capability, "board", "600.1 CUDA 13.0")
    known = tuple(engines.known_capabilities(import_if_here(RTX.module)))
    machine = Machine(gpu, {RTX.name: Library(version, known)}, has_pycuda=True)
    monkeypatch.setattr("glia_runtime.backends.this_machine", lambda: machine)


@needs_rtx
def test_a_file_that_is_not_the_one_its_manifest_describes(views: Path, engine: Engine, tmp_path: Path) -> None:
    path = copy_of(views, tmp_path)
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    path.write_bytes(flipped)
    assert "the file was changed, or is another one: copy both again" in refusal(path)
    path.write_bytes(data[: len(data) // 2])
    assert refusal(path).startswith(
        f"holds {len(data) // 2} bytes of the {len(data)} that its manifest says, so it was"
    )
    larger = engine("trt", "views", "fp32", ADA_ONLY)
    assert "so that is the manifest of another artifact" in refusal(copy_of(larger, tmp_path, manifest_of=views))
    assert "or has another artifact's manifest: copy both" in refusal(copy_of(views, tmp_path, manifest_of=larger))


@needs_rtx
def test_an_engine_for_another_machine(views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy_of(views, tmp_path)
    manifest = read_manifest(path)
    assert manifest.engine is not None
    again = "glia-export MODEL.pt --to trt-rtx --precision bf16 --input views --compute-capability {} --max-batch 4"
    on_a_machine_with(monkeypatch, "8.9", "1.0.0")
    assert refusal(path) == (
        f"was compiled with TensorRT-RTX {manifest.engine.version}, which 1.0.0 here cannot read: rebuild it: "
        f"{again.format('8.9')} -o {path}, or pip install tensorrt-rtx=={manifest.engine.version}"
    )
    on_a_machine_with(monkeypatch, "12.0", manifest.engine.version)
    assert refusal(path) == (
        "was compiled for compute capability 8.9, and the GPU here is NVIDIA Test (compute capability 12.0): "
        f"rebuild it: {again.format('12.0')} -o {path}"
    )


@needs_rtx
def test_the_rebuild_command_is_one_that_glia_export_takes(
    views: Path, probe: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy_of(views, tmp_path)
    manifest = read_manifest(path)
    assert manifest.engine is not None
    on_a_machine_with(monkeypatch, "12.0", manifest.engine.version)
    command = refusal(path).partition("rebuild it: glia-export MODEL.pt ")[2].split()
    done = CliRunner().invoke(export_app, [str(probe), *command, "--images", str(pictures)])
    assert done.exit_code == 0, done.stderr
    rebuilt = read_manifest(path)
    assert rebuilt.engine == replace(manifest.engine, compute_capabilities=("12.0",))
    assert (rebuilt.precision, rebuilt.input, rebuilt.limits) == ("bf16", "views", manifest.limits)
    assert done.stdout.splitlines()[-1].endswith(f": glia-infer --model {path} PICTURES...")
    if NO_GPU:
        assert done.stdout.splitlines()[-1].startswith("next, on a machine with such a GPU: ")
        assert f"compiled, and not run here: {path}: needs an NVIDIA GPU of" in done.stderr.splitlines()[-1]


@needs_rtx
@pytest.mark.skipif(not NO_GPU, reason="there is a GPU here")
def test_without_a_gpu_it_is_one_line_and_status_2(views: Path, pictures: Path) -> None:
    done = CliRunner().invoke(infer_app, ["--model", str(views), str(pictures / "0.png")])
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{views}: needs an NVIDIA GPU of compute capability 8.9, and there is no NVIDIA driver here" in line


@needs_rtx
def test_what_the_library_finds_wrong_with_a_header(views: Path) -> None:
    library = import_if_here(RTX.module)
    runtime = library.Runtime(error_logger(library))
    data = views.read_bytes()
    assert engine_faults(library, runtime, b"x" * len(data)) == ["malformed engine"]
    assert engine_faults(library, runtime, data[:16]) == ["malformed engine"]
    if NO_GPU:  # it cannot tell whether the engine fits, and is not taken to have found something
        assert engine_faults(library, runtime, data) == []


# On a GPU


def this_gpu() -> EngineOptions:
    """What an engine for this machine is built with; the test is skipped where it could not run."""
    if NO_GPU:
        pytest.skip("no NVIDIA GPU on this machine")
    machine = engines.this_machine()
    assert isinstance(machine.gpu, Gpu), machine.gpu
    if not machine.has_pycuda:
        pytest.skip("pycuda does not import: pip install pycuda")
    if (
        "tensorrt" not in machine.libraries
        and machine.gpu.compute_capability not in machine.libraries.get(RTX.name, Library("")).builds_for
    ):
        pytest.skip(f"no installed TensorRT builds for {machine.gpu}")
    return EngineOptions((machine.gpu.compute_capability,), min_batch=2, max_batch=4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["views", "image"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_scores_as_the_model_does(
    engine: Engine, model: QualityModel, kind: InputKind, precision: Precision, cache: Path
) -> None:
    scorer = Scorer.open(engine("trt", kind, precision, this_gpu()))
    assert list(cache.rglob("*.json"))
    images = [noise_image(224 + 40 * index, 500 - 30 * index) for index in range(9)]
    expected = reference_scores(model, [sample_views(image) for image in images])
    bound = BOUNDS[precision].max_abs * model.score_scale.range
    # Nine are three parts, two in flight, the last of one picture filled up to two; then fixed and short batches, often
    # enough for a graph to be captured and replayed.
    for count in (9, 4, 4, 4, 4, 1, 9):
        assert np.abs(scorer.score(images[:count]) - expected[:count]).max() <= bound
    backend = scorer._backend
    assert isinstance(backend, TensorRTBackend) and len(backend._slots) == tensorrt.IN_FLIGHT


@pytest.mark.gpu
def test_scores_do_not_depend_on_what_is_in_flight(engine: Engine, cache: Path) -> None:
    scorer = Scorer.open(engine("trt", "views", "fp32", this_gpu()))
    images = [noise_image(300, 300 + 10 * index) for index in range(8)]
    together = scorer._backend.run(_batch(images))
    # Not bit-equal: TensorRT-RTX changes to kernels for the very shape once it has compiled them.
    bound = BOUNDS["fp32"].max_abs * scorer.manifest.score_scale.range
    for start in (0, 4):
        alone = scorer._backend.run(_batch(images[start : start + 4]))
        np.testing.assert_allclose(alone, together[start : start + 4], rtol=0, atol=bound)


@pytest.mark.gpu
def test_memory_is_given_back(engine: Engine, cache: Path) -> None:
    path = engine("trt", "views", "fp16", this_gpu())
    Scorer.open(path).score([noise_image(224, 224)] * 9)
    gc.collect()
    free, _ = torch.cuda.mem_get_info()
    for _ in range(5):
        Scorer.open(path).score([noise_image(224, 224)] * 9)
        gc.collect()
    # What the driver itself keeps comes in blocks of 2 MB; one engine left open is more than 8 MB each time.
    assert free - torch.cuda.mem_get_info()[0] <= 16 << 20
    assert float(torch.ones(3, device="cuda").sum()) == 3  # torch still has the context


@pytest.mark.gpu
def test_a_wrong_probe_refuses_to_score(engine: Engine, tmp_path: Path, cache: Path) -> None:
    path = copy_of(engine("trt", "views", "fp16", this_gpu()), tmp_path)
    manifest = read_manifest(path)
    off = replace(manifest.probe, scores=tuple(score + 10 for score in manifest.probe.scores))
    write_manifest(replace(manifest, probe=off), path)
    with pytest.raises(ArtifactError, match="the self-test failed"):
        Scorer.open(path)
    assert not list(cache.rglob("*.json"))


@pytest.mark.gpu
def test_a_foreign_engine_is_refused_by_this_gpu(engine: Engine) -> None:
    this_gpu()
    library = import_if_here(RTX.module)
    if library is None:
        pytest.skip("tensorrt_rtx does not import")
    local = engines.this_machine().gpu
    assert isinstance(local, Gpu)
    other = next(name for name in engines.known_capabilities(library) if name != local.compute_capability)
    path = engine("trt-rtx", "views", "fp16", EngineOptions((other,), max_batch=4))
    with pytest.raises(BackendError, match=f"was compiled for compute capability {other}, and the GPU here is"):
        Scorer.open(path)


@pytest.mark.gpu
def test_export_runs_the_engine_that_it_has_built(
    checkpoint: Path, pictures: Path, tmp_path: Path, cache: Path
) -> None:
    said: list[str] = []
    options = this_gpu()
    path = tmp_path / "model.engine"
    export_checkpoint(
        checkpoint, "trt", path, precision="fp16", input="views", images=pictures, engine=options, say=said.append
    )
    assert said[-1] == "opening the pair as a user will, and scoring the probe"


def _batch(images: list[np.ndarray]) -> dict[str, np.ndarray]:
    semantic, detail = zip(*map(sample_views, images), strict=True)
    return {"semantic": np.stack(semantic), "detail": np.stack(detail)}
