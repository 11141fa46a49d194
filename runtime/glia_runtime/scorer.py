"""From pictures to scores: open an artifact, score arrays, or stream files."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glia_runtime.backends import open_backend
from glia_runtime.backends.base import Backend, usable_cpus
from glia_runtime.decode import decode
from glia_runtime.errors import ArtifactError, BackendError, ImageError, UsageError
from glia_runtime.fragments import Image
from glia_runtime.inputs import Prepared, collate, in_batches, prepare
from glia_runtime.manifest import Manifest, read_manifest, verify_artifact
from glia_runtime.probe import probe_images
from glia_runtime.thumbnails import thumbnail

MODEL_VARIABLE = "GLIA_MODEL"
BUNDLED_MODEL = Path(__file__).parent / "bundled" / "glianet-vit-tiny.onnx"
DEFAULT_BATCH_SIZE = 8
_NOT_FINITE = "the score is not a finite number; check the artifact with glia-infer --self-test"

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """One file's outcome: either `score` or `error` (one line) is None."""

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
    """A small JPEG of the picture, where `Scorer.stream` was asked for it."""


@dataclass(frozen=True)
class _File:
    """A file in the pool, with its picture's size once that is known."""

    path: str
    width: int | None = None
    height: int | None = None
    thumbnail: bytes | None = None


def find_model(artifact: PathLike | None = None) -> Path:
    """The artifact to open: `artifact`, else ``$GLIA_MODEL``, else the bundled demonstration model."""
    return Path(artifact or os.environ.get(MODEL_VARIABLE) or BUNDLED_MODEL)


class Scorer:
    """An artifact, opened: checked against its manifest and loaded in a backend.

    Scores are on the manifest's `score_scale`. Not for use by several threads at once.
    """

    def __init__(self, backend: Backend, *, choice: str = "") -> None:
        """Wrap a loaded backend; use `Scorer.open` for a file."""
        self._backend = backend
        self.manifest: Manifest = backend.manifest
        self.artifact: Path = backend.artifact
        self.choice = choice
        """Which backend and device were picked, and why."""

    @classmethod
    def open(cls, artifact: PathLike | None = None, device: str = "auto") -> Scorer:
        """Open `artifact` (by default ``$GLIA_MODEL``, else the bundled model) on `device` ("auto", "cpu").

        The manifest and its version are checked first, then the file's hash; only then is it handed to a
        backend.

        Raises:
            ManifestError: the manifest is missing, altered or of an unknown version.
            ArtifactError: the file is missing, is not the one its manifest describes, or cannot be loaded.
            BackendError: no backend runs it on `device`, or its package is missing (`MissingExtraError`).
        """
        path = find_model(artifact)
        if path == BUNDLED_MODEL and not path.exists():
            raise ArtifactError(
                f"this installation holds no bundled model; name one with --model FILE or ${MODEL_VARIABLE}"
            )
        manifest = read_manifest(path)
        verify_artifact(path, manifest)
        backend, choice = open_backend(path, manifest, device)
        return cls(backend, choice=choice)

    def score(self, images: Iterable[Image]) -> npt.NDArray[np.float32]:
        """Score pictures, uint8 RGB arrays [H, W, 3] of any sizes: float32 [B] in the same order.

        They are taken a batch at a time, so those that a generator makes need not all fit into memory.

        Raises:
            ImageError: a picture is not uint8 [H, W, 3], or has a size that cannot be scored; its index is
                named.
            ArtifactError: a score is not a finite number.
            BackendError: the backend failed while running.
        """
        if isinstance(images, np.ndarray) and images.ndim == 3:
            raise ImageError("score() got one array; pass a list of pictures: scorer.score([image])")
        scores = [
            self._run([prepared for _, prepared in group if not isinstance(prepared, str)])
            for group in in_batches(self._prepare_all(images), self._batch_size(None))
        ]
        result = np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)
        if not np.isfinite(result).all():
            index = int(np.flatnonzero(~np.isfinite(result))[0])
            raise ArtifactError(f"{self.artifact}: picture {index}: {_NOT_FINITE}")
        return result

    def maps(self, images: Iterable[Image]) -> list[npt.NDArray[np.float32]]:
        """Where the model looked at pictures, uint8 RGB arrays [H, W, 3]: float32 [G, G] for each, in order.

        Each number is the share of its attention that the model gives to one patch of `manifest.map_view`;
        `glia_runtime.maps` lays them back onto the picture.

        Raises:
            UsageError: the artifact was exported without maps.
            ImageError: as `score`.
            BackendError: the backend gives no maps, or failed while running.
        """
        if self.manifest.map_view is None:
            raise UsageError(
                f"{self.artifact}: gives scores and no maps; export one that does: glia-export MODEL --to onnx --maps"
            )
        groups = in_batches(self._prepare_all(images), self._batch_size(None))
        batches = ([prepared for _, prepared in group if not isinstance(prepared, str)] for group in groups)
        return [item for batch in batches for item in self._backend.run_maps(collate(batch, self.manifest.input))]

    def stream(
        self,
        paths: Iterable[PathLike],
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        thumbnails: int | None = None,
    ) -> Generator[Result, None, None]:
        """Score files as they come: one `Result` for each path, in order; a broken file is a result with an
        error.

        A pool of `workers` threads (default: the usable CPU cores) decodes ahead of the graph by a bounded
        number of pictures, so memory does not grow with the number of paths, which may be endless. Closing
        the iterator stops the pool. Paths are read ahead by the same number, so a slow source delays results
        by that many. With `thumbnails` each result carries a JPEG of that longest side (pixels), made while the
        decoded picture is at hand.

        Raises:
            UsageError: `paths` is a single path, or a number is under 1.
        """
        if isinstance(paths, (str, bytes, os.PathLike)):
            raise UsageError("stream() got a single path; pass a list of paths: scorer.stream([path])")
        size = self._batch_size(batch_size)
        threads = usable_cpus() if workers is None else workers
        if threads < 1:
            raise UsageError(f"workers is {threads}; pass 1 or more")
        return self._stream(iter(paths), size, threads, thumbnails)

    def self_test(self) -> float:
        """Score the probe pictures and return the largest difference (score units) to the manifest's scores.

        Raises:
            ArtifactError: a score is off by more than the manifest's tolerance, or the probe is another one.
        """
        probe = self.manifest.probe
        images = probe_images()
        if len(probe.scores) != len(images):
            raise ArtifactError(
                f"{self.artifact}: its manifest holds {len(probe.scores)} probe scores and this glia makes "
                f"{len(images)} probe pictures; export it again with this version"
            )
        difference = float(np.abs(self.score(images).astype(np.float64) - np.array(probe.scores)).max())
        if difference > probe.tolerance:
            raise ArtifactError(
                f"{self.artifact}: the self-test failed: a probe score is off by {difference:.3g}, "
                f"more than {probe.tolerance:.3g}; do not use it on this machine, export it again"
            )
        return difference

    def _batch_size(self, wanted: int | None) -> int:
        size = DEFAULT_BATCH_SIZE if wanted is None else wanted
        if size < 1:
            raise UsageError(f"the batch size is {size}; pass 1 or more")
        return min(size, self.manifest.limits.max_batch or size)

    def _run(self, pictures: Sequence[Prepared]) -> npt.NDArray[np.float32]:
        return self._backend.run(collate(pictures, self.manifest.input))

    def _prepare_all(self, images: Iterable[Image]) -> Iterator[tuple[int, Prepared]]:
        for index, image in enumerate(images):
            try:
                yield index, prepare(image, self.manifest)
            except ImageError as error:
                raise ImageError(f"picture {index}: {error}") from error

    def _stream(
        self, paths: Iterator[PathLike], batch_size: int, workers: int, thumbnails: int | None
    ) -> Generator[Result, None, None]:
        # Whole frames are large; views are 300 kB a picture, so a batch of them may wait.
        ahead = workers + (1 if self.manifest.input == "image" else batch_size)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="glia-decode")
        try:
            for group in in_batches(self._decode_ahead(paths, pool, ahead, thumbnails), batch_size):
                yield from self._score_group(group)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decode_ahead(
        self, paths: Iterator[PathLike], pool: ThreadPoolExecutor, ahead: int, thumbnails: int | None
    ) -> Iterator[tuple[_File, Prepared | str]]:
        """Keep `ahead` files in the pool and yield them in the order they came."""
        pending: deque[Future[tuple[_File, Prepared | str]]] = deque()
        for path in paths:
            pending.append(pool.submit(self._load, os.fspath(path), thumbnails))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _score_group(self, group: list[tuple[_File, Prepared | str]]) -> Iterator[Result]:
        pictures = [prepared for _, prepared in group if not isinstance(prepared, str)]
        scores = iter(self._run_each(pictures))
        for file, prepared in group:
            if isinstance(prepared, str):
                yield Result(file.path, None, prepared, None, file.width, file.height)
                continue
            outcome = next(scores)
            if isinstance(outcome, float) and math.isfinite(outcome):
                quality = self.manifest.score_scale.quality(outcome)
                yield Result(file.path, outcome, None, quality, file.width, file.height, file.thumbnail)
            else:
                error = _NOT_FINITE if isinstance(outcome, float) else outcome
                yield Result(file.path, None, f"{file.path}: {error}", None, file.width, file.height)

    def _run_each(self, pictures: Sequence[Prepared]) -> list[float | str]:
        """Scores; where the backend fails on a batch, each picture is tried alone, and a string says what
        failed.
        """
        if not pictures:
            return []
        try:
            return [float(score) for score in self._run(pictures)]
        except (BackendError, MemoryError) as error:
            if len(pictures) == 1:
                return [str(error) or "not enough memory to score it; make it smaller"]
        return [outcome for picture in pictures for outcome in self._run_each([picture])]

    def _load(self, path: str, thumbnails: int | None = None) -> tuple[_File, Prepared | str]:
        """Decode and prepare one file in a worker; a string is the line that says why it cannot be scored."""
        try:
            image = decode(path)
        except ImageError as error:
            return _File(path), str(error)
        file = _File(path, image.shape[1], image.shape[0])
        try:
            if thumbnails is not None:
                file = replace(file, thumbnail=thumbnail(image, thumbnails))
            return file, prepare(image, self.manifest)
        except ImageError as error:
            return file, f"{path}: {error}"
        except MemoryError:
            return file, f"{path}: not enough memory for a picture of this size; make it smaller"
