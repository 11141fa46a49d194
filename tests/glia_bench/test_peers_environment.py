"""The peers' environment is installed when there is none that would do; nothing is really installed here."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glia_bench.peers_environment import REQUIREMENTS, environment_folder, is_installed, prepare_environment
from glia_runtime.errors import BackendError


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an environment that is whole, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = environment_folder()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "complete").write_text("pyiqa>=0.1.15\nsetuptools<81\n")  # as every glia so far has written it
    return folder


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that an installation runs, which do nothing here."""
    run: list[list[str]] = []

    def pretend(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        run.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").symlink_to(sys.executable)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pretend)
    return run


def test_a_whole_environment_is_taken_as_it_is(installed: Path, commands: list[list[str]]) -> None:
    said: list[str] = []
    assert prepare_environment(said.append) == installed / "bin" / "python"
    assert not said and not commands


def _of_other_requirements(folder: Path) -> None:
    (folder / "complete").write_text("pyiqa>=0.1.14\n")


def _half(folder: Path) -> None:
    (folder / "complete").unlink()


def _unreadable(folder: Path) -> None:
    _half(folder)
    (folder / "complete").mkdir()


def _without_its_interpreter(folder: Path) -> None:
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to(folder / "gone")


@pytest.mark.parametrize("spoil", [_of_other_requirements, _half, _unreadable, _without_its_interpreter])
def test_one_that_would_not_do_is_installed_anew(
    spoil: Callable[[Path], None], installed: Path, commands: list[list[str]]
) -> None:
    spoil(installed)
    (installed / "left over").touch()
    assert not is_installed()
    said: list[str] = []
    prepare_environment(said.append)
    assert len(said) == 1 and str(installed) in said[0]
    assert commands[-1][-len(REQUIREMENTS) :] == list(REQUIREMENTS)
    assert is_installed() and not (installed / "left over").exists()


def test_half_an_environment_never_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without a network
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    said: list[str] = []
    with pytest.raises(BackendError, match="--no-peers"):
        prepare_environment(said.append)
    assert any(str(environment_folder()) in line for line in said)
    assert not environment_folder().exists()
