"""Checkpoints: what goes in comes out, and nothing else gets in."""

import os
import pickle
import random
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glia.models import create_model, load_checkpoint, save_checkpoint
from glia.models.checkpoint import read_tensors, read_training
from glia_runtime.errors import CheckpointError, MissingExtraError
from glia_runtime.manifest import ScoreScale

SCALE = asdict(ScoreScale(0.0, 100.0, True, "synthetic"))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(1)
    model = create_model("glianet", backbone="test_vit", latent_dim=16, heads=2, glr=False)
    model.set_scale(ScoreScale(0.0, 100.0, True, "synthetic"), 60.0, 15.0)
    return model.eval()


@pytest.fixture(params=[".pt", ".safetensors"])
def saved(model: torch.nn.Module, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"model{request.param}"
    save_checkpoint(model, path)  # type: ignore[arg-type]
    return path


def test_round_trip(model: torch.nn.Module, saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.config == model.config and loaded.score_scale == model.score_scale
    assert not loaded.training
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_truncated_at_any_place(saved: Path) -> None:
    whole = saved.read_bytes()
    for keep in (0, 1, 10, 1000, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:keep])
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved)
        assert str(saved) in str(caught.value) and "\n" not in str(caught.value)


def test_any_flipped_bytes_are_one_line(tmp_path: Path) -> None:
    """PyTorch's older format has no checksums: damage reaches the unpickler, which raises types of all kinds."""
    path = tmp_path / "model.pt"
    content = {"format": "glia-checkpoint", "version": 1, "architecture": "glianet", "config": {"lgf": True}}
    torch.save({**content, "state_dict": {"w": torch.zeros(3)}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    rng = random.Random(1)
    for _ in range(400):  # the first traceback came after a dozen
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.pt: [^\n]*$"):
            load_checkpoint(path)


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r": is a folder; name the checkpoint in it, .*model\.pt for instance$"):
        load_checkpoint(tmp_path)


def test_one_tensor_too_few_or_too_many(model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(model, path)  # type: ignore[arg-type]
    content = torch.load(path, weights_only=True)
    weight = content["state_dict"].pop("head.weight")
    for changed, says in (
        ({}, r"\(tensor head\.weight is missing\)"),
        ({"head.weight": weight, "tail": weight}, r"\(tensor tail is not of this architecture\)"),
        ({"head.weight": weight[:, 1:]}, r"\(Error.*: size mismatch for head\.weight: [^\\]+\)"),
    ):
        torch.save({**content, "state_dict": {**content["state_dict"], **changed}}, path)
        with pytest.raises(CheckpointError, match=rf"do not fit together {says}; train it anew$"):
            load_checkpoint(path)


def test_a_header_that_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(2)}, path, metadata={"glia-checkpoint": "[1, 2]"})
    for read in (load_checkpoint, read_training, read_tensors):
        with pytest.raises(CheckpointError, match=r"model\.safetensors: .*its header is no object but \[1, 2\]"):
            read(path)


def test_sequences_survive_both_formats(tmp_path: Path) -> None:
    """A tuple of a config is a tuple in PyTorch's format and a list in JSON."""
    torch.manual_seed(1)
    model = create_model("glintiqa", backbone="test_vit", blocks=(2, 3), frozen_blocks=1, cnn="test_resnet")
    for name in ("model.pt", "model.safetensors"):
        save_checkpoint(model, tmp_path / name)
        assert load_checkpoint(tmp_path / name).config == model.config


class Bomb:
    """Unpickling this would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_hostile_pickle_is_not_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle.dumps(Bomb(target)))
    zipped = tmp_path / "zipped.pt"
    torch.save({"format": "glia-checkpoint", "version": 1, "config": Bomb(target)}, zipped)
    for path in (bare, zipped):
        with pytest.raises(CheckpointError, match="nothing was executed"):
            load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "upgrade glia"),
        ({"version": None}, "version None is no version"),
        ({"version": True}, "version True is no version"),
        ({"version": -3}, "version -3 is no version"),
        ({"format": "somebody else's"}, "not a glia checkpoint"),
        ({"architecture": "glintiqa-9"}, "unknown to this glia"),
        ({"config": {"backbone": "test_vit", "latent_dim": 32, "heads": 2}}, "do not fit together"),
        ({"config": {"no_such_field": 1}}, r"unknown field config\.no_such_field"),
        ({"config": "text"}, "config is text, not an object"),
        ({"config": None}, "config is null, not an object"),
        ({"config": {"lgf": "no"}}, r"config\.lgf is text, not true or false"),
        ({"config": {"heads": True}}, r"config\.heads is true or false, not a whole number"),
        ({"config": {"heads": 5}}, "latent_dim 192 must be a multiple of heads 5"),
        ({"score_scale": {"minimum": 0}}, r"field score_scale\.maximum is missing"),
        ({"score_scale": {**SCALE, "minimum": "a"}}, r"score_scale\.minimum is text, not a number"),
        ({"score_scale": {**SCALE, "minimum": float("nan")}}, r"score_scale\.minimum is not a number"),
        ({"score_scale": {**SCALE, "maximum": float("inf")}}, r"score_scale\.maximum is too large a number"),
        ({"score_scale": {**SCALE, "maximum": 0}}, r"score_scale\.maximum is not above score_scale\.minimum"),
        ({"score_scale": {**SCALE, "higher_is_better": 1}}, r"higher_is_better is a whole number, not true or false"),
        ({"state_dict": {}}, r"do not fit together \(tensor \S+ and \d+ more are missing\); train it anew$"),
        ({"config": {"backbone": "no such"}}, r"do not fit together \([^\\]+\); train it"),
    ],
)
def test_altered_header(model: torch.nn.Module, tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = tmp_path / "model.pt"
    save_checkpoint(model, path)  # type: ignore[arg-type]
    content = torch.load(path, weights_only=True)
    torch.save({**content, **change}, path)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MissingExtraError("pip install it"), MemoryError(), AttributeError("a bug")])
def test_what_is_not_the_files_fault_is_not_said_of_it(
    saved: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("glia.models.checkpoint.create_model", fail)
    with pytest.raises(type(error)) as caught:
        load_checkpoint(saved)
    assert caught.value is error


def test_memory_that_does_not_suffice_is_no_damage(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    for reader in ("torch.load", "glia.models.checkpoint.open_safetensors"):
        monkeypatch.setattr(reader, fail)
    with pytest.raises(MemoryError):
        load_checkpoint(saved)


def test_other_files(tmp_path: Path) -> None:
    text = tmp_path / "notes.pt"
    text.write_text("not a checkpoint")
    numbers = tmp_path / "list.pt"
    torch.save([1, 2, 3], numbers)
    plain = tmp_path / "plain.safetensors"
    save_file({"x": torch.zeros(2)}, plain)
    for path in (text, numbers, plain, tmp_path / "missing.pt", tmp_path):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)


def test_safetensors_holds_plain_tensors(model: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path)  # type: ignore[arg-type]
    assert set(load_file(path)) == set(model.state_dict())
