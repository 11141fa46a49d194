"""Pictures through decoding, view sampling and the graph at the same time, in order and in bounded memory.

A pool of threads reads, decodes and prepares pictures ahead of the graph, which runs on the caller's thread: the
libraries that do the work (Pillow, simplejpeg, the engines) hold no interpreter lock meanwhile, so processes would
only add copies, and an engine that is bound to its thread stays on it. Closing the generator, or an error anywhere,
drops what waits, lets each thread finish the picture in its hands, and leaves no thread behind.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from threading import Condition

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from glia_runtime.decode import decode_picture
from glia_runtime.errors import BackendError, ImageError, one_line
from glia_runtime.fragments import Image, check_image
from glia_runtime.inputs import Prepared, in_batches, prepare
from glia_runtime.manifest import Manifest
from glia_runtime.thumbnails import thumbnail

PathLike = str | os.PathLike[str]
Named = tuple[str, bytes | Image]
"""A name to report, and the picture: the bytes of a file, or a decoded array, uint8 [H, W, 3]."""

NOT_FINITE = "the score is not a finite number; check the artifact with glia-infer --self-test"

_AHEAD_BYTES = 1 << 27
"""Prepared pictures that may wait for the graph: 446 pairs of views, or three frames of 12 MP; or one a thread."""


@dataclass(frozen=True)
class Result:
    """One picture's outcome: either `score` or `error` (one line) is None."""

    path: str
    score: float | None
    error: str | None
    quality: float | None = None
    """The score from 0, worst, to 100, best (`ScoreScale.quality`); None where there is no score."""
    width: int | None = None
    """Pixels across, turned as EXIF says, before any enlarging; None where the file could not be decoded."""
    height: int | None = None
    """Pixels down, likewise."""
    thumbnail: bytes | None = None
    """A small JPEG of a picture that was scored, where `Scorer.stream` was asked for it."""


@dataclass(frozen=True)
class _File:
    """A picture's name, its size in pixels once that is known, and the thumbnail once it is prepared."""

    path: str
    width: int | None = None
    height: int | None = None
    thumbnail: bytes | None = None


Loaded = tuple[_File, Prepared | str]
"""A picture as it leaves the pool: prepared, or the line that says why it cannot be scored."""

Run = Callable[[Sequence[Prepared]], npt.NDArray[np.float32]]


def stream_results(
    sources: Iterable[PathLike | Named | None],
    manifest: Manifest,
    run: Run,
    *,
    batch_size: int,
    workers: int,
    draft: bool,
    thumbnails: int | None,
) -> Generator[Result, None, None]:
    """Yield one `Result` for each source, in order.

    Args:
        sources: taken on the caller's thread, ahead of the results by a bounded number. None says that the next may
            take a while: what has been taken is scored and yielded before it is asked for.
        manifest: of the artifact that `run` runs.
        run: scores a batch of prepared pictures, on the caller's thread.
        batch_size: pictures in one call of `run`, at most.
        workers: threads that decode.
        draft: as in `sample_views`.
        thumbnails: longest side of each result's thumbnail in pixels; None for none.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="glia-decode")
    ahead = _Ahead(workers)

    def load(number: int, name: str, picture: bytes | Image | None) -> Loaded:
        if not ahead.begin(number):
            return _File(name), "the stream was closed"
        loaded = _load(name, picture, manifest, draft, thumbnails)
        ahead.end(loaded)
        return loaded

    def submit(source: PathLike | Named, number: int) -> Future[Loaded]:
        name, picture = source if isinstance(source, tuple) else (os.fspath(source), None)
        return pool.submit(load, number, name, picture)

    try:
        loaded = _in_order(sources, submit, ahead, workers, batch_size)
        for _, part in groupby(loaded, key=lambda picture: picture is None):
            for group in in_batches(filter(None, part), batch_size):
                yield from _score(group, manifest, run)
    finally:
        ahead.close()
        pool.shutdown(wait=True, cancel_futures=True)


class _Ahead:
    """Bounds the bytes that wait for the graph, whatever the pictures turn out to be.

    A thread begins one of the next pictures, one a thread, at any time; another when it fits in beside what is prepared
    and what the other threads have in hand, by the size of those before. So before a size is known, each thread
    prepares one.
    """

    def __init__(self, workers: int) -> None:
        self._changed = Condition()
        self._workers = workers
        self._taken = self._in_hand = self._bytes = 0
        self._expected = 0.0
        self._closed = False

    def begin(self, number: int) -> bool:
        """Wait until picture `number`, counted from 0, may be prepared; False when it is no longer wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(number))
            self._in_hand += 1
            return not self._closed

    def end(self, loaded: Loaded) -> None:
        """Count what was prepared."""
        with self._changed:
            self._in_hand -= 1
            self._bytes += _bytes_of(loaded)
            self._expected = max(_bytes_of(loaded), 0.9 * self._expected)  # forget a large one after a while
            self._changed.notify_all()

    def take(self, loaded: Loaded) -> None:
        """Count it off: it goes to the graph."""
        with self._changed:
            self._taken += 1
            self._bytes -= _bytes_of(loaded)
            self._changed.notify_all()

    def close(self) -> None:
        """Let the threads that wait go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, number: int) -> bool:
        if number < self._taken + self._workers:
            return True
        return 0 < self._bytes + (self._in_hand + 1) * self._expected <= _AHEAD_BYTES


def _bytes_of(loaded: Loaded) -> int:
    return 0 if isinstance(loaded[1], str) else sum(array.nbytes for array in loaded[1])


def _source_bytes(source: PathLike | Named) -> int:
    """What a source holds in memory while it waits; nothing where it is a path."""
    if not isinstance(source, tuple):
        return 0
    return source[1].nbytes if isinstance(source[1], np.ndarray) else len(source[1])


def _in_order(
    sources: Iterable[PathLike | Named | None],
    submit: Callable[[PathLike | Named, int], Future[Loaded]],
    ahead: _Ahead,
    workers: int,
    batch_size: int,
) -> Iterator[Loaded | None]:
    """Keep enough pictures in the pool to fill the next batch while one is scored; yield them as they came.

    None is passed on behind all that came before it.
    """
    pending: deque[tuple[Future[Loaded], int]] = deque()
    held = number = 0

    def first() -> Loaded:
        nonlocal held
        future, size = pending.popleft()
        loaded = future.result()
        held -= size
        ahead.take(loaded)
        return loaded

    for source in sources:
        if source is not None:
            pending.append((submit(source, number), _source_bytes(source)))
            held += pending[-1][1]
            number += 1
        while len(pending) > (0 if source is None else workers if held > _AHEAD_BYTES else workers + batch_size):
            yield first()
        if source is None:
            yield None
    while pending:
        yield first()


def _load(name: str, picture: bytes | Image | None, manifest: Manifest, draft: bool, thumbnails: int | None) -> Loaded:
    """Decode and prepare one picture in a worker. Whatever is wrong with it is its own line and stops nothing else."""
    file = _File(name)
    try:
        decoded: Image | PillowImage.Image
        if isinstance(picture, np.ndarray):
            decoded = check_image(picture)
            height, width = decoded.shape[:2]
        else:
            try:
                decoded = decode_picture(name if picture is None else picture, name)
            except ImageError as error:  # names the file already
                return file, str(error)
            width, height = decoded.size
        file = _File(name, width, height)
        prepared = prepare(decoded, manifest, draft=draft)
        if thumbnails is not None:
            file = replace(file, thumbnail=thumbnail(decoded, thumbnails))
        return file, prepared
    except MemoryError:
        return file, f"{name}: not enough memory for a picture of this size; make it smaller"
    except Exception as error:
        return file, one_line(f"{name}: {error or type(error).__name__}")


def _score(group: Sequence[Loaded], manifest: Manifest, run: Run) -> Iterator[Result]:
    scores = iter(_run_each([prepared for _, prepared in group if not isinstance(prepared, str)], run))
    for file, prepared in group:
        if isinstance(prepared, str):
            yield Result(file.path, None, prepared, None, file.width, file.height)
            continue
        outcome = next(scores)
        if isinstance(outcome, float) and math.isfinite(outcome):
            quality = manifest.score_scale.quality(outcome)
            yield Result(file.path, outcome, None, quality, file.width, file.height, file.thumbnail)
        else:
            error = NOT_FINITE if isinstance(outcome, float) else outcome
            yield Result(file.path, None, f"{file.path}: {error}", None, file.width, file.height)


def _run_each(pictures: Sequence[Prepared], run: Run) -> list[float | str]:
    """Scores; where the backend fails on a batch, each picture is tried alone, and a string says what failed."""
    if not pictures:
        return []
    try:
        return [float(score) for score in run(pictures)]
    except (BackendError, MemoryError) as error:
        if len(pictures) == 1:
            return [str(error) or "not enough memory to score it; make it smaller"]
    return [outcome for picture in pictures for outcome in _run_each([picture], run)]
