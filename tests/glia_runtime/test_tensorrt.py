"""The TensorRT backend over host memory; on a GPU it is tests/glia_export/test_engine_runs.py that runs it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glia_runtime import ArtifactError, BackendError, EngineInfo, Limits, Scorer
from glia_runtime.backends import tensorrt
from glia_runtime.backends.gpu import Gpu
from glia_runtime.backends.slots import filled, run_in_turn
from glia_runtime.backends.tensorrt import TensorRTBackend
from glia_runtime.inputs import Inputs
from tests.glia_runtime import artifacts
from tests.glia_runtime.host_tensorrt import HostCuda, HostTensorRT
from tests.shapes import noise_image

# A sum of 300,000 bytes is exact in float64, which the stand-in sums in; only its float32 result is rounded.
CLOSE = 1e-7

GPU = Gpu("NVIDIA Test", "8.9", "11111111-2222-3333-4444-555555555555", "600.1 CUDA 13.0")


class RecordingSlot:
    """A slot that checks how it is used."""

    def __init__(self, log: list[str], fails_on: int | None) -> None:
        self.log, self.fails_on = log, fails_on
        self.part: int | None = None

    def submit(self, inputs: Inputs) -> None:
        assert self.part is None, "submitted to while in flight"
        self.part = int(inputs["part"][0])
        self.log.append("submit")
        if self.part == self.fails_on:
            raise RuntimeError("it fails")

    def collect(self) -> Any:
        assert self.part is not None
        part, self.part = self.part, None
        self.log.append("collect")
        return np.array([part])

    def drain(self) -> None:
        self.part = None


@given(parts=st.integers(0, 9), slots=st.integers(1, 4))
def test_parts_run_in_turn(parts: int, slots: int) -> None:
    log: list[str] = []
    found = run_in_turn(
        [RecordingSlot(log, None) for _ in range(slots)], [{"part": np.array([i])} for i in range(parts)]
    )
    assert [int(scores[0]) for scores in found] == list(range(parts))
    flying = [log[: index + 1].count("submit") - log[: index + 1].count("collect") for index in range(len(log))]
    assert max(flying, default=0) == min(parts, slots)


@given(parts=st.integers(1, 9), slots=st.integers(1, 4), data=st.data())
def test_nothing_is_left_in_flight_when_a_part_fails(parts: int, slots: int, data: st.DataObject) -> None:
    fails_on = data.draw(st.integers(0, parts - 1))
    used = [RecordingSlot([], fails_on) for _ in range(slots)]
    with pytest.raises(RuntimeError, match="it fails"):
        run_in_turn(used, [{"part": np.array([i])} for i in range(parts)])
    assert [slot.part for slot in used] == [None] * slots


@given(pictures=st.integers(1, 6), fewest=st.integers(1, 6))
def test_short_batches_are_filled_up(pictures: int, fewest: int) -> None:
    inputs = {"a": np.arange(pictures * 3).reshape(pictures, 3), "b": np.arange(pictures)}
    full = filled(inputs, fewest)
    for name, array in inputs.items():
        assert len(full[name]) == max(pictures, fewest)
        np.testing.assert_array_equal(full[name][:pictures], array)
        assert (full[name][pictures:] == array[-1]).all()


# Over host memory


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCuda]:
    """The stand-ins in place of pycuda and the driver; at the end nothing may be left of what was allocated."""
    stand_in = HostCuda()
    monkeypatch.setitem(sys.modules, "pycuda.driver", stand_in)
    monkeypatch.setattr(tensorrt, "find_gpu", lambda: GPU)
    tensorrt._primary_context.cache_clear()
    yield stand_in
    gc.collect()
    tensorrt._primary_context.cache_clear()
    assert (stand_in.contexts, stand_in.sizes, stand_in.locked) == (0, {}, set())


Opened = Callable[..., tuple[TensorRTBackend, HostTensorRT]]


@pytest.fixture
def opened(cuda: HostCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    def open_(kind: Any, fewest: int = 1, max_batch: int = 4, graphs: bool = False) -> Any:
        library = HostTensorRT(cuda, fewest, most=4)
        if graphs:
            library.with_graphs()
        monkeypatch.setitem(sys.modules, "tensorrt", library)
        path = tmp_path / "model.engine"
        path.write_bytes(kind.encode())
        manifest = replace(
            artifacts.manifest_for(path, kind, "trt"),
            engine=EngineInfo("tensorrt", "11.4.0", ("8.9",)),
            limits=Limits(max_batch=max_batch),
        )
        return TensorRTBackend(path, manifest, "cuda"), library

    return open_


@pytest.mark.parametrize("kind", ["views", "image"])
@pytest.mark.parametrize("fewest", [1, 3])
def test_scores(opened: Opened, kind: Any, fewest: int) -> None:
    backend, library = opened(kind, fewest)
    images = [noise_image(224 + 3 * index, 400 - index) for index in range(11)]
    scores = Scorer(backend).score(images[:5])
    np.testing.assert_allclose(scores, [artifacts.expected_score(image, kind) for image in images[:5]], atol=CLOSE)
    assert library.batches == [4, fewest] and library.contexts == 2  # the second part held one picture
    again = [backend_scores for n in (11, 1, 7) for backend_scores in Scorer(backend).score(images[:n])]
    expected = [artifacts.expected_score(image, kind) for n in (11, 1, 7) for image in images[:n]]
    np.testing.assert_allclose(again, expected, atol=CLOSE)
    assert library.contexts == 2
    assert (backend.timing.pictures, backend.timing.runs) == (24, len(library.batches))


def test_a_larger_picture_than_usual_makes_the_memory_grow(
    opened: Opened, cuda: HostCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "_USUAL_BYTES", 200_000)
    backend, _ = opened("image")
    assert max(map(len, cuda.sizes.values())) == 200_000
    images = [noise_image(224, 224), noise_image(1100, 1199), noise_image(230, 240)]
    for image in images:
        np.testing.assert_allclose(Scorer(backend).score([image]), artifacts.expected_score(image, "image"), atol=CLOSE)
    assert max(map(len, cuda.sizes.values())) == images[1].nbytes
    assert len(cuda.sizes) == 3  # images, sizes and score: what was outgrown is freed


def test_one_in_flight_where_the_gpu_has_no_room_for_two(opened: Opened, cuda: HostCuda) -> None:
    backend, library = opened("views")
    cuda.free_bytes = 2 * library.context_bytes
    images = [noise_image(240, 240)] * 9
    np.testing.assert_allclose(Scorer(backend).score(images), artifacts.expected_score(images[0], "views"), atol=CLOSE)
    assert library.batches[-1] == 1 and library.contexts == 1


def test_one_in_flight_where_the_second_does_not_fit_after_all(opened: Opened, cuda: HostCuda) -> None:
    backend, library = opened("views")
    cuda.allocations_left = 2  # of three
    images = [noise_image(240, 240)] * 9
    np.testing.assert_allclose(Scorer(backend).score(images), artifacts.expected_score(images[0], "views"), atol=CLOSE)
    assert library.batches[-1] == 1 and len(cuda.sizes) == 3


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_gpu_without_room_is_one_line(opened: Opened, cuda: HostCuda, left: int) -> None:
    cuda.allocations_left = left
    with pytest.raises(
        BackendError, match=r"model.engine: cannot be loaded on NVIDIA Test .*out of memory\); see with"
    ):
        opened("views")
    assert cuda.sizes == {}


def test_a_file_that_vanishes_is_one_line(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "read_bytes", gone)
    with pytest.raises(BackendError, match=r"cannot be loaded on .*No such file or directory"):
        opened("views")


def test_a_failure_is_one_line_and_the_next_batch_is_scored(opened: Opened) -> None:
    backend, library = opened("views")
    images = [noise_image(224, 224 + index) for index in range(10)]
    library.fail_on_run = 2
    with pytest.raises(BackendError, match=r"tensorrt failed on 8 .*the run refused: out of memory\); try a smaller"):
        Scorer(backend).score(images)
    expected = [artifacts.expected_score(image, "views") for image in images]
    np.testing.assert_allclose(Scorer(backend).score(images), expected, atol=CLOSE)


@pytest.mark.parametrize(("kind", "strategies"), [("views", [1, 1]), ("image", [None, None])])
def test_graphs_are_captured_where_only_the_number_of_pictures_differs(
    opened: Opened, kind: Any, strategies: list[int | None]
) -> None:
    backend, library = opened(kind, graphs=True)
    images = [noise_image(224, 224)] * 6
    np.testing.assert_allclose(Scorer(backend).score(images), artifacts.expected_score(images[0], kind), atol=CLOSE)
    assert library.strategies == strategies


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("other", {}, r"model.engine: tensorrt cannot load it \(not an engine\); export it again"),
        ("views", {"max_batch": 3}, "it takes 4 pictures, and 3 by its manifest"),
    ],
)
def test_engines_that_are_refused(opened: Opened, kind: str, changes: dict[str, int], words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        opened(kind, **changes)
