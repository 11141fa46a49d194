from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from glia_runtime import OutputError, atomic_write


def test_success_renames(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".onnx"
        assert not target.exists()
        temporary.write_bytes(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_any_exception_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "scores.csv"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    assert target.read_text() == "old"


def test_the_mode_of_an_existing_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "scores.csv"
    target.write_text("old")
    target.chmod(0o640)
    with atomic_write(target) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "real.csv", tmp_path / "link.csv"
    target.write_text("old")
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    with atomic_write(pipe) as temporary:
        temporary.write_bytes(b"rows")
    reader.join(timeout=10)
    assert received == [b"rows"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/file.csv", "does not exist; create it first"),
        ("folder", "is a directory"),
        ("x" * 300, "cannot be written"),
        ("x" * 243, "File name too long"),  # the temporary name is longer
    ],
)
def test_impossible_targets_fail_before_the_work(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=reason), atomic_write(tmp_path / name):
        pytest.fail("the body must not run")


def test_a_folder_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="cannot be written"), atomic_write("scores.csv"):
        pytest.fail("the body must not run")


def test_a_full_disk_is_one_line() -> None:
    reason = r"/dev/full: cannot be written \(No space left on device\)"
    with pytest.raises(OutputError, match=reason), atomic_write("/dev/full") as temporary:
        temporary.write_bytes(b"rows")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / "file"):
        pass


def test_an_error_about_another_file_passes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), atomic_write(tmp_path / "file"):
        (tmp_path / "other").read_bytes()


def test_a_read_only_target_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anything; the permission check cannot fail")
    target = tmp_path / "file"
    target.touch(mode=0o444)
    with pytest.raises(OutputError, match="permission denied"), atomic_write(target):
        pytest.fail("the body must not run")
