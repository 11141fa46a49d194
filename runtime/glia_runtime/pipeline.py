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
"""Prepared pictures that may wait for the graph: 446 pairs of views, or three frames of 12 MP beside one a thread."""


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

    def submit(source: PathLike | Named | None) -> Future[Loaded] | None:
        if source is None:
            return None
        name, picture = source if isinstance(source, tuple) else (os.fspath(source), None)
        return pool.submit(_load, name, picture, manifest, draft, thumbnails)

    try:
        loaded = _in_order(map(submit, sources), workers, batch_size)
        for _, part in groupby(loaded, key=lambda picture: picture is None):
            for group in in_batches(filter(None, part), batch_size):
                yield from _score(group, manifest, run)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(submitted: Iterable[Future[Loaded] | None], workers: int, batch_size: int) -> Iterator[Loaded | None]:
    """Keep enough pictures in the pool to fill the next batch while one is scored; yield them as they came.

    None is passed on behind all that came before it.
    """
    pending: deque[Future[Loaded]] = deque()
    largest = 1
    for future in submitted:
        if future is not None:
            pending.append(future)
        while len(pending) > (0 if future is None else workers + min(batch_size, _AHEAD_BYTES // largest)):
            loaded = pending.popleft().result()
            if not isinstance(loaded[1], str):
                largest = max(largest, sum(array.nbytes for array in loaded[1]))
            yield loaded
        if future is None:
            yield None
    while pending:
        yield pending.popleft().result()


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
