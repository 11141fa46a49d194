"""From pictures to scores: open an artifact, score arrays, or stream files."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glia_runtime.backends import open_backend
from glia_runtime.backends.base import Backend, usable_cpus
from glia_runtime.decode import decode_picture
from glia_runtime.errors import ArtifactError, ImageError, UsageError
from glia_runtime.fragments import Image, check_image
from glia_runtime.inputs import Prepared, collate, in_batches, prepare
from glia_runtime.manifest import Manifest, read_manifest, verify_artifact
from glia_runtime.pipeline import NOT_FINITE, Named, PathLike, Result, stream_results
from glia_runtime.probe import probe_images
from glia_runtime.verdicts import Facts, facts_of, forget, has_passed, remember

MODEL_VARIABLE = "GLIA_MODEL"
BUNDLED_MODEL = Path(__file__).parent / "bundled" / "glianet-vit-tiny.onnx"
DEFAULT_BATCH_SIZE = 8


def find_model(artifact: PathLike | None = None) -> Path:
    """The artifact to open: `artifact`, else ``$GLIA_MODEL``, else the bundled demonstration model."""
    return Path(artifact or os.environ.get(MODEL_VARIABLE) or BUNDLED_MODEL)


class Scorer:
    """An artifact, opened: checked against its manifest and loaded in a backend.

    Scores are on the manifest's `score_scale`. Not for use by several threads at once.
    """

    def __init__(self, backend: Backend, *, named: str = "", why: str = "") -> None:
        """Wrap a loaded backend; use `Scorer.open` for a file."""
        self._backend = backend
        self.manifest: Manifest = backend.manifest
        self.artifact: Path = backend.artifact
        self.backend = named
        """Which backend was picked, as `open` takes it: "openvino:bf16", for instance."""
        self.device = backend.device
        """Where it runs: "cpu" or "cuda"."""
        self.why = why
        """Why these were."""

    @classmethod
    def open(cls, artifact: PathLike | None = None, device: str = "auto", backend: str = "auto") -> Scorer:
        """Open `artifact` (by default ``$GLIA_MODEL``, else the bundled model).

        The manifest and its version are checked first, then the file's size and hash; only then is it handed to a
        backend. On a GPU it is probed (`self_test`) the first time it meets that GPU, driver or library; the pass is
        remembered in the user's cache directory (`glia_runtime.verdicts`).

        Args:
            artifact: the exported file.
            device: "auto", "cpu" or "cuda".
            backend: a `glia_runtime.backends.BackendInfo.title`, "openvino:bf16" for instance; "auto" takes the fastest
                that can run here and whose parity row passes, or whose probe does where there is no row.

        Raises:
            ManifestError: the manifest is missing, altered or of an unknown version.
            ArtifactError: the file is missing, is not the one its manifest describes, cannot be loaded, or fails
                its probe.
            BackendError: no such backend runs it on `device`, or its package is missing (`MissingExtraError`).
        """
        path = find_model(artifact)
        if path == BUNDLED_MODEL and not path.exists():
            raise ArtifactError(
                f"this installation holds no bundled model; name one with --model FILE or ${MODEL_VARIABLE}"
            )
        manifest = read_manifest(path)
        verify_artifact(path, manifest)
        loaded, way, why = open_backend(path, manifest, device, backend, prove=lambda unproven: cls(unproven)._prove())
        return cls(loaded, named=way.info.title, why=why)

    @property
    def choice(self) -> str:
        """Which backend and device were picked, and why: one line for whoever watches."""
        return f"{self.backend} on {self.device}: {self.why}"

    @property
    def batch_size(self) -> int:
        """Pictures in one run of the graph, at most: 8, or 1 where each is many crops."""
        return max(1, DEFAULT_BATCH_SIZE // self.manifest.view_spec.looks)

    def score(self, images: Iterable[Image | bytes]) -> npt.NDArray[np.float32]:
        """Score pictures, uint8 RGB arrays [H, W, 3] of any sizes or the bytes of files: float32 [B], in order.

        They are taken a batch at a time, so those that a generator makes need not all fit into memory.

        Raises:
            ImageError: a picture is neither uint8 [H, W, 3] nor a readable file, or has a size that cannot be
                scored; its index is named.
            ArtifactError: a score is not a finite number.
            BackendError: the backend failed while running.
        """
        if isinstance(images, np.ndarray) and images.ndim == 3:
            raise ImageError("score() got one array; pass a list of pictures: scorer.score([image])")
        scores = [
            self._run([prepared for _, prepared in group if not isinstance(prepared, str)])
            for group in in_batches(self._prepare_all(images), self.batch_size)
        ]
        result = np.concatenate(scores) if scores else np.empty(0, dtype=np.float32)
        if not np.isfinite(result).all():
            index = int(np.flatnonzero(~np.isfinite(result))[0])
            raise ArtifactError(f"{self.artifact}: picture {index}: {NOT_FINITE}")
        return result

    def maps(self, images: Iterable[Image | bytes]) -> list[npt.NDArray[np.float32]]:
        """Where the model looked at pictures, given as to `score`: float32 [G, G] for each, in order.

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
        groups = in_batches(self._prepare_all(images), self.batch_size)
        batches = ([prepared for _, prepared in group if not isinstance(prepared, str)] for group in groups)
        return [item for batch in batches for item in self._backend.run_maps(collate(batch, self.manifest))]

    def stream(
        self,
        sources: Iterable[PathLike | Named | None],
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        draft: bool = False,
        thumbnails: int | None = None,
    ) -> Generator[Result, None, None]:
        """Score pictures as they come: one `Result` for each, in order; a broken one is a result with an error.

        A pool of `workers` threads decodes ahead of the graph by a bounded number of pictures, so memory does not
        grow with the number of sources, which may be endless. Closing the iterator stops the pool. Sources are
        taken ahead by the same number; one that is slow says so, lest results wait for those after them.

        Args:
            sources: paths; or pairs of a name to report and the picture, as the bytes of a file or as an array; or
                None where the next may take a while: it has no result, and what came before it is scored first.
            batch_size: pictures in one run of the graph, at most. Default: 8, or 1 where a picture is many crops.
            workers: threads that decode. Default: the usable CPU cores.
            draft: make the semantic view of large pictures faster and a little differently
                (`glia_runtime.sample_views`). For artifacts that are fed with one.
            thumbnails: give each result a JPEG of that longest side in pixels, made while the decoded picture is at
                hand.

        Raises:
            UsageError: `sources` is a single path, a number is under 1, or the artifact makes the views itself.
        """
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise UsageError("stream() got a single path; pass a list of paths: scorer.stream([path])")
        size = self.batch_size if batch_size is None else batch_size
        if size < 1:
            raise UsageError(f"the batch size is {size}; pass 1 or more")
        threads = usable_cpus() if workers is None else workers
        if threads < 1:
            raise UsageError(f"workers is {threads}; pass 1 or more")
        if thumbnails is not None and thumbnails < 1:
            raise UsageError(f"thumbnails is {thumbnails}; pass 1 or more pixels")
        if draft and "semantic" not in self.manifest.input_names:
            kind = "artifacts exported with --input views" if self.manifest.input == "image" else "semantic views"
            raise UsageError(f"{self.artifact}: draft is for {kind}; leave it out")
        return stream_results(
            sources, self.manifest, self._run, batch_size=size, workers=threads, draft=draft, thumbnails=thumbnails
        )

    def self_test(self) -> float:
        """Score the probe pictures and return the largest difference (score units) to the manifest's scores.

        Raises:
            ArtifactError: a score is off by more than `tolerance`, or the probe is another one.
        """
        probe = self.manifest.probe
        images = probe_images()
        if len(probe.scores) != len(images):
            raise ArtifactError(
                f"{self.artifact}: its manifest holds {len(probe.scores)} probe scores and this glia makes "
                f"{len(images)} probe pictures; export it again with this version"
            )
        difference = float(np.abs(self.score(images).astype(np.float64) - np.array(probe.scores)).max())
        if difference > self.tolerance:
            if facts := self._facts():
                forget(facts)
            raise ArtifactError(
                f"{self.artifact}: the self-test failed: a probe score is off by {difference:.3g}, "
                f"more than {self.tolerance:.3g}; do not use it on this machine, export it again"
            )
        return difference

    def _prove(self) -> None:
        """Pass the self-test; where it is asked for once a machine, unless that has been passed before."""
        facts = self._facts()
        if facts is None:
            self.self_test()
        elif not has_passed(facts):
            remember(facts, self.self_test())

    def _facts(self) -> Facts | None:
        """What a pass of the probe is bound to; None where passes are not remembered."""
        machine = self._backend.machine
        return None if machine is None else facts_of(self.manifest.artifact_sha256, machine)

    @property
    def probed(self) -> bool:
        """Whether the file passed its probe when it was opened, or on this machine before: so it is on a GPU."""
        return self._backend.machine is not None

    @property
    def tolerance(self) -> float:
        """How far a probe score may be off: the bound of the backend's parity row, else the manifest's (score units).

        They differ where the backend computes in a coarser precision than the artifact's own.
        """
        backend = self._backend
        row = self.manifest.parity_row(backend.name, backend.precision, backend.device)
        return row.bound_max_abs if row else self.manifest.probe.tolerance

    def _run(self, pictures: Sequence[Prepared]) -> npt.NDArray[np.float32]:
        return self._backend.run(collate(pictures, self.manifest))

    def _prepare_all(self, images: Iterable[Image | bytes]) -> Iterator[tuple[int, Prepared]]:
        for index, image in enumerate(images):
            name = f"picture {index}"
            picture = decode_picture(image, name) if isinstance(image, bytes) else None
            try:
                yield index, prepare(picture or check_image(image), self.manifest)
            except ImageError as error:
                raise ImageError(f"{name}: {error}") from error
