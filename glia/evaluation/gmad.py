"""The gMAD competition (Ma et al., 2016; the paper's Fig. 4): pictures on which two models contradict each other.

Among pictures that a defender finds equally bad, or equally good, the attacker picks the two that it finds most
different. Whoever looks at such a pair sees which of the two models errs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from glia.evaluation.scoring import batch_size
from glia_runtime.errors import UsageError
from glia_runtime.manifest import ScoreScale
from glia_runtime.scorer import Scorer
from glia_runtime.writers import csv_line, shortest

Level = Literal["low", "high"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Duel:
    """The pairs that one attack finds at one level of quality.

    Attributes:
        defender: whose scores are alike: 0 or 1, a row of the scores.
        level: where on the defender's scale.
        pictures: how many the defender finds so.
        pairs: indices of the picture that the attacker finds worse and of the one it finds better, the pair that it
            finds most different first.
    """

    defender: int
    level: Level
    pictures: int
    pairs: tuple[tuple[int, int], ...]


def find_duels(qualities: Floats, bins: int = 10, pairs: int = 1) -> list[Duel]:
    """The four duels of two models: each defends at low and at high quality; in Fig. 4's order, model 1 first.

    The defender's order is cut into `bins` parts of equally many pictures. In the first, and in the last, the
    picture that the attacker ranks k-th lowest meets the one that it ranks k-th highest. Equal scores keep the order
    of the pictures.

    Args:
        qualities: float64 [2, N], each model's scores of the same pictures, higher being better.
        bins: parts of the defender's order.
        pairs: from each part at most.

    Raises:
        UsageError: too few pictures for two in each part.
    """
    count = qualities.shape[1]
    if count < 2 * bins:
        raise UsageError(f"{count} pictures are too few for {bins} bins with a pair in each; give fewer --bins")
    duels = []
    levels: tuple[Level, Level] = ("low", "high")
    for defender, level in product((1, 0), levels):
        parts = np.array_split(np.argsort(qualities[defender], kind="stable"), bins)
        alike = np.sort(parts[0] if level == "low" else parts[-1])
        order = alike[np.argsort(qualities[1 - defender][alike], kind="stable")].tolist()
        found = [(order[k], order[-1 - k]) for k in range(min(pairs, len(order) // 2))]
        duels.append(Duel(defender, level, len(order), tuple(found)))
    return duels


@dataclass(frozen=True)
class Rival:
    """One of the two models: what reports call it, its architecture, and the scale of its scores."""

    name: str
    architecture: str
    scale: ScoreScale


@dataclass(frozen=True)
class Pool:
    """Pictures that two models have scored.

    Attributes:
        rivals: the attacker and the defender.
        paths: of the N pictures that both could score.
        scores: float64 [2, N], each on its model's own scale.
        failures: one line for each picture that one of them could not score, by path.
    """

    rivals: tuple[Rival, Rival]
    paths: tuple[str, ...]
    scores: Floats
    failures: Mapping[str, str]

    @property
    def qualities(self) -> Floats:
        """The scores with their signs such that higher is better for both: float64 [2, N]."""
        signs = np.array([1 if rival.scale.higher_is_better else -1 for rival in self.rivals])
        return np.asarray(self.scores * signs[:, None])


def rivals(scorers: Sequence[Scorer]) -> tuple[Rival, Rival]:
    """The attacker's and the defender's facts; each is called by its file's name, or path where the names are one."""
    files = [scorer.artifact for scorer in scorers]
    names = [file.name for file in files] if files[0].name != files[1].name else list(map(str, files))
    facts = (
        Rival(name, scorer.manifest.architecture, scorer.manifest.score_scale)
        for name, scorer in zip(names, scorers, strict=True)
    )
    return next(facts), next(facts)


def score_pool(
    of: tuple[Rival, Rival], scorers: Sequence[Scorer], paths: Sequence[str], advance: Callable[[], object]
) -> Pool:
    """Score every picture with each model, one model after the other.

    Args:
        of: the models' facts.
        scorers: the models.
        paths: the pictures.
        advance: called after each picture and model.
    """
    failures: dict[str, str] = {}

    def scored(scorer: Scorer) -> Iterator[float]:
        for result in scorer.stream(paths, batch_size=batch_size(scorer)):
            if result.error is not None:
                failures.setdefault(result.path, result.error)
            yield np.nan if result.score is None else result.score
            advance()

    scores = np.array([list(scored(scorer)) for scorer in scorers])
    kept = [index for index, path in enumerate(paths) if path not in failures]
    return Pool(of, tuple(paths[index] for index in kept), scores[:, kept], failures)


def write_scores(pool: Pool, path: Path) -> None:
    """Write CSV with the columns path, attacker, defender and error to `path`."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(csv_line(("path", "attacker", "defender", "error")))
        for name, scores in zip(pool.paths, pool.scores.T, strict=True):
            file.write(csv_line((name, *(str(shortest(score)) for score in scores), "")))
        for name, error in pool.failures.items():
            file.write(csv_line((name, "", "", error)))
