"""What `glia-infer --info` says of an artifact; the command itself is in test_cli.py."""

from pathlib import Path

import pytest

from glia_runtime import EngineInfo
from glia_runtime.info import describe
from tests.glia_runtime import artifacts


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (EngineInfo("tensorrt", "11.4", ("8.9", "12.0")), "tensorrt 11.4, compute capability 8.9, 12.0"),
        (EngineInfo("aotinductor-cpu", "2.15"), "aotinductor-cpu 2.15"),
    ],
)
def test_an_engine_names_the_gpus_that_it_is_for(tmp_path: Path, engine: EngineInfo, words: str) -> None:
    path = tmp_path / "model"
    artifacts.rewrite(path, artifacts.save_views(path), engine=engine)
    assert dict(describe(path))["engine"] == words
