"""Scores of real (if trivial) graphs through ONNX Runtime and TorchScript, and every refusal on the way."""

from __future__ import annotations

import itertools
import re
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from glia_runtime import (
    ArtifactError,
    BackendError,
    ImageError,
    Limits,
    Result,
    Scorer,
    UsageError,
    enlarge,
    read_manifest,
    write_manifest,
)
from glia_runtime.backends import open_backend
from glia_runtime.decode import decode, decode_picture
from tests.glia_runtime import artifacts
from tests.glia_runtime.artifacts import expected_score
from tests.shapes import noise_image

# The graphs take the mean of up to a million float32 values: 1e-5 leaves room for any order of summation, and one
# grey level on one view would be 2e-3.
CLOSE = 1e-5


def assert_close(actual: Any, wanted: Any) -> None:
    np.testing.assert_allclose(actual, wanted, atol=CLOSE, rtol=0)


def expected(images: list[Any], artifact: Path) -> list[float]:
    kind = read_manifest(artifact).input
    return [expected_score(image, kind) for image in images]


def test_score_mixed_sizes(artifact: Path) -> None:
    images = [noise_image(*shape) // (1 + index) for index, shape in enumerate(SHAPES)]
    scores = Scorer.open(artifact).score(images)
    assert scores.dtype == np.float32
    assert scores.shape == (len(images),)
    assert_close(scores, expected(images, artifact))


SHAPES = [(300, 400), (1, 1), (224, 224), (50, 1000), (640, 230), (223, 225), (301, 303), (240, 320), (9, 9)]


def test_the_score_of_a_picture_does_not_depend_on_its_batch(artifact: Path) -> None:
    images = [noise_image(*shape) for shape in SHAPES]
    scorer = Scorer.open(artifact)
    alone = np.concatenate([scorer.score([image]) for image in images])
    assert_close(scorer.score(images), alone)


def test_score_takes_pictures_as_they_are_made(artifact: Path) -> None:
    """A generator is read a batch at a time, not into a list first."""
    scorer = Scorer.open(artifact)
    made = runs_when_made = 0

    def pictures() -> Iterator[Any]:
        nonlocal made, runs_when_made
        for _ in range(20):
            made, runs_when_made = made + 1, scorer._backend.timing.runs
            yield noise_image(230, 240)

    assert scorer.score(pictures()).shape == (20,)
    assert made == 20
    assert runs_when_made == 2  # two batches of 8 had been scored when the last picture was asked for


def test_score_nothing(artifact: Path) -> None:
    scores = Scorer.open(artifact).score([])
    assert scores.shape == (0,)
    assert scores.dtype == np.float32


def test_score_takes_a_stacked_array(artifact: Path) -> None:
    stack = np.stack([noise_image(230, 240), noise_image(230, 240) // 2])
    scores = Scorer.open(artifact).score(stack)
    assert_close(scores, expected(list(stack), artifact))


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((224, 224, 3), np.uint8), "got one array; pass a list"),
        ([np.zeros((224, 224, 3), np.uint8), np.zeros((224, 224))], r"picture 1: image has dtype float64"),
        ([np.zeros((224, 224), np.uint8)], "picture 0: image has shape"),
        ([Image.new("RGB", (9, 9))], "picture 0: image is a Image; pass a uint8 array"),
        (["a.jpg"], "picture 0: image is a str"),
        ([np.zeros((1, 20000, 3), np.uint8)], "picture 0: .*crop it first"),
    ],
)
def test_score_refuses_what_is_no_picture(views_artifact: Path, images: Any, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        Scorer.open(views_artifact).score(images)


def test_batch_limit_of_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    artifacts.rewrite(path, artifacts.save_image(path), limits=Limits(max_batch=2))
    scorer = Scorer.open(path)
    images = [noise_image(*shape) for shape in SHAPES]
    assert_close(scorer.score(images), expected(images, path))
    timing = scorer._backend.timing
    assert timing.pictures == len(images)
    assert timing.runs >= 5
    assert timing.seconds > 0


def test_the_backend_splits_an_oversized_batch(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    manifest = artifacts.rewrite(path, artifacts.save_views(path), limits=Limits(max_batch=2))
    backend, *_ = open_backend(path, manifest)
    views = np.stack([noise_image(224, 224) // (1 + index) for index in range(5)])
    scores = backend.run({"semantic": views, "detail": views})
    assert_close(scores, views.mean(axis=(1, 2, 3)) / 255)
    assert backend.timing.runs == 3


def test_size_limit_of_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    artifacts.rewrite(path, artifacts.save_image(path), limits=Limits(max_height=300, max_width=400))
    scorer = Scorer.open(path)
    assert scorer.score([noise_image(300, 400)]).shape == (1,)
    with pytest.raises(ImageError, match=r"400x301 pixels is over .* limit of 400x300; .*--input views"):
        scorer.score([noise_image(301, 400)])


def test_the_size_limit_holds_for_the_enlarged_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thin strip is within the limit as it comes, and is refused before memory goes into enlarging it."""
    path = tmp_path / "model.onnx"
    artifacts.rewrite(path, artifacts.save_image(path), limits=Limits(max_height=32768, max_width=32768))
    strip = tmp_path / "strip.png"
    Image.new("RGB", (20000, 8)).save(strip)
    scorer = Scorer.open(path)
    enlarged: list[tuple[int, ...]] = []

    def noted(image: Any) -> Any:
        enlarged.append(image.shape)
        return enlarge(image)

    monkeypatch.setattr("glia_runtime.inputs.enlarge", noted)
    reason = r"20000x8 pixels, enlarged to 560000x224, is over the artifact's limit of 32768x32768; crop it"
    with pytest.raises(ImageError, match=f"^picture 0: {reason}"):
        scorer.score([decode(strip)])
    (result,) = scorer.stream([strip])
    assert result.score is None
    assert result.error is not None
    assert re.match(f"{re.escape(str(strip))}: {reason}", result.error)
    assert enlarged == []
    assert scorer.score([noise_image(8, 1000)]).shape == (1,)
    assert enlarged == [(8, 1000, 3)]


# Streaming


def test_stream_in_order_with_failures(artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"text")
    missing = tmp_path / "missing.png"
    narrow = tmp_path / "narrow.png"
    Image.new("RGB", (20000, 1)).save(narrow)
    paths = [broken, *pictures, missing, pictures[0], narrow, broken]
    for batch_size, workers in [(1, 1), (2, 3), (100, 2), (None, None)]:
        results = list(Scorer.open(artifact).stream(paths, batch_size=batch_size, workers=workers))
        assert [result.path for result in results] == [str(path) for path in paths]
        for path, result in zip(paths, results, strict=True):
            if path in (broken, missing, narrow):
                assert result.score is None
                assert result.error is not None
                assert result.error.startswith(f"{path}: ")
                assert result.quality is None
                size = (20000, 1) if path == narrow else (None, None)
                assert (result.width, result.height) == size
            else:
                image = decode(path)
                assert result.error is None and result.score is not None
                assert_close(result.score, expected([image], artifact)[0])
                assert result.quality == pytest.approx(100 * result.score)  # the scale is 0..1, higher is better
                assert (result.height, result.width) == image.shape[:2]  # before enlarging: one is 1x1


def test_stream_of_nothing(artifact: Path) -> None:
    assert list(Scorer.open(artifact).stream([])) == []


def test_stream_refuses_a_single_path_and_bad_numbers(views_artifact: Path) -> None:
    scorer = Scorer.open(views_artifact)
    with pytest.raises(UsageError, match="pass a list of paths"):
        scorer.stream("a.jpg")
    with pytest.raises(UsageError, match="batch size is 0"):
        scorer.stream([], batch_size=0)
    with pytest.raises(UsageError, match="workers is 0"):
        scorer.stream([], workers=0)


def decode_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("glia-decode")]


def test_an_endless_stream_is_read_ahead_by_a_bounded_number(artifact: Path, pictures: list[Path]) -> None:
    read = 0

    def endless() -> Iterator[Path]:
        nonlocal read
        for path in itertools.cycle(pictures):
            read += 1
            yield path

    results = Scorer.open(artifact).stream(endless(), batch_size=4, workers=2)
    for done in range(1, 101):
        assert next(results).error is None
        assert read <= done + 4 + 2 + 4  # in the batch, in the pool, ready
    assert decode_threads()
    results.close()
    assert decode_threads() == []


def test_memory_stays_flat(views_artifact: Path, pictures: list[Path]) -> None:
    results = Scorer.open(views_artifact).stream(itertools.cycle(pictures), batch_size=4, workers=2)
    for _ in range(40):
        next(results)
    tracemalloc.start()
    try:
        for _ in range(40):
            next(results)
        early, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            next(results)
        late, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        results.close()
    # NumPy reports its arrays to tracemalloc; 200 pictures' views would be 60 MB, and 10 pictures may be in
    # flight.
    assert late - early < 5e6


def test_an_error_of_the_source_shuts_the_pool_down(views_artifact: Path, pictures: list[Path]) -> None:
    def failing() -> Iterator[Path]:
        yield from pictures
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        list(Scorer.open(views_artifact).stream(failing()))
    assert decode_threads() == []


def test_scores_that_are_not_finite(tmp_path: Path, pictures: list[Path]) -> None:
    path = tmp_path / "model.onnx"
    artifacts.save_views(path, nan_on_black=True)
    black = tmp_path / "black.png"
    Image.new("RGB", (224, 224)).save(black)
    scorer = Scorer.open(path)
    first, second, third = scorer.stream([pictures[0], black, pictures[2]])
    assert first.score is not None
    assert third.score is not None
    assert second == Result(
        str(black),
        None,
        f"{black}: the score is not a finite number; check the artifact with glia-infer --self-test",
        width=224,
        height=224,
    )
    with pytest.raises(ArtifactError, match="picture 1: the score is not a finite number"):
        scorer.score([decode(pictures[0]), decode(black)])


def test_a_batch_that_fails_is_tried_picture_by_picture(tmp_path: Path, pictures: list[Path]) -> None:
    """A graph that takes one picture at a time, whatever its manifest says."""
    path = tmp_path / "model.onnx"
    artifacts.save_views(path)
    model = onnx.load(path)
    for item in [*model.graph.input, *model.graph.output]:
        item.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    write_manifest(artifacts.manifest_for(path, "views"), path)
    scorer = Scorer.open(path)
    results = list(scorer.stream(pictures, batch_size=3))
    assert [result.error for result in results] == [None] * len(pictures)
    with pytest.raises(BackendError, match=r"model.onnx: onnxruntime failed on 2 picture"):
        scorer.score([noise_image(9, 9)] * 2)


def test_decoding_overlaps_the_graph(
    views_artifact: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a batch is being scored, the pool works on the next one."""
    scorer = Scorer.open(views_artifact)
    started: list[float] = []

    def noted(*arguments: Any) -> Any:
        started.append(time.perf_counter())
        return decode_picture(*arguments)

    spans: list[tuple[float, float]] = []
    run = scorer._backend._run

    def slow(inputs: Any) -> Any:
        begun = time.perf_counter()
        time.sleep(0.2)
        scores = run(inputs)
        spans.append((begun, time.perf_counter()))
        return scores

    monkeypatch.setattr("glia_runtime.pipeline.decode_picture", noted)
    scorer._backend._run = slow  # type: ignore[method-assign]
    list(scorer.stream(pictures * 2, batch_size=2, workers=1))
    assert any(begun < moment < ended for moment in started for begun, ended in spans)
