"""What an engine needs of a machine: one line for each thing that is missing or does not fit.

The same lines from really built engines are in tests/glia_export/test_engine_runs.py.
"""

from __future__ import annotations

import ctypes
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glia_runtime import ArtifactError, BackendError, EngineInfo, GliaError, Limits, Manifest, Scorer
from glia_runtime.backends import engines, gpu
from glia_runtime.backends.engines import (
    Library,
    Machine,
    check_engine,
    known_capabilities,
    rebuild_command,
    this_machine,
)
from glia_runtime.backends.gpu import Gpu, find_gpu
from tests.glia_runtime import artifacts

ADA = Gpu("NVIDIA GeForce RTX 4090", "8.9", "board", "600.1 CUDA 13.0")
HOPPER = Gpu("NVIDIA H100", "9.0", "board", "600.1 CUDA 13.0")
RTX = {"tensorrt-rtx": Library("1.7.1.116", ("7.5", "8.9", "12.0"))}
CLASSIC = {"tensorrt": Library("11.4.0")}
ARTIFACT = Path("b16.engine")


@pytest.fixture
def manifest(views_artifact: Path) -> Manifest:
    return replace(
        artifacts.manifest_for(views_artifact, "views", "trt"),
        precision="fp16",
        engine=EngineInfo("tensorrt-rtx", "1.7.1.116", ("8.9", "12.0")),
        limits=Limits(max_batch=64),
    )


def test_an_engine_that_fits(manifest: Manifest) -> None:
    check_engine(ARTIFACT, manifest, Machine(ADA, RTX, True))


REBUILD = "glia-export MODEL.pt --to {} --precision fp16 --input views{} --max-batch 64 -o b16.engine"
FOR_BOTH = " --compute-capability 8.9 --compute-capability 12.0"


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        (
            Machine("there is no NVIDIA driver here (libcuda.so.1 does not load)", RTX, True),
            "b16.engine: needs an NVIDIA GPU of compute capability 8.9, 12.0, and there is no NVIDIA driver here "
            "(libcuda.so.1 does not load); run it where there is one, or for this machine: "
            "glia-export MODEL.pt --to onnx",
        ),
        (
            Machine(ADA),
            "b16.engine: is an engine of TensorRT-RTX, and tensorrt_rtx does not import here: "
            "pip install 'glia[trt-rtx]'",
        ),
        (
            Machine(ADA, CLASSIC, True),
            "b16.engine: is an engine of TensorRT-RTX, and tensorrt_rtx does not import here (only TensorRT 11.4.0 "
            "does): pip install 'glia[trt-rtx]', or rebuild it: " + REBUILD.format("trt", " --compute-capability 8.9"),
        ),
        (
            Machine(ADA, {"tensorrt-rtx": Library("1.6.0", ("8.9",)), **CLASSIC}, True),
            "b16.engine: was compiled with TensorRT-RTX 1.7.1.116, which 1.6.0 here cannot read: rebuild it: "
            + REBUILD.format("trt-rtx", FOR_BOTH)
            + ", or pip install tensorrt-rtx==1.7.1.116",
        ),
        (
            Machine(replace(ADA, compute_capability="7.5"), RTX, True),
            "b16.engine: was compiled for compute capability 8.9, 12.0, and the GPU here is NVIDIA GeForce RTX 4090 "
            "(compute capability 7.5): rebuild it: " + REBUILD.format("trt-rtx", " --compute-capability 7.5"),
        ),
        (
            Machine(HOPPER, RTX, True),
            "b16.engine: was compiled for compute capability 8.9, 12.0, and the GPU here is NVIDIA H100 (compute "
            "capability 9.0): rebuild it: pip install 'glia[trt]', then "
            + REBUILD.format("trt", " --compute-capability 9.0"),
        ),
        (
            Machine(HOPPER, RTX | CLASSIC, True),
            "b16.engine: was compiled for compute capability 8.9, 12.0, and the GPU here is NVIDIA H100 (compute "
            "capability 9.0): rebuild it: " + REBUILD.format("trt", " --compute-capability 9.0"),
        ),
        (
            Machine(ADA, RTX, False),
            "b16.engine: engines run through pycuda, which does not import here: pip install pycuda (it is compiled "
            "on the spot, with the CUDA toolkit)",
        ),
    ],
)
def test_what_does_not_fit(manifest: Manifest, machine: Machine, line: str) -> None:
    with pytest.raises(BackendError) as raised:
        check_engine(ARTIFACT, manifest, machine)
    assert str(raised.value) == line


def test_manifests_that_name_no_known_library(manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="does not say what the engine was compiled with"):
        check_engine(ARTIFACT, replace(manifest, engine=None), Machine(ADA, RTX, True))
    with pytest.raises(ArtifactError, match="an engine of trt-next, and this glia runs those of tensorrt-rtx and tens"):
        check_engine(ARTIFACT, replace(manifest, engine=EngineInfo("trt-next", "1")), Machine(ADA, RTX, True))


def test_the_rebuild_command_is_for_a_shell_and_names_the_limits(manifest: Manifest) -> None:
    engine = EngineInfo("tensorrt", "11.4", ("8.9",))
    image = replace(manifest, input="image", limits=Limits(max_batch=8, max_height=2048, max_width=2048))
    words = shlex.split(rebuild_command(Path("my engines/a.rtx"), image, engine, ADA, CLASSIC))
    assert words[:4] == ["glia-export", "MODEL.pt", "--to", "trt"]
    assert words[-6:] == ["--max-batch", "8", "--max-size", "2048", "-o", "my engines/a.rtx"]


def test_known_capabilities() -> None:
    class Library:
        class ComputeCapability:
            __members__ = {"NONE": 0, "CURRENT": 1, "SM75": 2, "SM120": 3}  # noqa: RUF012

    assert known_capabilities(Library) == {"7.5": 2, "12.0": 3}
    assert known_capabilities(object()) == {}


# The driver


class HostDriver:
    """libcuda.so.1 of a machine with one GPU, as cuda.h declares the calls."""

    def __init__(self, start: int = 0, describe: int = 0) -> None:
        self.start, self.describe = start, describe

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.start

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        ctypes.cast(device, ctypes.POINTER(ctypes.c_int))[0] = 5
        return self.describe

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:  # noqa: N802
        assert (length, device.value) == (len(name), 5)
        name.value = b"NVIDIA GeForce RTX 4090"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        assert device.value == 5
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = {75: 8, 76: 9}[attribute]
        return 0

    def cuDeviceGetUuid_v2(self, identity: Any, device: Any) -> int:  # noqa: N802
        assert device.value == 5
        ctypes.cast(identity, ctypes.POINTER(ctypes.c_ubyte * 16))[0][:] = list(range(16))
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = 13010
        return 0


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: HostDriver())
    monkeypatch.setattr(gpu, "_driver_version", lambda: "600.82.07")
    assert find_gpu() == Gpu(
        "NVIDIA GeForce RTX 4090", "8.9", "00010203-0405-0607-0809-0a0b0c0d0e0f", "600.82.07 CUDA 13.1"
    )


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (HostDriver(start=100), "the NVIDIA driver shows no GPU here"),
        (HostDriver(start=803), r"the NVIDIA driver does not start \(cuInit gives CUDA error 803\)"),
        (HostDriver(describe=101), r"does not describe the GPU here \(CUDA error 101\)"),
    ],
)
def test_no_gpu(monkeypatch: pytest.MonkeyPatch, driver: HostDriver, words: str) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    with pytest.raises(BackendError, match=words):
        find_gpu()


def test_a_driver_without_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldDriver(HostDriver):
        def __getattribute__(self, name: str) -> Any:  # as ctypes does for a symbol that is not there
            if name == "cuDeviceGetUuid_v2":
                raise AttributeError(name)
            return super().__getattribute__(name)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: OldDriver())
    with pytest.raises(BackendError, match=r"the NVIDIA driver here is too old .*; update it"):
        find_gpu()


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_DRIVER", "libcuda-that-is-not-there.so.1")
    assert this_machine() == Machine("there is no NVIDIA driver here (libcuda-that-is-not-there.so.1 does not load)")


def test_no_gpu_counts_before_what_is_not_installed(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_DRIVER", "libcuda-that-is-not-there.so.1")
    monkeypatch.setattr(engines, "import_if_here", lambda module: pytest.fail("imported where there is no GPU"))
    path = tmp_path / "a.engine"
    for flavour in ("tensorrt", "tensorrt-rtx"):
        artifacts.rewrite(path, artifacts.save_views(path), target="trt", engine=EngineInfo(flavour, "1.2", ("8.9",)))
        with pytest.raises(BackendError, match=r"a\.engine: needs an NVIDIA GPU of compute capability 8.9, and there"):
            Scorer.open(path)
        with pytest.raises(GliaError, match="device 'cpu' cannot run trt artifacts; choose one of: auto, cuda"):
            Scorer.open(path, device="cpu")
