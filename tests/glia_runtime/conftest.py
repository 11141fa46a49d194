"""Small pictures, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from tests.shapes import noise_image

# Limits on time say how busy the machine is, not whether the code is right.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", params=["views", "image"])
def artifact(request: pytest.FixtureRequest, views_artifact: Path, image_artifact: Path) -> Path:
    return views_artifact if request.param == "views" else image_artifact


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five readable PNG files of mixed sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for index, (height, width) in enumerate([(240, 320), (1, 1), (224, 224), (300, 231), (50, 700)]):
        path = folder / f"{index}.png"
        Image.fromarray(noise_image(height, width)).save(path)
        paths.append(path)
    return paths


@pytest.fixture(autouse=True)
def _no_model_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own $GLIA_MODEL must not reach the tests."""
    monkeypatch.delenv("GLIA_MODEL", raising=False)
    assert "GLIA_MODEL" not in os.environ
