"""What files, folders, patterns and standard input stand for, on real folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from glia_runtime.decode import _FORMATS
from glia_runtime.errors import UsageError
from glia_runtime.listing import SUFFIXES, find_pictures, some_pictures


def find(*arguments: str | Path, recursive: bool = False) -> tuple[list[str], list[str]]:
    """What was found, and what was complained about."""
    complaints: list[str] = []
    found = list(find_pictures(map(str, arguments), recursive, complaints.append))
    return found, complaints


def names(folder: Path, found: list[str]) -> list[str]:
    return [os.path.relpath(path, folder) for path in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two folders deep, made in an order that is not the sorted one."""
    for name in ("b/z.jpg", "b/c/1.PNG", "b/a.webp", "a/2.jpeg", "a/10.jpeg", "top.tif", "notes.txt", "B.gif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for hidden in (".thumbnails/1.jpg", "b/.hidden.jpg", "a/._2.jpeg"):
        path = tmp_path / hidden
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_stands_for_its_pictures_by_name(tree: Path) -> None:
    found, complaints = find(tree)
    assert names(tree, found) == ["B.gif", "top.tif"]
    assert complaints == []


def test_a_folder_and_those_in_it(tree: Path) -> None:
    found, complaints = find(tree, recursive=True)
    assert names(tree, found) == ["B.gif", "top.tif", "a/10.jpeg", "a/2.jpeg", "b/a.webp", "b/z.jpg", "b/c/1.PNG"]
    assert complaints == []


def test_what_is_named_is_tried_whatever_it_is(tree: Path) -> None:
    named = [str(tree / "notes.txt"), str(tree / "b" / ".hidden.jpg"), str(tree / "missing"), "", "top.tif", "top.tif"]
    assert find(*named) == (named, [])


def test_a_folder_without_pictures_is_said(tree: Path) -> None:
    (tree / "empty").mkdir()
    assert find(tree / "empty", recursive=True) == ([], [f"{tree}/empty: no pictures in this folder"])
    (line,) = find(tree / "empty")[1]
    assert line.endswith("no pictures in this folder; --recursive looks into its folders")
    assert find(tree, recursive=True)[1] == []  # only what was named has to hold some


def test_a_loop_of_links_ends(tree: Path) -> None:
    (tree / "a" / "loop").symlink_to(tree)
    (tree / "self.jpg").symlink_to(tree / "self.jpg")
    found, complaints = find(tree, recursive=True)
    assert names(tree, found)[:3] == ["B.gif", "self.jpg", "top.tif"]
    assert len(found) == 8
    assert complaints == []


def test_a_linked_folder_is_listed_once_and_under_its_own_name_if_it_lies_in_the_tree(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "far.jpg").touch()
    for name in ("0", "1"):
        (tree / name).symlink_to(outside)
        (tree / f"to-b-{name}").symlink_to(tree / "b")
    (outside / "back").symlink_to(tree)
    found, _ = find(tree, recursive=True)
    without_links = find(tree / "a", tree / "b", recursive=True)[0]
    assert names(tree, found) == ["B.gif", "top.tif", *names(tree, without_links), "0/far.jpg"]


def test_a_fifo_and_a_dangling_link_are_left_to_whoever_opens_them(tree: Path) -> None:
    os.mkfifo(tree / "pipe.jpg")
    (tree / "dangling.jpg").symlink_to(tree / "nowhere")
    assert names(tree, find(tree)[0]) == ["B.gif", "dangling.jpg", "pipe.jpg", "top.tif"]


def test_a_folder_that_changes_meanwhile(tree: Path) -> None:
    """Folders are listed when their turn comes: what is new is found, what is gone is said, and the rest goes on."""
    complaints: list[str] = []
    finding = find_pictures([str(tree)], True, complaints.append)
    assert next(finding).endswith("B.gif")
    shutil.rmtree(tree / "a")
    (tree / "b" / "new.jpg").touch()
    assert names(tree, list(finding)) == ["top.tif", "b/a.webp", "b/new.jpg", "b/z.jpg", "b/c/1.PNG"]
    (line,) = complaints
    assert line == f"{tree}/a: cannot be listed (No such file or directory); check that it is there and readable"


def test_names_with_newlines_and_bytes_that_are_no_text(tree: Path) -> None:
    odd = [b"a\nb.jpg", b"\xff.jpg", b"[x].jpg"]
    for name in odd:
        Path(os.fsdecode(os.fsencode(tree / "a") + b"/" + name)).touch()
    found, _ = find(tree / "a")
    assert {os.fsencode(name) for name in names(tree / "a", found)} == {*odd, b"10.jpeg", b"2.jpeg"}
    assert find(tree / "a" / "[x].jpg")[0] == [str(tree / "a" / "[x].jpg")]  # a file, so no pattern


def test_patterns(tree: Path) -> None:
    def matched(pattern: str) -> list[str]:
        return names(tree, find(tree / pattern)[0])

    assert matched("?.gif") == ["B.gif"]
    assert matched("*/*.jp*g") == ["a/10.jpeg", "a/2.jpeg", "b/z.jpg"]
    assert matched("[ab]") == ["a/10.jpeg", "a/2.jpeg", "b/a.webp", "b/z.jpg"]  # a folder, as if it were named
    assert matched("*.txt") == ["notes.txt"]
    assert matched("*.none") == ["*.none"]
    assert matched("**/*.jp*g") == ["a/10.jpeg", "a/2.jpeg", "b/z.jpg"]
    assert matched("b/**/*") == ["b/a.webp", "b/z.jpg", "b/c/1.PNG"]
    assert matched("**/c/**/1.*") == ["b/c/1.PNG"]
    (tree / "a" / "loop").symlink_to(tree)
    assert matched("**/*.jp*g") == ["a/10.jpeg", "a/2.jpeg", "b/z.jpg"]


def test_patterns_where_the_user_stands(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert find("**/*.gif") == (["B.gif"], [])
    assert find("*.gif") == (["B.gif"], [])
    assert find("b/**/*.PNG") == (["b/c/1.PNG"], [])


def test_some_of_a_folder_spread_evenly(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    names = [tmp_path / "b.jpg", *(inner / f"{index}.PNG" for index in range(8))]
    for name in (*names, tmp_path / "notes.txt"):
        name.touch()
    said: list[str] = []
    assert some_pictures(tmp_path, 9, said.append) == names
    assert said == []
    assert some_pictures(tmp_path, 3, said.append) == [names[0], names[4], names[8]]
    assert said == [f"{tmp_path}: taking 3 of its 9 pictures, spread evenly over their names"]
    assert some_pictures(tmp_path, 1, said.append) == names[:1]
    for folder, reason in ((tmp_path / "gone", "not a folder"), (tmp_path / "notes.txt", "not a folder")):
        with pytest.raises(UsageError, match=reason):
            some_pictures(folder, 1, said.append)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no picture"):
        some_pictures(tmp_path / "empty", 1, said.append)


def test_the_endings_are_those_of_the_formats_that_are_read() -> None:
    PillowImage.init()
    endings = {ending for ending, name in PillowImage.registered_extensions().items() if name in _FORMATS}
    assert endings - {".pfm"} <= SUFFIXES  # .pfm holds floating-point samples, which are refused
    missing = {name for name in _FORMATS if name not in PillowImage.OPEN}  # a build may lack some
    assert not missing - {"AVIF", "JPEG2000", "WEBP"}
    if not missing:
        assert endings - {".pfm"} == SUFFIXES
