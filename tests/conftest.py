"""The runtime's small artifacts, and what takes long to make, each made once a run."""

import fcntl
import os
import signal
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.glia_runtime import artifacts

# A shell starts `make test &` with SIGINT ignored, and children inherit that: tests that interrupt would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the slow tests first: one begun last would leave the other processes without work.

    pytest-xdist gives each process one part of the list, so each part begins with its share of them.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = iter([item for item in items if not item.get_closest_marker("slow")])
    parts, total = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), len(items)
    items.clear()
    for part in range(parts):
        mine = slow[part::parts]
        items += [*mine, *islice(quick, max(0, (total - len(items)) // (parts - part) - len(mine)))]
    items += quick


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Gives the path of a file by its name; the first to ask, in whichever process of pytest-xdist, makes it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (shared := folder / "made-once").mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], object]) -> Path:
        path = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                make(path)
        return path

    return get


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
