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

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from glia_runtime.decode import decode_picture
from glia_runtime.errors import BackendError, ImageError, UsageError, one_line
from glia_runtime.fragments import Image, check_image
from glia_runtime.inputs import Prepared, in_batches, prepare
from glia_runtime.manifest import Manifest
from glia_runtime.room import Room
from glia_runtime.thumbnails import thumbnail
from glia_runtime.views import VIEW_SIZE

PathLike = str | os.PathLike[str]
Named = tuple[str, bytes | bytearray | memoryview | Image]
"""A name to report, and the picture: the bytes of a file, or a decoded array, uint8 [H, W, 3]."""

NOT_FINITE = "the score is not a finite number; check the artifact with glia-infer --self-test"


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
    sources: Iterable[PathLike | Named],
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
        sources: taken on the caller's thread, ahead of the results by a bounded number. An error there is raised
            after the results of those before it.
        manifest: of the artifact that `run` runs.
        run: scores a batch of prepared pictures, on the caller's thread.
        batch_size: pictures in one call of `run`, at most.
        workers: threads that decode.
        draft: as in `sample_views`.
        thumbnails: longest side of each result's thumbnail in pixels; None for none.

    Raises:
        BackendError: the backend fails on a whole batch, picture by picture, and on a plain picture as well.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="glia-decode")
    room = Room()

    def submit(number: int, name: str, picture: bytes | Image | None) -> Future[Loaded]:
        held = _bytes_of(picture)
        room.add(held)

        def load() -> Loaded:
            with room.decoding(number) as enter:
                loaded = _load(name, picture, manifest, draft, thumbnails, enter)
                room.add(_bytes_of(loaded[1]) - held)
            return loaded

        return pool.submit(load)

    failure: list[Exception] = []
    submitted = (submit(number, *named) for number, named in enumerate(_named(sources, failure)))
    try:
        for group in in_batches(_in_order(submitted, room, workers, batch_size), batch_size):
            yield from _score(group, manifest, run)
    finally:
        room.close()
        pool.shutdown(wait=True, cancel_futures=True)
    if failure:
        raise failure[0]


def _named(sources: Iterable[PathLike | Named], failure: list[Exception]) -> Iterator[tuple[str, bytes | Image | None]]:
    """Names and pictures, None for a file's; ends where `sources` fails, so that what came before is still scored."""
    try:
        for index, source in enumerate(sources):
            yield _checked(source, index)
    except Exception as error:
        failure.append(error)


def _checked(source: object, index: int) -> tuple[str, bytes | Image | None]:
    match source:
        case str() | os.PathLike():
            return os.fsdecode(source), None
        case (str(name), bytes() | np.ndarray() as picture):
            return name, picture
        case (str(name), bytearray() | memoryview() as data):
            return name, bytes(data)
    kind = type(source).__name__
    if isinstance(source, tuple):
        kind += f" ({', '.join(type(item).__name__ for item in source)})"
    raise UsageError(
        f"source {index} is a {kind}; pass a path, or a pair: a name and the bytes of a file or an array [H, W, 3]"
    )


def _in_order(submitted: Iterable[Future[Loaded]], room: Room, workers: int, batch_size: int) -> Iterator[Loaded]:
    """Keep enough pictures in the pool to fill the next batch while one is scored; yield them as they came."""
    pending: deque[Future[Loaded]] = deque()

    def take() -> Loaded:
        loaded = pending.popleft().result()
        room.take(_bytes_of(loaded[1]))
        return loaded

    for future in submitted:
        pending.append(future)
        while len(pending) > workers + (0 if room.full else batch_size):
            yield take()
    while pending:
        yield take()


def _bytes_of(picture: bytes | Image | Prepared | str | None) -> int:
    """The memory that a picture takes, before or after it is prepared."""
    if isinstance(picture, tuple):
        return sum(array.nbytes for array in picture)
    if isinstance(picture, np.ndarray):
        return picture.nbytes
    return len(picture) if isinstance(picture, bytes) else 0


def _load(
    name: str,
    picture: bytes | Image | None,
    manifest: Manifest,
    draft: bool,
    thumbnails: int | None,
    enter: Callable[[int], None],
) -> Loaded:
    """Decode and prepare one picture in a worker. Whatever is wrong with it is its own line and stops nothing else."""
    file = _File(name)
    try:
        decoded: Image | PillowImage.Image
        if isinstance(picture, np.ndarray):
            decoded = check_image(picture)
            height, width = decoded.shape[:2]
        else:
            try:
                decoded = decode_picture(name if picture is None else picture, name, enter)
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
    scores = iter(_run_each([prepared for _, prepared in group if not isinstance(prepared, str)], manifest, run))
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


def _run_each(pictures: Sequence[Prepared], manifest: Manifest, run: Run) -> list[float | str]:
    """Scores; where the backend fails on a batch, each picture is tried alone, and a string says what failed.

    Raises `BackendError` where it fails on all of them, and on a plain picture too: then it is not they that are wrong.
    """
    if not pictures:
        return []
    try:
        return [float(score) for score in run(pictures)]
    except (BackendError, MemoryError) as error:
        alone = pictures if len(pictures) > 1 else ()
        outcomes = [_run_alone(picture, run) for picture in alone] or [_failed(error)]
    if not any(isinstance(outcome, float) for outcome in outcomes):
        try:
            run([prepare(np.zeros((VIEW_SIZE, VIEW_SIZE, 3), np.uint8), manifest)])
        except BackendError as error:
            raise BackendError(f"{error}; it fails on every picture, a plain one too, so the run ends here") from error
    return outcomes


def _run_alone(picture: Prepared, run: Run) -> float | str:
    try:
        return float(run([picture])[0])
    except (BackendError, MemoryError) as error:
        return _failed(error)


def _failed(error: Exception) -> str:
    return str(error) or "not enough memory to score it; make it smaller"
