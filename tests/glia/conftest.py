"""What several test files train on: rated pictures, and a transfer to run; and no hub to wait for."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glia.data.synthetic import LEVELS
from glia.transfer.transfer import TransferConfig
from tests.glia.rated import write_rated
from tests.glia.transfers import BACKBONE, REFERENCES, blob, save_weights, score


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rated(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="session")
def kadid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KADID-10k in its own layout; all distorted pictures are one file, since nobody looks at them here."""
    root = tmp_path_factory.mktemp("kadid10k")
    (root / "images").mkdir()
    Image.fromarray(blob(0)).save(root / "distorted.png")
    rows = ["dist_img,ref_img,dmos,var"]
    for number, name in enumerate(REFERENCES, start=1):
        Image.fromarray(blob(number)).save(root / "images" / f"{name}.png")
        for kind in range(1, 26):
            for level in LEVELS:
                file = f"{name}_{kind:02d}_{level:02d}.png"
                os.link(root / "distorted.png", root / "images" / file)
                rows.append(f"{file},{name}.png,{score(number, kind, level)},0.5")
    (root / "dmos.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(tmp_path_factory.mktemp("weights") / "backbone.safetensors")


@pytest.fixture
def config(kadid: Path, weights: Path, tmp_path: Path) -> TransferConfig:
    """Four new pictures: references 5, 9 and 40 slightly brighter, and a broken file."""
    pictures = tmp_path / "pictures"
    (pictures / "deeper").mkdir(parents=True)
    for name, reference in (("a.png", 5), ("c.png", 9), ("deeper/d.png", 40)):
        Image.fromarray((blob(reference) * 0.98).astype(np.uint8)).save(pictures / name)
    (pictures / "b.png").write_bytes(b"no picture")
    return TransferConfig(
        labelled=str(kadid),
        drawn=1,
        pictures=pictures,
        backbone=BACKBONE,
        weights=weights,
        side=512,
        top=1,
        threshold=-1.0,
        scale=None,
        render=False,
        batch_size=2,
        processes=1,
    )
