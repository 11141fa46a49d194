"""Engines, really compiled where TensorRT-RTX is installed; test_engine_runs.py opens and runs them."""

import re
import subprocess
import sys
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from glia.models import create_model, save_checkpoint
from glia_export import export_checkpoint, targets, tensorrt_export
from glia_export.cli import app
from glia_export.engine_options import EngineOptions, profile_of
from glia_export.targets import TargetInfo
from glia_export.tensorrt_export import Compiler, build_engine, check_plugin, choose_compiler
from glia_runtime.backends.engines import CLASSIC, RTX, Flavour
from glia_runtime.backends.gpu import Gpu
from glia_runtime.errors import ArtifactError, BackendError, MissingExtraError, UsageError
from glia_runtime.manifest import InputKind, Limits, Precision, Target, manifest_path, read_manifest, verify_artifact
from glia_runtime.view_spec import CropViews, FragmentViews
from tests.glia_export.conftest import Engine, needs_rtx, spread_model

CAPABILITIES = ("8.9",)


def fake_library(version: str = "1.2.3") -> Any:
    members = {"NONE": 0, "CURRENT": 1, "SM75": 2, "SM89": 3, "SM120": 4}
    return SimpleNamespace(__version__=version, ComputeCapability=SimpleNamespace(__members__=members))


def install(monkeypatch: pytest.MonkeyPatch, *, gpu: tuple[int, int] | None, **libraries: Any) -> None:
    """Make these libraries, and no others, importable, and this the machine's GPU."""
    monkeypatch.setattr(tensorrt_export, "import_if_here", libraries.get)

    def find_gpu() -> Gpu:
        if gpu is None:
            raise BackendError("there is none")
        return Gpu("NVIDIA Test", "{}.{}".format(*gpu), "board", "600.1 CUDA 13.0")

    for module in (tensorrt_export, targets):
        monkeypatch.setattr(module, "find_gpu", find_gpu)


@pytest.mark.parametrize(
    ("target", "wanted", "gpu", "classic", "flavour", "capabilities", "said"),
    [
        ("trt-rtx", (), None, True, RTX, ("8.9",), "no GPU here: building for compute capability 8.9"),
        ("trt-rtx", (), (12, 0), True, RTX, ("12.0",), ""),
        ("trt-rtx", ("7.5", "8.9"), None, False, RTX, ("7.5", "8.9"), ""),
        ("trt", (), (9, 0), True, CLASSIC, ("9.0",), "classic TensorRT, for this machine's GPU (9.0)"),
        ("trt", ("8.9",), (9, 0), True, RTX, ("8.9",), "TensorRT-RTX; classic needs the GPU it builds for"),
        ("trt", ("8.9",), None, True, RTX, ("8.9",), "TensorRT-RTX; classic needs the GPU it builds for"),
        ("trt", ("8.9",), (8, 9), False, RTX, ("8.9",), "TensorRT-RTX; classic TensorRT does not import here"),
    ],
)
def test_the_compiler_is_chosen_and_said(
    monkeypatch: pytest.MonkeyPatch,
    target: Target,
    wanted: tuple[str, ...],
    gpu: tuple[int, int] | None,
    classic: bool,
    flavour: Flavour,
    capabilities: tuple[str, ...],
    said: str,
) -> None:
    install(monkeypatch, gpu=gpu, tensorrt_rtx=fake_library(), tensorrt=fake_library("11.4") if classic else None)
    lines: list[str] = []
    compiler = choose_compiler(target, wanted, lines.append)
    assert (compiler.flavour, compiler.compute_capabilities) == (flavour, capabilities)
    assert compiler.info.version == ("11.4" if flavour is CLASSIC else "1.2.3")
    assert said in " ".join(lines) and bool(said) == bool(lines)


def test_what_no_compiler_builds_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpu=(9, 0), tensorrt_rtx=fake_library())
    with pytest.raises(
        UsageError, match=r"TensorRT-RTX 1.2.3 does not build .* 9.0; choose from 7.5, 8.9, 12.0 with"
    ) as raised:
        choose_compiler("trt", (), print)
    assert str(raised.value).endswith(", or for the GPU here: pip install 'glia[trt]', then --to trt")
    with pytest.raises(UsageError, match=r"9.9; choose from .* with --compute-capability$"):
        choose_compiler("trt", ("9.9",), print)
    install(monkeypatch, gpu=None)
    with pytest.raises(MissingExtraError, match=r"--to trt needs tensorrt_rtx.*'glia\[trt-rtx\]'"):
        choose_compiler("trt", (), print)


def test_profiles() -> None:
    views = profile_of(EngineOptions(), "views", FragmentViews())
    assert views.limits == Limits(max_batch=64)
    assert views.shapes["detail"] == ((1, 224, 224, 3), (8, 224, 224, 3), (64, 224, 224, 3))
    image = profile_of(EngineOptions(min_batch=2, max_batch=4, max_size=2000), "image", FragmentViews())
    assert image.limits == Limits(max_batch=4, max_height=2000, max_width=2000)
    assert image.shapes == {
        "images": ((2, 224, 224, 3), (4, 1024, 1024, 3), (4, 2000, 2000, 3)),
        "sizes": ((2, 2), (4, 2), (4, 2)),
    }
    assert profile_of(EngineOptions(opt_batch=100), "views", FragmentViews()).max_batch == 100
    crops = profile_of(EngineOptions(), "views", CropViews())  # 25 to a picture
    assert crops.shapes == {"crops": ((1, 25, 224, 224, 3), (1, 25, 224, 224, 3), (2, 25, 224, 224, 3))}
    assert profile_of(EngineOptions(), "image", CropViews()).limits == Limits(1, 224, 4096, 4096)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions(("89",)), "write it like 8.9"),
        (EngineOptions(min_batch=0), "each must be 1 or more"),
        (EngineOptions(min_batch=4, max_batch=2), "batches of 4, 2: .* in rising order"),
        (EngineOptions(max_size=500), "--max-size 500: choose 1009 .* to 32768"),
        (EngineOptions(max_size=40_000), "--max-size 40000: choose 1009 .* to 32768"),
    ],
)
def test_options_out_of_range(options: EngineOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        profile_of(options, "image", FragmentViews())


@needs_rtx
def test_the_plugin_is_for_pictures(tmp_path: Path) -> None:
    for target, kind in (("trt", "views"), ("trt-rtx", "image")):
        with pytest.raises(UsageError, match="--plugin is for --to trt with --input image"):
            export_checkpoint(
                "m.pt",
                target,  # type: ignore[arg-type]
                tmp_path / "m.engine",
                input=kind,  # type: ignore[arg-type]
                engine=EngineOptions(plugin=True),
            )


@needs_rtx
def test_the_plugin_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpu=(8, 9), tensorrt_rtx=fake_library())
    with pytest.raises(
        UsageError, match=r"^--plugin is for classic TensorRT, and TensorRT-RTX 1\.2\.3 would build here"
    ):
        export_checkpoint("missing.pt", "trt", tmp_path / "m.engine", engine=EngineOptions(plugin=True))
    assert not list(tmp_path.iterdir())


def test_the_plugin_needs_classic_tensorrt_and_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_export, "is_installed", lambda package: True)
    check_plugin(Compiler(CLASSIC, fake_library(), ("8.9",)))
    monkeypatch.setattr(tensorrt_export, "is_installed", lambda package: False)
    with pytest.raises(UsageError, match="compiled by Triton, which is not installed: pip install triton, or leave"):
        check_plugin(Compiler(CLASSIC, fake_library(), ("8.9",)))


@needs_rtx
def test_the_plugin_is_for_fragments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, gpu=(8, 9), tensorrt=fake_library())
    monkeypatch.setattr(tensorrt_export, "is_installed", lambda package: True)
    model = create_model("glintiqa", backbone="test_vit", blocks=(2, 3), frozen_blocks=1, cnn="test_resnet")
    save_checkpoint(model, path := tmp_path / "crops.pt")
    with pytest.raises(UsageError, match=r"crops\.pt: this glintiqa sees no fragments; leave out --plugin$"):
        export_checkpoint(path, "trt", tmp_path / "m.engine", engine=EngineOptions(plugin=True))


@pytest.mark.parametrize(
    ("gpu", "state"),
    [
        (None, None),
        ((8, 9), None),
        ((9, 0), r"TensorRT-RTX 1\.2\.3 does not build for compute capability 9\.0; choose"),
    ],
)
def test_the_list_knows_the_gpu_here(
    monkeypatch: pytest.MonkeyPatch, gpu: tuple[int, int] | None, state: str | None
) -> None:
    install(monkeypatch, gpu=gpu, tensorrt_rtx=fake_library())
    for target in ("trt", "trt-rtx"):
        found = TargetInfo(target, ".engine", "", (), ("fp32",)).unavailable
        assert found is None if state is None else found is not None and re.match(state, found)


def test_views_have_no_size() -> None:
    with pytest.raises(UsageError, match="--max-size is for --input image"):
        profile_of(EngineOptions(max_size=2048), "views", FragmentViews())


@needs_rtx
@pytest.mark.parametrize(
    ("target", "kind", "precision", "capabilities"),
    [
        ("trt-rtx", "image", "fp16", ("8.9", "12.0")),
        ("trt-rtx", "views", "bf16", ("8.9",)),
        ("trt", "views", "fp32", ("8.9",)),
    ],
)
def test_an_engine_and_its_manifest(
    engine: Engine, target: Target, kind: InputKind, precision: Precision, capabilities: tuple[str, ...]
) -> None:
    path = engine(target, kind, precision, EngineOptions(capabilities, max_batch=4))
    manifest = read_manifest(path)
    verify_artifact(path, manifest)
    assert (manifest.target, manifest.input, manifest.precision, manifest.opset) == (target, kind, precision, 20)
    assert manifest.engine is not None and manifest.engine.compute_capabilities == capabilities
    assert manifest.engine.flavour == "tensorrt-rtx" and manifest.engine.version.startswith("1.")
    side = {"image": 4096, "views": None}[kind]
    assert manifest.limits == Limits(max_batch=4, max_height=side, max_width=side)
    assert manifest.parity_graph.startswith("onnx:") and len(manifest.parity_graph) == len("onnx:") + 64
    (row,) = manifest.parity
    assert row.passed and row.precision == precision
    assert ("rounded to bf16" in row.backend) == (precision == "bf16")
    # The twin of a bf16 graph does round: float32 would be within 1e-4 of the range of 100.
    assert (row.max_abs > 0.01) == (precision != "fp32")


INTERRUPTED = """
import os, signal, sys
from glia_export import export_checkpoint
from glia_export.engine_options import EngineOptions

phases = []

def interrupt(phase, done, total):
    if not phases:
        os.kill(os.getpid(), signal.SIGINT)
    phases.append(phase)

checkpoint, output, pictures, *capabilities = sys.argv[1:]
try:
    export_checkpoint(
        checkpoint, "trt-rtx", output, input="views", images=pictures,
        engine=EngineOptions(tuple(capabilities)), progress=interrupt,
    )
except KeyboardInterrupt:
    sys.exit(0 if phases else 3)
sys.exit(4)
"""


@needs_rtx
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, probe: Path, pictures: Path) -> None:
    # In a process of its own: a signal that came a moment late would end the tests' own process.
    arguments = [str(probe), str(tmp_path / "model.rtx"), str(pictures), *CAPABILITIES]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def small_graph(path: Path, operator: str, **attributes: Any) -> Path:
    """``pixels`` uint8 [B, 3, 8, 8] through a Cast and one operator."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node(
            operator, ["x", *(["", "scales"] if operator == "Resize" else [])], ["y"], "odd", **attributes
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3, None, None])],
        [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 0.5, 0.5])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@needs_rtx
def test_a_refusal_names_operator_and_node(tmp_path: Path) -> None:
    graph = small_graph(tmp_path / "odd.onnx", "Resize", mode="cubic", antialias=1)
    compiler = choose_compiler("trt-rtx", CAPABILITIES, print)
    shapes = {"pixels": ((1, 3, 8, 8),) * 3}
    with pytest.raises(ArtifactError, match=r"TensorRT-RTX 1.* operator Resize \(node odd\): .*ntialias"):
        build_engine(graph, tmp_path / "odd.rtx", compiler, shapes, lambda *_: None)
    assert not (tmp_path / "odd.rtx").exists()


@needs_rtx
def test_a_network_that_cannot_be_built(tmp_path: Path) -> None:
    """A profile that contradicts the graph: the builder's own reason is told."""
    graph = small_graph(tmp_path / "small.onnx", "Relu")
    compiler = choose_compiler("trt-rtx", CAPABILITIES, print)
    with pytest.raises(ArtifactError, match=r"built no engine: .+; export --to onnx") as raised:
        build_engine(graph, tmp_path / "s.rtx", compiler, {"pixels": ((1, 3, 9, 8),) * 3}, lambda *_: None)
    assert "it gives no reason" not in str(raised.value)
    assert not (tmp_path / "s.rtx").exists()


def test_precisions_that_engines_have_not(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["m.pt", "--to", "trt-rtx", "--precision", "fp16-weights", "-o", str(tmp_path / "m")]
    )
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    if "not installed" not in line:
        assert line.endswith("--to trt-rtx makes fp32, fp16, bf16 only; for fp16-weights export --to onnx")


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@needs_rtx
@pytest.mark.slow
def test_the_default_model(tmp_path: Path, pictures: Path) -> None:
    """ViT-B/16 at its real size, random weights, as typed."""
    model = spread_model("vit_base_patch16_224.augreg2_in21k_ft_in1k", latent_dim=192, heads=3)
    weights = sum(parameter.numel() for parameter in model.parameters())
    save_checkpoint(model, tmp_path / "model.pt")
    del model
    output = tmp_path / "model.rtx"
    command: list[str | Path] = [Path(sys.executable).with_name("glia-export"), tmp_path / "model.pt", "-o", output]
    command += ["--to", "trt-rtx", "--precision", "fp16", "--compute-capability", "8.9", "--images", pictures]
    begun = monotonic()
    # Started by a small process: a child of this one would begin with what the tests before it have taken.
    started = [sys.executable, "-c", PEAK, *command]
    peak = int(subprocess.run(started, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    # Only told: it depends on the machine.
    print(f"exported in {monotonic() - begun:.0f} s, {output.stat().st_size / 1e6:.0f} MB")
    assert manifest_path(output).exists()
    assert output.stat().st_size < 1.2 * 2 * weights
    assert peak < 4 * 2**20  # kB: the whole export, torch and the comparison included
