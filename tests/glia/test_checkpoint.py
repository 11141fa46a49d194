"""Checkpoints: what goes in comes out, and nothing else gets in."""

import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glia.models import create_model, load_checkpoint, save_checkpoint
from glia_runtime.errors import CheckpointError
from glia_runtime.manifest import ScoreScale


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
        ({"version": None}, "version None"),
        ({"format": "somebody else's"}, "not a glia checkpoint"),
        ({"architecture": "glintiqa-9"}, "unknown to this glia"),
        ({"config": {"backbone": "test_vit", "latent_dim": 32}}, "do not fit together"),
        ({"config": {"no_such_field": 1}}, "no_such_field"),
        ({"config": "text"}, "do not fit together"),
        ({"score_scale": {"minimum": 0}}, "do not fit together"),
        ({"state_dict": {}}, "do not fit together"),
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
