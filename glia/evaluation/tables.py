"""The paper's tables as experiments: what is trained, and tested on what, for each cell."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from glia.training.fit import FitConfig
from glia.training.recipes import RECIPES, Recipe
from glia.training.run import ALL, SYNTHETIC, RunConfig
from glia_runtime.errors import UsageError
from glia_runtime.scorer import BUNDLED_MODEL

# A run on drawn pictures: some minutes on two cores, and enough for the rows to differ. After 150 steps the loss of all
# rows was still falling.
_DRAWN = 200
_DRAWN_FIT = FitConfig(steps=300, batch_size=24, learning_rate=1e-3, select="last", evaluate_every=100)


@dataclass(frozen=True)
class Experiment:
    """What is trained, and what is tested on, for one cell of a table.

    Attributes:
        row: the cell's row in the paper.
        column: the cell's column in the paper, or "synthetic".
        name: of the folder of its runs; cells that train the same have the same.
        config: of the first split.
        tested: the dataset that is tested on.
        pictures: how many are drawn to test on (synthetic).
        random_backbone: whether its backbone may stay random; its figures then mean nothing.
    """

    row: str
    column: str
    name: str
    config: RunConfig
    tested: str
    pictures: int = 26
    random_backbone: bool = False

    def split(self, number: int) -> RunConfig:
        """Of another split; where there are no splits, of another seed."""
        config = self.config
        if config.dataset == SYNTHETIC or config.split == ALL:
            return replace(config, fit=replace(config.fit, seed=config.fit.seed + number))
        return replace(config, split=str(number))


def experiments(table: int) -> list[Experiment]:
    """A table's cells that are ours to fill, with the paper's datasets."""
    names: dict[str, str] = {}  # of the first recipe that trains a config
    for recipe in RECIPES.values():
        names.setdefault(json.dumps(asdict(recipe.config)), recipe.name)
    return [
        Experiment(
            recipe.row,
            tested if tested == recipe.config.dataset else f"{recipe.config.dataset} to {tested}",
            names[json.dumps(asdict(recipe.config))],
            recipe.config,
            tested,
        )
        for recipe in _recipes(table)
        for tested in recipe.paper
    ]


def synthetic_experiments(table: int) -> list[Experiment]:
    """A column that the paper does not have: a table's rows on drawn pictures, over the bundled model's ViT-tiny.

    Raises:
        UsageError: the table is about going from one dataset to another.
    """
    if table == 2:
        raise UsageError("table 2 goes from one dataset to another, and synthetic is one; choose another table")
    first: dict[str, Recipe] = {}
    for recipe in _recipes(table):
        first.setdefault(recipe.row, recipe)
    return [
        Experiment(row, SYNTHETIC, f"synthetic/{_slug(row)}", _on_drawn_pictures(recipe.config), SYNTHETIC)
        for row, recipe in first.items()
    ]


def quick(experiment: Experiment) -> Experiment:
    """The same in seconds, to see that everything works: ten steps of the smallest ViT. Its figures mean nothing."""
    config = experiment.config
    drawn = config.dataset == SYNTHETIC
    widths = {"latent_dim": 16, "heads": 2} if config.architecture == "glianet" else {}
    fit = replace(config.fit, steps=10, epochs=0, views=1, batch_size=24, evaluate_every=10, precision="fp32")
    return replace(
        experiment,
        name=f"quick/{experiment.name}",
        pictures=3,
        random_backbone=True,
        config=replace(
            config,
            model={**config.model, "backbone": "test_vit", **widths},
            backbone_weights="",
            cache_tokens=False,
            pictures=round(config.pictures * 6 / _DRAWN) if drawn else config.pictures,
            validation_pictures=1 if drawn else config.validation_pictures,
            fit=fit,
        ),
    )


def _recipes(table: int) -> Iterator[Recipe]:
    return (recipe for recipe in RECIPES.values() if recipe.name.startswith(f"table{table}/"))


def _slug(row: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")


def _on_drawn_pictures(config: RunConfig) -> RunConfig:
    """A recipe's model and relative learning rate, on drawn pictures; where less is trained on, on fewer pictures."""
    shape = {"latent_dim": 64, "heads": 4, "token_drop": 0.5} if config.architecture == "glianet" else {}
    rate = _DRAWN_FIT.learning_rate * config.fit.learning_rate / RECIPES["table1/koniq"].config.fit.learning_rate
    return RunConfig(
        dataset=SYNTHETIC,
        architecture=config.architecture,
        model={**config.model, "backbone": "vit_tiny_patch16_224", **shape},
        pictures=round(_DRAWN * config.train_share / RunConfig.train_share),
        validation_pictures=1,
        backbone_weights=str(BUNDLED_MODEL),
        fit=replace(_DRAWN_FIT, learning_rate=rate),
    )
