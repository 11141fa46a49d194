"""The pipeline under bad input and under interruption: every picture has one result, and nothing stays behind."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glia_runtime import ArtifactError, ImageError, Scorer, UsageError, sample_views
from glia_runtime.decode import decode, decode_picture
from glia_runtime.inputs import in_batches
from tests.glia_runtime.artifacts import expected_score
from tests.shapes import noise_image


def decode_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("glia-decode")]


def test_bytes_and_arrays(views_artifact: Path, pictures: list[Path]) -> None:
    scorer = Scorer.open(views_artifact)
    data, image = pictures[0].read_bytes(), noise_image(50, 60)
    # float32 means of 300,000 values: 1e-5 leaves room for any order of summation
    wanted = pytest.approx([expected_score(decode(data), "views"), expected_score(image, "views")], abs=1e-5)
    assert scorer.score([data, image]).tolist() == wanted
    first, second, empty, text, flat = scorer.stream(
        [("upload", data), ("made", image), ("empty", b""), ("text", b"no"), ("flat", image[0])]
    )
    assert [first.score, second.score] == wanted
    assert (first.path, first.width, first.height) == ("upload", 320, 240)
    assert (second.path, second.width, second.height) == ("made", 60, 50)
    assert empty.error == "empty: no data; pass the contents of an image file"
    assert text.error is not None and text.error.startswith("text: not a picture")
    assert flat.error is not None and flat.error.startswith("flat: image has shape [60, 3]; pass RGB")
    with pytest.raises(ImageError, match=r"^picture 1: not a picture"):
        scorer.score([data, b"no"])


def test_draft(views_artifact: Path, image_artifact: Path, tmp_path: Path) -> None:
    image = noise_image(1000, 1100)
    path = tmp_path / "large.png"
    Image.fromarray(image).save(path)
    (result,) = Scorer.open(views_artifact).stream([path], draft=True)
    semantic, detail = sample_views(image, draft=True)
    wanted = (semantic.mean(dtype=np.float64) + detail.mean(dtype=np.float64)) / 510
    assert result.score == pytest.approx(wanted, abs=1e-6)  # the mean itself; exact views differ by more
    assert result.score != pytest.approx(expected_score(image, "views"), abs=1e-6)
    with pytest.raises(UsageError, match="exported with --input views"):
        Scorer.open(image_artifact).stream([path], draft=True)


def test_a_folder_that_changes_during_the_run(views_artifact: Path, tmp_path: Path) -> None:
    """Between being named and being read, files vanish, and turn into what is no picture."""
    names = ["kept", "deleted", "replaced", "folder", "pipe", "cut", "last"]
    paths = [tmp_path / f"{name}.png" for name in names]
    for path in paths:
        Image.fromarray(noise_image(230, 240)).save(path)

    def listed() -> Iterator[Path]:
        for path in paths:
            if path.stem in ("deleted", "replaced", "folder", "pipe"):
                path.unlink()
            match path.stem:
                case "replaced":
                    path.write_bytes(b"text")
                case "folder":
                    path.mkdir()
                case "pipe":
                    os.mkfifo(path)
                case "cut":
                    os.truncate(path, 1000)
            yield path

    results = {Path(result.path).stem: result for result in Scorer.open(views_artifact).stream(listed())}
    assert list(results) == names
    reasons = {
        "deleted": "no such file",
        "replaced": "not a picture",
        "folder": "is a directory",
        "pipe": "is a pipe",
        "cut": "truncated or damaged",
    }
    for name, result in results.items():
        assert (result.score is None) == (name in reasons)
        assert (result.error is None) == (name not in reasons)
        if result.error is not None:
            assert result.error.startswith(f"{result.path}: {reasons[name]}")


def test_names_that_no_text_holds(views_artifact: Path, tmp_path: Path) -> None:
    paths = [tmp_path / os.fsdecode(name) for name in (b"new\nline.png", b"\xff\xfe.png", b"\xff.jpg")]
    for path in paths[:2]:
        Image.fromarray(noise_image(230, 240)).save(path)
    first, second, missing = Scorer.open(views_artifact).stream(paths)
    assert [first.path, second.path, missing.path] == list(map(str, paths))
    assert first.score == second.score is not None
    assert missing.error is not None and missing.error.endswith("no such file; check the path")


@pytest.mark.parametrize(
    "failure", [RecursionError("too deep"), MemoryError(), SystemError("bug"), OSError(5, "I/O error"), KeyError(1)]
)
def test_whatever_goes_wrong_with_one_picture_is_its_own(
    failure: Exception, views_artifact: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(source: Any, name: str) -> Any:
        if name == str(pictures[1]):
            raise failure
        return decode_picture(source, name)

    monkeypatch.setattr("glia_runtime.pipeline.decode_picture", failing)
    results = list(Scorer.open(views_artifact).stream(pictures))
    assert [result.error is None for result in results] == [True, False, True, True, True]
    assert results[1].error is not None
    assert results[1].error.startswith(f"{pictures[1]}: ") and "\n" not in results[1].error


def test_closing_waits_for_no_more_than_the_pictures_in_hand(
    views_artifact: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    release = threading.Event()

    def slow(source: Any, name: str) -> Any:
        begun.append(name)
        if len(begun) > 3:
            release.wait(60)
        return decode_picture(source, name)

    monkeypatch.setattr("glia_runtime.pipeline.decode_picture", slow)
    results = Scorer.open(views_artifact).stream(itertools.cycle(pictures), batch_size=1, workers=2)
    for _ in range(3):
        next(results)
    while len(begun) < 5:  # both threads hold a picture now, and one more waits
        time.sleep(0.01)
    threading.Timer(0.1, release.set).start()
    results.close()
    assert len(begun) == 5
    assert decode_threads() == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ArtifactError("broken")])
def test_an_interrupt_during_the_graph_leaves_nothing(
    failure: BaseException, views_artifact: Path, pictures: list[Path]
) -> None:
    scorer = Scorer.open(views_artifact)
    run = scorer._backend.run
    runs = 0

    def interrupted(inputs: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs == 3:
            raise failure
        return run(inputs)

    scorer._backend.run = interrupted  # type: ignore[method-assign]
    with pytest.raises(type(failure)):
        for _ in scorer.stream(itertools.cycle(pictures), batch_size=2):
            pass
    assert decode_threads() == []


def test_no_thread_and_no_handle_stays_open(artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:500])
    scorer = Scorer.open(artifact)

    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    list(scorer.stream(pictures))
    before = held()
    for _ in range(5):
        list(scorer.stream([*pictures, broken, tmp_path, tmp_path / "missing"]))
        stopped = scorer.stream(itertools.cycle([*pictures, broken]))
        next(stopped)
        stopped.close()
    assert held() == before


def test_what_came_before_a_pause_is_scored_before_more_is_asked_for(
    views_artifact: Path, pictures: list[Path], tmp_path: Path
) -> None:
    scorer = Scorer.open(views_artifact)
    run = scorer._backend.run
    batches: list[int] = []

    def watched(inputs: Any) -> Any:
        batches.append(len(inputs["semantic"]))
        return run(inputs)

    scorer._backend.run = watched  # type: ignore[method-assign]
    yielded: list[str] = []

    def sources() -> Iterator[Path | None]:
        yield None
        yield from pictures[:3]
        yield None
        yield None
        assert yielded == [str(path) for path in pictures[:3]]
        yield tmp_path / "missing.png"
        yield None
        assert len(yielded) == 4
        yield from pictures * 4

    for result in scorer.stream(sources(), batch_size=8, workers=2):
        yielded.append(result.path)
    assert yielded == [*map(str, pictures[:3]), str(tmp_path / "missing.png"), *map(str, pictures * 4)]
    assert batches == [3, 8, 8, 4]  # full ones where no pause comes between


def test_few_large_frames_wait(image_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole frames for an "image" graph are large: after the first, fewer are taken ahead."""
    frame = np.zeros((1000, 1000, 3), np.uint8)
    monkeypatch.setattr("glia_runtime.pipeline._AHEAD_BYTES", 2 * frame.nbytes)
    taken = 0

    def frames() -> Iterator[tuple[str, Any]]:
        nonlocal taken
        for index in range(40):
            taken += 1
            yield str(index), frame

    results = Scorer.open(image_artifact).stream(frames(), batch_size=1, workers=1)
    ahead = [taken - done for done, _ in enumerate(results, 1)]
    assert max(ahead[:30]) <= 1 + 2


@pytest.mark.parametrize("batch_size", [1, 32])
def test_few_frames_are_read_ahead_whatever_was_seen_before(
    batch_size: int, image_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first size is known, and when large files follow small ones."""
    paths = {side: tmp_path / f"{side}.bmp" for side in (224, 1000)}
    for side, path in paths.items():
        Image.fromarray(noise_image(side, side)).save(path)
    monkeypatch.setattr("glia_runtime.pipeline._AHEAD_BYTES", 4 * 3_000_000)
    lock = threading.Lock()
    large = str(paths[1000])
    begun = taken = most = 0

    def decoding(source: Any, name: str) -> Any:
        nonlocal begun, most
        with lock:
            begun += name == large
            most = max(most, begun - taken)
        return decode_picture(source, name)

    def batches(items: Iterable[Any], size: int) -> Iterator[Any]:
        def counted() -> Iterator[Any]:
            nonlocal taken
            for item in items:
                with lock:
                    taken += item[0].path == large
                if taken in (1, 13) and item[0].path == large:
                    time.sleep(0.5)  # the threads prepare all that they may meanwhile
                yield item

        return in_batches(counted(), size)

    monkeypatch.setattr("glia_runtime.pipeline.decode_picture", decoding)
    monkeypatch.setattr("glia_runtime.pipeline.in_batches", batches)
    sources = [paths[1000]] * 12 + [paths[224]] * 40 + [paths[1000]] * 12
    results = list(Scorer.open(image_artifact).stream(sources, batch_size=batch_size, workers=2))
    assert [result.error for result in results] == [None] * 64
    assert most <= 4 + 2  # the limit, and one a thread that was begun before its size was known
