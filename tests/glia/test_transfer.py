"""Labels carried from rated references to new pictures: the right ones, in the right units, whatever interrupts."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from typer.testing import CliRunner

from glia.data import open_dataset
from glia.data.synthetic import KADID_DISTORTIONS, LEVELS, distort
from glia.models import load_checkpoint
from glia.training.fit import FitConfig
from glia.training.run import RunConfig, train
from glia.transfer.cli import app
from glia.transfer.folder import TRANSFER_FILE, read_rows
from glia.transfer.rendering import read_bounded, render
from glia.transfer.transfer import TransferConfig
from glia_runtime.errors import UsageError
from tests.glia.transfers import BACKBONE, blob, carry, score
from tests.glia_runtime.chromium import CHROMIUM, Page


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


# The result


def test_each_picture_is_given_the_labels_of_the_reference_that_it_resembles(
    config: TransferConfig, tmp_path: Path
) -> None:
    (complaint,) = carry(config, tmp_path / "out")
    assert "b.png" in complaint and "not a picture" in complaint
    dataset = open_dataset("saqt", tmp_path / "out")
    assert len(dataset) == 3 * 125
    sent = pickle.loads(pickle.dumps(dataset))  # to a loader's processes, where they are not forks
    assert np.array_equal(sent[7].image, dataset[7].image)
    assert (dataset.scale.minimum, dataset.scale.maximum, dataset.scale.higher_is_better) == (1, 5, True)
    samples = [dataset[index] for index in range(len(dataset))]
    names = ("a.png", "c.png", "deeper/d.png")
    versions = [(kind, level) for kind in range(1, 26) for level in LEVELS]
    expected = [score(reference, *version) for reference in (5, 9, 40) for version in versions]
    assert [sample.score for sample in samples] == pytest.approx(expected, abs=1e-4)  # as they are written
    assert [(sample.distortion, sample.level) for sample in samples[:125]] == [
        (KADID_DISTORTIONS[kind - 1], level) for kind, level in versions
    ]
    assert [sample.reference for sample in samples[::125]] == [f"../pictures/{name}" for name in names]
    # Only the references that are needed stand in the result.
    assert list(json.loads((tmp_path / "out" / TRANSFER_FILE).read_text())["labels"]) == ["I05", "I09", "I40"]


def test_samples_are_the_pictures_distorted(config: TransferConfig, tmp_path: Path) -> None:
    carry(config, tmp_path / "out")
    dataset = open_dataset("saqt", tmp_path / "out")
    original = read_bounded(config.pictures / "a.png", 512)
    for index in (0, 4, 49, 119):
        sample = dataset[index]
        kind = KADID_DISTORTIONS.index(sample.distortion)
        expected = distort(original, sample.distortion, sample.level, np.random.default_rng((0, kind)))
        assert np.array_equal(sample.image, expected)
        assert np.array_equal(sample.image, dataset[index].image)
        assert not np.array_equal(sample.image, original)


def test_where_kadids_levels_do_not_rise_in_severity_its_own_strengths_are_taken() -> None:
    image = blob(0)
    shifts = [float((render(image, 3, "mean_shift", level) - image.astype(float)).mean()) for level in LEVELS]
    assert shifts == sorted(shifts, reverse=True) and shifts[2] == 0 and shifts[0] > 20 and shifts[4] < -20
    assert np.array_equal(render(image, 3, "color_oversaturation", 1), image)
    spreads = [float(render(image, 3, "contrast_change", level).std()) for level in LEVELS]
    for name in (
        "mean_shift",
        "contrast_change",
    ):  # which way is no matter of chance: labels go from one picture to another
        assert all(np.array_equal(render(image, place, name, 5), render(image, 0, name, 5)) for place in range(8))
    assert spreads == sorted(spreads, reverse=True) and spreads[0] > 1.2 * image.std() > 1.5 * spreads[4]


def test_groups_are_the_levels_of_one_distortion(config: TransferConfig, tmp_path: Path) -> None:
    carry(config, tmp_path / "out")
    dataset = open_dataset("saqt", tmp_path / "out")
    assert [index for group in dataset.groups for index in group] == list(range(len(dataset)))
    for group in dataset.groups[3:7]:
        samples = [dataset[index] for index in group]
        assert len({(sample.reference, sample.distortion) for sample in samples}) == 1
        assert [sample.level for sample in samples] == list(LEVELS)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_labels_of_several_references_are_averaged(config: TransferConfig, tmp_path: Path) -> None:
    carry(replace(config, top=3), tmp_path / "out")
    dataset = open_dataset("saqt", tmp_path / "out")
    row = read_rows(tmp_path / "out")[0]
    assert row.references[0] == "I05" and len(set(row.references)) == 3
    assert sorted(row.similarities, reverse=True) == list(row.similarities)
    numbers = [int(name[1:]) for name in row.references]
    expected = np.mean([score(number, 1, 2) for number in numbers])
    assert dataset[1].score == pytest.approx(expected, abs=1e-4)


def test_labels_are_stretched_from_their_extremes_to_the_scale(config: TransferConfig, tmp_path: Path) -> None:
    carry(replace(config, scale=(0.0, 9.0)), tmp_path / "out")
    dataset = open_dataset("saqt", tmp_path / "out")
    assert (dataset.scale.minimum, dataset.scale.maximum) == (0, 9)
    # Extremes of all labels, as the authors' scripts do, not of each reference's.
    low, high = score(81, 25, 5), score(1, 1, 1)
    expected = 9 * (score(5, 1, 1) - low) / (high - low)
    assert dataset[0].score == pytest.approx(expected, abs=1e-4)


def test_pictures_below_the_threshold_are_left_out(config: TransferConfig, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)).save(config.pictures / "e.png")
    out = tmp_path / "out"
    carry(config, out)
    similar = {row.path: row.similarities[0] for row in read_rows(out) if not row.error}
    odd = similar.pop("../pictures/e.png")
    threshold = (odd + min(similar.values())) / 2
    assert odd < threshold  # noise is like none of the references
    carry(replace(config, threshold=threshold), out, resume=True)
    dataset = open_dataset("saqt", out)
    assert {dataset[index].reference for index in range(len(dataset))} == set(similar)
    with pytest.raises(UsageError, match="lower --threshold"):
        carry(replace(config, threshold=1.0), out, resume=True)


def test_large_pictures_are_shrunk_to_the_size_of_the_rated_ones(config: TransferConfig, tmp_path: Path) -> None:
    Image.fromarray(blob(9, 640, 800)).save(config.pictures / "c.png")
    carry(replace(config, side=80), tmp_path / "out")
    rows = read_rows(tmp_path / "out")
    assert rows[2].path == "../pictures/c.png" and rows[2].references == ("I09",)
    assert open_dataset("saqt", tmp_path / "out")[125].image.shape == (64, 80, 3)


def test_rendered_files_are_the_same_pictures(config: TransferConfig, tmp_path: Path) -> None:
    carry(config, tmp_path / "drawn")
    drawn = open_dataset("saqt", tmp_path / "drawn")
    out = tmp_path / "out"
    leftover = out / "rendered" / ".000000" / "torn.png"
    leftover.parent.mkdir(parents=True)
    leftover.touch()  # of a run that was killed
    carry(replace(config, render=True), out)
    assert len(list((out / "rendered").rglob("*.*"))) == len(drawn)
    rendered, listed = open_dataset("saqt", out), open_dataset("csv", out / "labels.csv")
    assert len(rendered) == len(listed) == len(drawn)
    for index in range(0, len(drawn), 17):
        same = drawn[index], rendered[index], listed[index]
        assert rendered[index].path == listed[index].path and rendered[index].path is not None
        assert len({(sample.score, sample.reference) for sample in same}) == 1
        assert all(np.array_equal(sample.image, same[0].image) for sample in same)


def test_a_model_trains_on_the_result(config: TransferConfig, tmp_path: Path) -> None:
    carry(config, tmp_path / "out")
    fit = FitConfig(steps=2, batch_size=10, select="last")
    run = RunConfig("saqt", "glianet", {"backbone": "test_vit"}, root=str(tmp_path / "out"), split="all", fit=fit)
    checkpoint = train(run, tmp_path / "run", None, False, Console(quiet=True))
    assert load_checkpoint(checkpoint).score_scale.dataset == "saqt of kadid"
    # The run's record names each picture once, not each of its 125 versions.
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["split"]["train"] == ["../pictures/a.png", "../pictures/c.png", "../pictures/deeper/d.png"]


# The page and the command


def test_a_picture_too_small_for_the_backbone_is_named_and_left_out(config: TransferConfig, tmp_path: Path) -> None:
    Image.fromarray(blob(7, 16, 15)).save(config.pictures / "icon.png")
    weights = tmp_path / "weights.safetensors"
    torch.manual_seed(1)
    save_file(timm.create_model("test_convnext").state_dict(), weights)
    complaints = carry(replace(config, backbone="test_convnext", weights=weights), tmp_path / "out")
    assert len(complaints) == 2
    assert complaints[1].startswith(f"{config.pictures / 'icon.png'}: 15x16 pixels")
    assert len(open_dataset("saqt", tmp_path / "out")) == 3 * 125


def test_the_page_shows_every_pair_and_what_could_not_be_read(config: TransferConfig, tmp_path: Path) -> None:
    Image.fromarray(blob(7)).save(config.pictures / "<script>alert(1).png")
    (config.pictures / "x<b>.png").write_bytes(b"")
    carry(replace(config, threshold=0.5), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "x<b>" not in text and "://" not in text
    for shown in ("a.png", "c.png", "d.png", "I05", "I07", "I09", "I40", "2 pictures not read", ">500<"):
        assert shown in text
    assert text.count('<span class="pair">') == 4


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_the_page_without_a_complaint(config: TransferConfig, tmp_path: Path) -> None:
    carry(config, tmp_path / "out")
    with Page(tmp_path / "profile") as page:
        page.open(tmp_path / "out" / "report.html")
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.querySelectorAll('.pair').length") == 3
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        complaints = [e for e in page.seen if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
        assert complaints == []


def test_the_command_carries_labels_and_says_how_many(config: TransferConfig, tmp_path: Path) -> None:
    out = tmp_path / "out[/b]"  # what rich would take for the end of bold type
    command = ["--labelled", config.labelled, "--pictures", str(config.pictures), "--out", str(out)]
    command += ["--backbone", BACKBONE, "--backbone-weights", str(config.weights), "--scale", "0", "9"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "3 of 4 pictures resemble 3 of 81 references: 375 labels" in done.stderr
    assert open_dataset("saqt", out).scale.maximum == 9
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert again.stderr.splitlines()[-1].startswith(f"glia-transfer-labels: {out}: holds a transfer")
    assert "Traceback" not in again.stderr
