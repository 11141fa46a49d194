"""Where a rival's scores come from: a model that is here, or a file of the scores that another one gave."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from glia.data.readers.csv import UNUSABLE, read_rows
from glia.data.readers.ratings import finite, rating_scale, refuse
from glia.evaluation.gmad import Rival
from glia.evaluation.scoring import evaluation_batch, open_scorer
from glia_runtime.errors import DatasetError, UsageError
from glia_runtime.markup import scale_line
from glia_runtime.pipeline import Result

ROLES = ("attacker", "defender")


def open_rivals(
    sources: Sequence[str],
    lower_is_better: Collection[str],
    pictures: Sequence[str],
    folder: Path,
    complain: Callable[[str], object],
) -> tuple[tuple[Rival, Rival], list[str]]:
    """The attacker and the defender, and those of the pictures that both can be asked about.

    Each is called by its file's name, or as it was given where the names are one.

    Args:
        sources: of each what `open_scorer` takes, or a file of scores that ends in .csv, see `read_scores`.
        lower_is_better: of ROLES, those whose file holds scores that fall with quality.
        pictures: paths.
        folder: where they were looked for.
        complain: told on one line how many pictures a file lacks.

    Raises:
        UsageError: a direction that a model has already.
        DatasetError: see `read_scores`; or all scores are the same.
        GliaError: whatever `open_scorer` raises.
    """
    for role, source in zip(ROLES, sources, strict=True):
        if role in lower_is_better and not is_list(source):
            raise UsageError(f"{source} is a model, which knows its direction; leave out --lower-is-better {role}")
    # before a model is loaded
    known = {source: read_scores(Path(source), pictures, folder) for source in sources if is_list(source)}
    for source, scores in known.items():
        if len(scores) < len(pictures):
            missing = len(pictures) - len(scores)
            complain(f"{source}: no score for {missing} of {len(pictures)} pictures; they are left out")
    paths = [path for path in pictures if all(path in scores for scores in known.values())]
    one, other = (
        _listed(Path(source), known[source], role not in lower_is_better) if source in known else _model(source)
        for role, source in zip(ROLES, sources, strict=True)
    )
    if one.name == other.name:
        one, other = (replace(rival, name=name) for rival, name in zip((one, other), sources, strict=True))
    return (one, other), paths


def is_list(source: str) -> bool:
    """Whether it names a file of scores, and no model."""
    return source.lower().endswith(".csv")


def read_scores(source: Path, pictures: Sequence[str], folder: Path) -> dict[str, float]:
    """The scores in a CSV file with the columns `path` and `score` of those of the pictures that it has one for.

    A row without a score, as ``glia-infer`` writes it of a picture that failed, counts as no row; so does one of
    another picture.

    Args:
        source: the file. A relative path starts from `folder`, from the file's own folder or from the current one,
            whichever leads to one of the pictures.
        pictures: paths.
        folder: where they were looked for.

    Raises:
        DatasetError: no such file, no such columns, bad rows (named by line), or no score of any of the pictures.
    """
    wanted = {_absolute(path): path for path in pictures}
    scores: dict[str, float] = {}
    bad: list[str] = []
    twice: list[str] = []
    rows = list(read_rows(source, "path", "score"))
    for line, row in rows:
        score = finite(row["score"])
        if not row["path"] or (row["score"] and score is None):
            bad.append(f"{line}: " + (f"score {row['score']!r}" if row["path"] else "no path"))
            continue
        places = (_absolute(base / row["path"]) for base in (folder, source.parent, Path()))
        picture = next((wanted[place] for place in places if place in wanted), None)
        if picture is None or score is None:
            continue
        if picture in scores:
            twice.append(f"{line}: {picture}")
        scores[picture] = score
    refuse(source, bad, UNUSABLE)
    refuse(source, twice, "a picture that an earlier line has")
    if not scores:
        found = f"its first path is {rows[0][1]['path']}" if rows else "it holds no rows"
        raise DatasetError(
            f"{source}: scores none of the {len(pictures)} pictures of {folder} ({found}); give their paths from there"
        )
    return scores


def _listed(source: Path, scores: dict[str, float], higher_is_better: bool) -> Rival:
    scale = rating_scale(source, list(scores.values()), list(scores), higher_is_better, None, None)

    def score(paths: Sequence[str]) -> Iterator[Result]:
        return (Result(path, scores[path], None) for path in paths)

    return Rival(source.name, f"scores from a file, {scale_line(scale)}", scale, score)


def _model(source: str) -> Rival:
    scorer = open_scorer(source)
    scale = scorer.manifest.score_scale
    about = f"{scorer.manifest.architecture}, {scale_line(scale)}, trained on {scale.dataset}"
    return Rival(scorer.artifact.name, about, scale, partial(scorer.stream, batch_size=evaluation_batch(scorer)))


def _absolute(path: str | Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (Path.absolute keeps "..")
