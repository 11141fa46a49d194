"""The runtime's small artifacts, made once a session."""

import signal
from pathlib import Path

import pytest

from tests.glia_runtime import artifacts

# A shell starts `make test &` with SIGINT ignored, and children inherit that: tests that interrupt would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def views_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "views.onnx"
    artifacts.save_views(path)
    return path


@pytest.fixture(scope="session")
def image_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.onnx"
    artifacts.save_image(path)
    return path
