"""The runtime's small artifacts, made once a session."""

import signal
import sys
from pathlib import Path

import pytest

from tests.glia_runtime import artifacts

# A shell starts `make test &` with SIGINT ignored, and children inherit that: tests that interrupt would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A scorer takes all cores and leaves torch so, and the workers of pytest then fight over them.

    Ten steps of a tiny model took 16 s of CPU so on two busy cores, and 3 s with one thread.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


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
