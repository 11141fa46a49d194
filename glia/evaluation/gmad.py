"""The gMAD competition (Ma et al., 2016; the paper's Fig. 4): pictures on which two models contradict each other.

Among pictures that a defender finds equally bad, or equally good, the attacker picks the two that it finds most
different. Whoever looks at such a pair sees which of the two models errs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from glia_runtime.errors import UsageError
from glia_runtime.manifest import ScoreScale
from glia_runtime.pipeline import Result
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


Score = Callable[[Sequence[str]], Iterable[Result]]
"""What each picture's score is, or what is wrong with the picture, in the order of the paths."""


@dataclass(frozen=True)
class Rival:
    """One of the two models.

    Attributes:
        name: what reports call it.
        about: what it is, in words.
        scale: of its scores.
        score: gives them.
    """

    name: str
    about: str
    scale: ScoreScale
    score: Score


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


def score_pool(rivals: tuple[Rival, Rival], paths: Sequence[str], advance: Callable[[], object]) -> Pool:
    """Score every picture with each model, one model after the other.

    Args:
        rivals: the models.
        paths: the pictures.
        advance: called after each picture and model.
    """
    failures: dict[str, str] = {}

    def scored(rival: Rival) -> Iterator[float]:
        for result in rival.score(paths):
            if result.error is not None:
                failures.setdefault(result.path, result.error)
            yield np.nan if result.score is None else result.score
            advance()

    scores = np.array([list(scored(rival)) for rival in rivals])
    kept = [index for index, path in enumerate(paths) if path not in failures]
    return Pool(rivals, tuple(paths[index] for index in kept), scores[:, kept], failures)


def write_scores(pool: Pool, path: Path) -> None:
    """Write CSV with the columns path, attacker, defender and error to `path`."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(csv_line(("path", "attacker", "defender", "error")))
        for name, scores in zip(pool.paths, pool.scores.T, strict=True):
            file.write(csv_line((name, *(str(shortest(score)) for score in scores), "")))
        for name, error in pool.failures.items():
            file.write(csv_line((name, "", "", error)))
