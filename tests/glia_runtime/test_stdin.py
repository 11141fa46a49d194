"""``glia-infer -``: paths from another program, however slowly they come."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

from tests.glia_runtime.test_cli import COMMAND, HEADER, csv_rows, infer, lines


def test_paths_from_stdin(views_artifact: Path, pictures: list[Path]) -> None:
    text = "\n".join(map(str, pictures[:2])) + "\r\n\n" + str(pictures[2])
    result = infer("--model", views_artifact, pictures[3], "-", input=text.encode())
    assert result.returncode == 0
    assert [row["path"] for row in csv_rows(result.stdout)] == [str(path) for path in (pictures[3], *pictures[:3])]


def test_a_slow_list_on_stdin_gets_each_row_before_the_next_path(views_artifact: Path, pictures: list[Path]) -> None:
    """A path is sent only once the row of the one before has come, far fewer of them than fill a batch."""
    process = subprocess.Popen(
        [*COMMAND, "--model", views_artifact, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for index, path in enumerate(pictures[:3]):
        name = os.fsencode(path)
        process.stdin.write(name[:-3])
        process.stdin.write(name[-3:] + b"\n")
        for wanted in (HEADER, name)[index > 0 :]:
            assert select.select([process.stdout], [], [], 600)[0]  # else the test would hang
            assert process.stdout.readline().startswith(wanted)
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait(timeout=600) == 0
    process.stdout.close()


def test_no_paths_on_stdin(views_artifact: Path) -> None:
    result = infer("--model", views_artifact, "-", input=b"")
    assert (result.returncode, result.stdout, lines(result)) == (0, HEADER, [])


def test_paths_that_end_with_a_zero_byte(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    """Every name that a file may have, as it stands."""
    names = [os.fsencode(tmp_path) + name for name in (b"/a\r", b"/b\n\r\n", b"/\xff ", b"/ c")]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(pictures[0].read_bytes())
    result = infer("--model", views_artifact, "-0", "-", input=b"\0".join([*names, b"", names[0]]))
    assert result.returncode == 0
    assert [os.fsencode(row["path"]) for row in csv_rows(result.stdout)] == [*names, names[0]]
