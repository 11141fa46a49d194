"""Artifact and manifest appear together: every step interrupted, every odd path."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glia_export.artifact_pair import write_pair
from glia_runtime.errors import OutputError
from glia_runtime.manifest import manifest_path

OLD, NEW = ("old artifact", "old manifest"), ("new artifact", "new manifest")


def write(output: Path) -> None:
    with write_pair(output) as temporary:
        temporary.write_text(NEW[0])
        manifest_path(temporary).write_text(NEW[1])


def pair(output: Path) -> tuple[str, str] | None:
    paths = (output, manifest_path(output))
    if not any(path.exists() for path in paths):
        return None
    return (paths[0].read_text(), paths[1].read_text())


@pytest.mark.parametrize("old", [None, OLD], ids=["new", "over an old pair"])
def test_both_appear(tmp_path: Path, old: tuple[str, str] | None) -> None:
    output = tmp_path / "model.onnx"
    if old:
        output.write_text(old[0])
        manifest_path(output).write_text(old[1])
    write(output)
    assert pair(output) == NEW
    assert len(list(tmp_path.iterdir())) == 2


STEPS: tuple[tuple[Any, str], ...] = (
    (Path, "stat"),
    (Path, "exists"),
    (Path, "is_file"),
    (Path, "replace"),
    (Path, "unlink"),
    (Path, "write_text"),
    (shutil, "copyfile"),
    (os, "fsync"),
    (os, "access"),
)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError], ids=["interrupt", "os error"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("old", [None, OLD], ids=["new", "over an old pair"])
def test_a_failure_at_any_step_leaves_old_or_new_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: tuple[str, str] | None,
    after: bool,
    error: type[BaseException],
) -> None:
    calls = 0
    fail_at = -1

    def failing(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            mine, calls = calls, calls + 1
            if mine == fail_at and not after:
                raise error(5, "Input/output error")
            result = step(*arguments, **options)
            if mine == fail_at:
                raise error(5, "Input/output error")
            return result

        return run

    def attempt(number: int) -> tuple[Path, type[BaseException] | None]:
        """Write with the `number`-th step failing; return the path and what came out."""
        nonlocal calls, fail_at
        folder = tmp_path / str(number)
        folder.mkdir()
        output = folder / "model.onnx"
        if old:
            output.write_text(old[0])
            manifest_path(output).write_text(old[1])
        calls, fail_at = 0, number
        with monkeypatch.context() as patch:
            for owner, name in STEPS:
                patch.setattr(owner, name, failing(getattr(owner, name)))
            try:
                write(output)
            except (KeyboardInterrupt, OSError, OutputError) as raised:
                return output, type(raised)
        return output, None

    attempt(10_000)
    total = calls
    assert total > 10  # the steps were seen
    for number in range(total):
        output, raised = attempt(number)
        assert pair(output) in (old, NEW), number
        if raised is None:
            continue  # a failed look (does it exist?) may also be an answer
        leftovers = {path.name for path in output.parent.iterdir()} - {"model.onnx", "model.onnx.json"}
        # The interrupt may hit the removal of a temporary file itself; nothing else may leave one.
        assert not leftovers or error is KeyboardInterrupt or number >= total - 4, (number, leftovers)


def test_an_exception_in_the_work_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_pair(tmp_path / "model.onnx") as temporary:
        temporary.write_text("half")
        manifest_path(temporary).write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_hostile_paths(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "taken.onnx.json").mkdir()
    for path, reason in (
        (folder, "is a directory"),
        (tmp_path / "missing" / "model.onnx", "does not exist"),
        (Path("/dev/full"), "not an ordinary file"),
        (tmp_path / "taken.onnx", "not an ordinary file"),
        (tmp_path / ("x" * 300), "cannot be written"),
    ):
        with pytest.raises(OutputError, match=reason), write_pair(path):
            pytest.fail("the work began")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "taken.onnx.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission denied"), write_pair(tmp_path / "model.onnx"):
        pytest.fail("the work began")


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "v1.onnx"
    target.write_text(OLD[0])
    link = tmp_path / "model.onnx"
    link.symlink_to(target)
    write(link)
    assert link.is_symlink() and pair(link) == NEW and target.read_text() == NEW[0]
