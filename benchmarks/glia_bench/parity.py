"""``glia-bench parity``: artifacts and checkpoints against the PyTorch fp32 model, picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glia.evaluation.metrics import krcc
from glia.models import load_checkpoint
from glia_bench.measure import digest_of
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.subjects import Subject
from glia_export.parity import ParitySet, compare, pictures_in, reference_scores
from glia_runtime.errors import UsageError
from glia_runtime.inputs import Inputs, in_batches
from glia_runtime.manifest import Limits, ParityRow, sha256_file

Scores = npt.NDArray[np.float32]

WORST = 5
"""Pictures named for each subject."""

QUICK_PICTURES = 16
"""With ``--quick``: a ViT-B/16 takes half a minute for them on two cores."""

_BATCH = 8
_STRIP = 40
"""Pixels of padding, besides what a batch of mixed sizes has."""


def by_reference(references: Sequence[Path], subjects: Iterable[Subject]) -> list[tuple[Path, list[Subject]]]:
    """Each reference with the subjects that were exported from it; the first also with those from none of them."""
    digests = {sha256_file(path): path for path in reversed(references) if path.is_file()}
    found: dict[Path, list[Subject]] = {path: [] for path in references}
    for subject in subjects:
        found[digests.get(subject.manifest.checkpoint_sha256, references[0])].append(subject)
    return [(path, compared) for path, compared in found.items() if compared]


def measure_parity(
    recorder: Recorder,
    reference: Path,
    subjects: Sequence[Subject],
    folder: Path,
    *,
    max_difference: float | None,
    max_mean_difference: float | None,
    min_srcc: float | None,
    most: int,
    step: Callable[[str], None],
) -> list[str]:
    """Compare the scores of `subjects` with those of the checkpoint `reference`; return a line for each missed bound.

    Args:
        recorder: takes one measurement a subject, |difference| of every picture in score units.
        reference: the checkpoint, run in PyTorch fp32.
        subjects: what is compared; fed with batches of the pictures, whole ones in pairs, every second pair with
            padding.
        folder: of photographs.
        max_difference: bound on the largest difference, as a part of the scale's range; by default export's own for
            the precision.
        max_mean_difference: bound on the mean one, likewise; export has one where the largest does not say enough.
        min_srcc: bound on SRCC; by default export's own, demanded where the scores spread.
        most: photographs of the folder to take; fewer where a model looks at each many times.
        step: told what begins.

    Raises:
        CheckpointError: the reference cannot be read.
        UsageError: no readable picture, or a subject that is shown something else than the reference.
    """
    step("PyTorch fp32")
    model = load_checkpoint(reference)
    for subject in subjects:
        if subject.manifest.view_spec != model.view_spec:
            raise UsageError(
                f"{subject.name}: a {subject.manifest.architecture}, and {reference} is a {model.architecture}: "
                "name its own checkpoint with another --reference"
            )
    limits = _tightest([subject.manifest.limits for subject in subjects])
    pictures = pictures_in(folder, model.view_spec, limits, recorder.note, most)
    recorder.settings["images_sha256"] = digest_of(source for source in pictures.sources if isinstance(source, Path))
    expected = reference_scores(model, pictures.views)
    missed = []
    for subject in subjects:
        step(subject.name)
        scale = model.score_scale.range
        scores: Scores | None = None
        with recorder.part(subject.name):  # the others are not to be lost to one that fails
            scores = _scores(subject, pictures)
        if scores is None:
            continue
        row = compare(subject.backend.name, subject.backend.precision, scores, expected, scale)
        facts = {**subject.facts(), **_facts(row, max_difference, max_mean_difference, min_srcc, scale)}
        facts["krcc"] = krcc(scores, expected) if row.srcc is not None else None
        # JSON has no word for what is not a number; `compare` has put the largest difference at the end of the scale.
        difference = np.nan_to_num(np.abs(scores.astype(np.float64) - expected), nan=row.max_abs, posinf=row.max_abs)
        names = [_name(source, folder) for source in pictures.sources]
        facts["worst"] = [
            {"picture": names[index], "reference": float(expected[index]), "difference": float(difference[index])}
            for index in np.argsort(-difference)[:WORST]
        ]
        # None stands for it, which no plot takes for a score.
        facts["scores"] = [float(score) if np.isfinite(score) else None for score in scores]
        if strange := facts["scores"].count(None):
            recorder.note(f"{subject.name}: {strange} of {len(scores)} scores are not finite; the plot leaves them out")
        facts["reference_scores"] = expected.tolist()
        recorder.add(
            Measurement(subject.name, "|difference| of scores", "score", "lower", tuple(difference.tolist()), facts)
        )
        if not facts["passed"]:
            worst = ", ".join(f"{row['picture']} {row['difference']:.3g}" for row in facts["worst"])
            bounds = " and ".join(facts["missed"])
            missed.append(f"{subject.name}: misses its bound of the {bounds}; the worst pictures: {worst}")
    return missed


def _facts(
    row: ParityRow, max_difference: float | None, max_mean: float | None, min_srcc: float | None, scale: float
) -> dict[str, Any]:
    bound = row.bound_max_abs if max_difference is None else max_difference * scale
    bound_mean = row.bound_mean_abs if max_mean is None else max_mean * scale
    bound_srcc = row.bound_srcc if min_srcc is None else min_srcc
    kept = {
        "largest difference": row.max_abs <= bound,
        "mean difference": bound_mean is None or row.mean_abs <= bound_mean,
        "SRCC": bound_srcc is None or (row.srcc is not None and row.srcc >= bound_srcc),
    }
    return {
        "mixed": True,
        "largest": row.max_abs,
        "mean": row.mean_abs,
        "srcc": row.srcc,
        "plcc": row.plcc,
        "bound": bound,
        "bound_mean": bound_mean,
        "bound_srcc": bound_srcc,
        "passed": all(kept.values()),
        "missed": [name for name, is_kept in kept.items() if not is_kept],
    }


def _name(source: object, folder: Path) -> str:
    """Of a picture, below the folder: names repeat in the folders of a folder."""
    if isinstance(source, Path) and source.is_relative_to(folder):
        return source.relative_to(folder).as_posix()
    return str(source)


def _scores(subject: Subject, pictures: ParitySet) -> Scores:
    return np.concatenate([subject.run(batch) for batch in _batches(subject, pictures)])


def _batches(subject: Subject, pictures: ParitySet) -> Iterator[Inputs]:
    """Views, which are there already; or whole pictures, decoded again, in pairs, every second one with padding."""
    if subject.manifest.input == "views":
        step = max(1, _BATCH // subject.manifest.view_spec.looks)
        for start in range(0, len(pictures.views), step):
            yield subject.collate(list(pictures.views[start : start + step]))
        return
    # As the runtime cuts them: two that would fill the memory stay alone.
    for number, pair in enumerate(in_batches(enumerate(map(subject.prepare, pictures.images())), 2)):
        batch = subject.collate([picture for _, picture in pair if not isinstance(picture, str)])
        if number % 2 == 0:
            batch = {**batch, "images": _with_padding(batch["images"], subject.manifest.limits)}
        yield batch


def _with_padding(images: npt.NDArray[np.uint8], limits: Limits) -> npt.NDArray[np.uint8]:
    """Images [B, H, W, 3] with a strip more of zeros at the bottom and right, as far as the graph takes it.

    So that pictures of one size are padded, too.
    """
    height, width = images.shape[1:3]
    down, across = (
        _STRIP if most is None else min(_STRIP, most - side)
        for side, most in ((height, limits.max_height), (width, limits.max_width))
    )
    return np.pad(images, ((0, 0), (0, down), (0, across), (0, 0)))


def _tightest(limits: Sequence[Limits]) -> Limits:
    """Limits that every subject keeps, so that all see the same pictures."""
    heights = [limit.max_height for limit in limits if limit.max_height is not None]
    widths = [limit.max_width for limit in limits if limit.max_width is not None]
    return Limits(max_height=min(heights, default=None), max_width=min(widths, default=None))
