"""Transfers that are stopped, finished again, or asked for what cannot be."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glia.data import open_dataset
from glia.transfer.folder import NEIGHBOURS_FILE, TRANSFER_FILE, Neighbours, read_rows
from glia.transfer.transfer import TransferConfig
from glia_runtime.errors import CheckpointError, DatasetError, GliaError, OutputError, UsageError
from tests.glia.transfers import blob, carry


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


class _Killed(BaseException):
    pass


def test_a_torn_transfer_goes_on_to_the_same_result(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    carry(config, out)
    expected = read_rows(out)
    whole = {name: (out / name).read_bytes() for name in (NEIGHBOURS_FILE, TRANSFER_FILE)}
    size = len(whole[NEIGHBOURS_FILE])
    lines = whole[NEIGHBOURS_FILE].splitlines(keepends=True)
    for kept in (5, len(lines[0]) + 7, size - 1):
        (out / NEIGHBOURS_FILE).write_bytes(whole[NEIGHBOURS_FILE][:kept])
        (out / TRANSFER_FILE).unlink()
        with pytest.raises(DatasetError, match="--resume goes on"):
            open_dataset("saqt", out)
        carry(config, out, resume=True)
        assert (out / TRANSFER_FILE).read_bytes() == whole[TRANSFER_FILE]
        assert read_rows(out) == expected


def test_pictures_that_failed_are_tried_again_and_keep_their_place(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    carry(config, out)
    Image.fromarray(blob(60)).save(config.pictures / "b.png")
    assert carry(config, out, resume=True) == []
    assert [row.references for row in read_rows(out)] == [("I05",), ("I60",), ("I09",), ("I40",)]


@pytest.mark.parametrize("opened_as", ["link", "folder"])
def test_the_folder_may_be_a_link(config: TransferConfig, tmp_path: Path, opened_as: str) -> None:
    (tmp_path / "deep" / "disk").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "disk")
    carry(config, tmp_path / "link")
    root = tmp_path / "link" if opened_as == "link" else tmp_path / "deep" / "disk"
    original = open_dataset("saqt", root)[0].image
    assert "data:," not in (root / "report.html").read_text(encoding="utf-8")
    carry(replace(config, render=True), tmp_path / "link", resume=True)
    assert np.array_equal(open_dataset("saqt", root)[0].image, original)


def test_a_finish_that_was_killed_does_not_pass_for_the_one_before(
    config: TransferConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    carry(replace(config, render=True), out)
    Image.fromarray(blob(60)).save(config.pictures / "e.png")

    def killed(*_: object) -> str:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr("glia.transfer.transfer.render_to_files", killed)
        with pytest.raises(_Killed):
            carry(replace(config, render=True), out, resume=True)
    with pytest.raises(DatasetError, match="--resume goes on"):
        open_dataset("saqt", out)
    carry(replace(config, render=True), out, resume=True)
    dataset = open_dataset("saqt", out)
    assert dataset[len(dataset) - 1].image.shape == (64, 80, 3)


def test_pictures_that_went_are_left_out_until_they_are_back(
    config: TransferConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, gone = tmp_path / "out", config.pictures / "a.png"

    def references() -> list[str]:
        dataset = open_dataset("saqt", out)
        return [dataset[index].reference for index in range(0, len(dataset), 125)]

    carry(config, out)
    whole = references()
    found = [str(path) for path in sorted(config.pictures.rglob("*.png"))]
    kept = gone.read_bytes()
    gone.unlink()
    with monkeypatch.context() as patch:  # it goes after the folder was looked through
        patch.setattr("glia.transfer.transfer.find_pictures", lambda *_: found)
        complaints = carry(replace(config, render=True), out, resume=True)
    assert any("a.png" in complaint for complaint in complaints)
    assert references() == whole[1:]
    gone.write_bytes(kept)
    carry(replace(config, render=True), out, resume=True)
    assert references() == whole
    # Back with other content, it is rendered anew.
    gone.unlink()
    carry(replace(config, render=True), out, resume=True)
    assert references() == whole[1:]
    Image.fromarray(blob(60)).save(gone)
    carry(replace(config, render=True), out, resume=True)
    rendered = open_dataset("saqt", out)[4].image
    carry(config, out, resume=True)
    assert np.array_equal(rendered, open_dataset("saqt", out)[4].image)


def test_another_folder_of_pictures_takes_the_place_of_the_first(config: TransferConfig, tmp_path: Path) -> None:
    carry(config, tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(blob(60)).save(other / "z.png")
    carry(replace(config, pictures=other), tmp_path / "out", resume=True)
    dataset = open_dataset("saqt", tmp_path / "out")
    assert {dataset[index].reference for index in range(len(dataset))} == {"../other/z.png"}


def test_a_list_of_files_goes_with_the_labels_that_it_names(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    carry(replace(config, render=True), out)
    carry(replace(config, scale=(0.0, 9.0)), out, resume=True)
    assert not (out / "labels.csv").exists()


def test_a_transfer_goes_on_from_another_working_directory(
    config: TransferConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "deep")
    kadid, weights = (os.path.relpath(path) for path in (config.labelled, config.weights or ""))
    begun = replace(config, labelled=f"./{kadid}/", weights=Path(weights), pictures=Path("pictures"))
    carry(begun, Path("link/out"))
    out = tmp_path / "disk" / "deep" / "out"
    expected = [row for row in read_rows(out) if not row.error]
    Image.fromarray(blob(60)).save(config.pictures / "z.png")
    monkeypatch.chdir("/")
    carry(config, out, resume=True)
    rows = [row for row in read_rows(out) if not row.error]
    assert rows[:3] == expected and rows[3].path == "../../../pictures/z.png"
    # All of it moves together.
    (moved := tmp_path / "moved").mkdir()
    original = open_dataset("saqt", out)[0].image
    for name in ("disk", "pictures"):
        (tmp_path / name).rename(moved / name)
    assert np.array_equal(open_dataset("saqt", moved / "disk" / "deep" / "out")[0].image, original)
    carry(replace(config, pictures=moved / "pictures"), moved / "disk" / "deep" / "out", resume=True)
    assert [row for row in read_rows(moved / "disk" / "deep" / "out") if not row.error] == rows


def test_the_backbone_is_needed_only_while_pictures_are_left(config: TransferConfig, tmp_path: Path) -> None:
    out, weights = tmp_path / "out", tmp_path / "weights.safetensors"
    assert config.weights is not None
    shutil.copy(config.weights, weights)
    config = replace(config, weights=weights)
    carry(config, out)
    weights.unlink()
    (config.pictures / "b.png").unlink()  # which cannot be read, and would be tried again
    carry(replace(config, scale=(0.0, 9.0)), out, resume=True)
    assert open_dataset("saqt", out).scale.maximum == 9
    assert f"weights from {weights}" in (out / "report.html").read_text(encoding="utf-8")
    Image.fromarray(blob(60)).save(config.pictures / "e.png")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        carry(config, out, resume=True)


def test_features_of_other_weights_do_not_mix(
    config: TransferConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    drawn = replace(config, labelled="synthetic", backbone="test_vit", weights=None, threshold=1.0)
    with pytest.raises(UsageError, match="lower --threshold"):  # compared; to label a drawn reference would take long
        carry(drawn, out)
    with monkeypatch.context() as patch:
        patch.setattr("glia.transfer.transfer.RECIPE", 0)  # another version of glia, which draws other pictures
        with pytest.raises(UsageError, match="was started with another labelled"):
            carry(drawn, out, resume=True)
    head, *rows = (out / NEIGHBOURS_FILE).read_text().splitlines(keepends=True)
    hub = "backbone test_vit: pretrained weights from timm's hub"  # as if it had been in reach
    (out / NEIGHBOURS_FILE).write_text("".join([json.dumps({**json.loads(head), "features": hub}) + "\n", *rows]))
    with pytest.raises(UsageError, match=r"was started with .* pretrained .*; now .* random"):  # b.png is left
        carry(drawn, out, resume=True)


def test_pictures_that_are_missing_are_named_before_training(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    carry(replace(config, render=True), out)
    (out / "rendered" / "000000").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="1 of 3 pictures are missing, the first: rendered/000000"):
        open_dataset("saqt", out)
    carry(config, out, resume=True)  # without files
    (config.pictures / "c.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 3 .*pictures/c\.png"):
        open_dataset("saqt", out)


def test_another_run_and_other_options_are_refused(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="no transfer to resume"):
        carry(config, out, resume=True)
    carry(config, out)
    with pytest.raises(OutputError, match="holds a transfer already"):
        carry(config, out)
    with pytest.raises(UsageError, match="another side, top; resume with the same options"):
        carry(replace(config, side=100, top=2), out, resume=True)
    head = json.loads((out / NEIGHBOURS_FILE).read_text().splitlines()[0])
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / NEIGHBOURS_FILE).write_text(json.dumps({**head, "glia_transfer": 1}) + "\n")
    with pytest.raises(UsageError, match="another version of glia; remove it"):
        carry(config, tmp_path / "older", resume=True)
    head.pop("glia_transfer")
    with (
        Neighbours(out, head, resume=True),
        pytest.raises(OutputError, match="another run is writing it"),
    ):
        carry(config, out, resume=True)


def test_a_folder_that_changed_or_is_none_is_refused(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    carry(config, out)
    stored = json.loads((out / TRANSFER_FILE).read_text())
    for content, says in (
        ("{", "cannot be read"),
        ("[]", "another version"),
        (json.dumps({**stored, "glia_transfer": 99}), "another version"),
        (json.dumps({**stored, "scale": {}}), "damaged"),
        (json.dumps({**stored, "labels": {}}), "has changed"),
    ):
        (out / TRANSFER_FILE).write_text(content)
        with pytest.raises(DatasetError, match=says):
            open_dataset("saqt", out)


def test_mistakes_name_what_is_wrong(config: TransferConfig, kadid: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"pictures": tmp_path / "gone"}, "gone: no such folder"),
        ({"pictures": tmp_path / "empty"}, "empty: holds no pictures"),
        ({"pictures": tmp_path / "broken"}, "none of 1 pictures could be read"),
        ({"pictures": tmp_path}, "lies among the pictures"),
        ({"labelled": str(tmp_path / "gone")}, "gone"),
        ({"top": 82}, "81 references"),
        ({"scale": (9.0, 0.0)}, "--scale 9 0"),
        ({"threshold": float("nan")}, "--threshold nan"),
        ({"scale": (0.0, 0.0)}, "--scale 0 0"),
        ({"scale": (float("nan"), 9.0)}, "--scale nan 9"),
        ({"scale": (0.0, float("inf"))}, "--scale 0 inf"),
        ({"weights": tmp_path / "gone.pt"}, "gone.pt"),
        ({"backbone": "no_such_net"}, "no_such_net"),
        ({"weights": None}, "--backbone-weights"),
    ]
    for number, (changed, says) in enumerate(cases):
        with pytest.raises(GliaError, match=says):
            carry(replace(config, **changed), tmp_path / f"out{number}")
