"""A user's own ratings: small pictures under noise of known strength, and the CSV file that names them."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from glia.training.fit import FitConfig
from glia.training.run import RunConfig


def write_rated(folder: Path, count: int = 20) -> Path:
    """Draw pictures of 64x80 pixels and return the CSV file; its scores run from 100 down to 40."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        rng = np.random.default_rng(number)
        noise = 60 * number / count
        pixels = 128 + rng.normal(0, 20, (1, 1, 3)) + rng.normal(0, noise, (80, 64, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        rows.append((f"{number}.png", 100 - noise))
    with (folder / "rated.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "score"), *rows])
    return folder / "rated.csv"


def small_run(root: Path, **fit: object) -> RunConfig:
    """Two epochs of a tiny model on such a file; `fit` holds fields of `FitConfig` that differ."""
    settings = {"epochs": 2, "batch_size": 8, "select": "last", **fit}
    return RunConfig(
        dataset="csv",
        root=str(root),
        architecture="glianet",
        model={"backbone": "test_vit", "latent_dim": 16, "heads": 2},
        fit=FitConfig(**settings),  # type: ignore[arg-type]
    )
