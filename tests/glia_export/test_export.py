"""The whole export: what stops it, and that nothing is left behind then."""

import pickle
from pathlib import Path

import pytest
import torch

import glia_export.exporter
from glia.models import create_model, save_checkpoint
from glia_export import export_checkpoint
from glia_export.parity import reference_scores
from glia_export.targets import TargetInfo
from glia_runtime.errors import (
    ArtifactError,
    CheckpointError,
    GliaError,
    MissingExtraError,
    OutputError,
    UsageError,
)
from glia_runtime.manifest import Target, manifest_path, read_manifest
from tests.glia_export.conftest import spread_model


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Hostile:
    """Its pickle creates a file when it is loaded carelessly."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


def write_bad_checkpoints(folder: Path, good: Path) -> dict[str, str]:
    """Write checkpoints that must be refused; names, and part of the reason for each."""
    content = torch.load(good, weights_only=True)
    (folder / "text.pt").write_text("not a checkpoint")
    (folder / "empty.pt").touch()
    (folder / "truncated.pt").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "text.safetensors").write_text("not a checkpoint")
    torch.save({**content, "version": 99}, folder / "newer.pt")
    torch.save({**content, "architecture": "other"}, folder / "other.pt")
    torch.save(content["state_dict"], folder / "bare.pt")
    torch.save({**content, "config": {**content["config"], "latent_dim": 32}}, folder / "misfit.pt")
    # Protocol 2 is torch.save's; torch warns about the others before it refuses them.
    (folder / "hostile.pt").write_bytes(pickle.dumps(Hostile(folder / "trace"), protocol=2))
    return {
        "missing.pt": "no such file",
        "text.pt": "text.pt: ",
        "empty.pt": "empty.pt: ",
        "truncated.pt": "truncated",
        "text.safetensors": "cannot be read",
        "newer.pt": "version 99",
        "other.pt": "architecture 'other'",
        "bare.pt": "not a glia checkpoint",
        "misfit.pt": "do not fit together",
        "hostile.pt": "nothing was executed",
    }


def test_bad_checkpoints(tmp_path: Path, checkpoint: Path) -> None:
    bad, out = tmp_path / "bad", tmp_path / "out"
    bad.mkdir()
    out.mkdir()
    for name, reason in write_bad_checkpoints(bad, checkpoint).items():
        with pytest.raises(CheckpointError) as raised:
            export_checkpoint(bad / name, "onnx", out / "model.onnx")
        assert reason in str(raised.value) and str(bad / name) in str(raised.value)
    assert not (bad / "trace").exists()
    assert not files(out)


@pytest.mark.parametrize(
    ("target", "precision", "reason"),
    [
        ("pt2", "fp16", "--device cpu makes fp32 only; for fp16 add --device cuda"),
        ("pt2", "bf16", "fp32, fp16 only; for bf16 export --to trt"),
        ("jpeg", "fp32", "no target is called 'jpeg'"),
        ("onnx", "int8", "precision 'int8'"),
        ("torchscript", "fp16-weights", "fp32, fp16 only; for fp16-weights export --to onnx"),
    ],
)
def test_what_this_release_does_not_make(
    tmp_path: Path, checkpoint: Path, target: str, precision: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        export_checkpoint(checkpoint, target, tmp_path / "model", precision=precision)  # type: ignore[arg-type]
    assert not files(tmp_path)


def test_a_missing_package(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TargetInfo, "missing", ("onnx", "onnxscript"))
    with pytest.raises(MissingExtraError) as raised:
        export_checkpoint(checkpoint, "onnx", tmp_path / "model")
    assert str(raised.value) == "--to onnx needs onnx, which is not installed: pip install 'glia[export]'"


def test_hostile_outputs(tmp_path: Path, checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    for output, error in (
        (tmp_path, OutputError),
        (tmp_path / "missing" / "model.ts", OutputError),
        (Path("/dev/full"), OutputError),
        (checkpoint, UsageError),
    ):
        with pytest.raises(error):
            export_checkpoint(checkpoint, "torchscript", output)
    assert checkpoint.read_bytes() == before
    assert not files(tmp_path)


def test_an_interrupt_at_any_step_keeps_the_old_pair(tmp_path: Path, checkpoint: Path, pictures: Path) -> None:
    output = tmp_path / "model.ts"
    steps: list[str] = []
    export_checkpoint(checkpoint, "torchscript", output, input="views", images=pictures, say=steps.append)
    assert len(steps) >= 5 and files(tmp_path) == {"model.ts", "model.ts.json"}
    old = (output.read_bytes(), manifest_path(output).read_bytes())

    for stop in range(len(steps)):
        said = 0

        def interrupt(line: str, stop: int = stop) -> None:
            nonlocal said
            if said == stop:
                raise KeyboardInterrupt
            said += 1

        for target in (output, tmp_path / "fresh.ts"):
            said = 0
            with pytest.raises(KeyboardInterrupt):
                export_checkpoint(checkpoint, "torchscript", target, input="views", images=pictures, say=interrupt)
        assert files(tmp_path) == {"model.ts", "model.ts.json"}
        assert (output.read_bytes(), manifest_path(output).read_bytes()) == old


def test_a_missed_bound_leaves_nothing(
    tmp_path: Path, checkpoint: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that is not the checkpoint's: here, of a model with another head."""
    other = spread_model()
    with torch.no_grad():
        other.get_parameter("head.weight").mul_(1.01)
    honest = reference_scores
    monkeypatch.setattr(
        glia_export.exporter,
        "reference_scores",
        lambda model, views: honest(other, views),
    )
    with pytest.raises(ArtifactError, match=r"does not score as the model does.*largest difference .*bound"):
        export_checkpoint(checkpoint, "torchscript", tmp_path / "model.ts", input="views", images=pictures)
    assert not files(tmp_path)


def test_scores_that_are_no_numbers_leave_nothing(tmp_path: Path, pictures: Path) -> None:
    model = create_model("glianet", backbone="test_vit", latent_dim=64, heads=4)
    with torch.no_grad():
        model.get_parameter("head.weight").fill_(float("nan"))
    save_checkpoint(model, tmp_path / "model.pt")
    with pytest.raises(ArtifactError, match="does not score"):
        export_checkpoint(tmp_path / "model.pt", "torchscript", tmp_path / "model.ts", input="views", images=pictures)
    assert files(tmp_path) == {"model.pt"}


def test_an_untrained_model_exports(tmp_path: Path, pictures: Path) -> None:
    """As the issue's smoke run makes one: 20 steps, scores that hardly differ."""
    torch.manual_seed(3)
    save_checkpoint(create_model("glianet", backbone="test_vit"), tmp_path / "model.safetensors")
    export_checkpoint(tmp_path / "model.safetensors", "torchscript", tmp_path / "model.ts", images=pictures)
    (row,) = read_manifest(tmp_path / "model.ts").parity
    assert row.passed


def test_every_error_is_one_of_the_family(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(GliaError, match="not a folder"):
        export_checkpoint(checkpoint, "onnx", tmp_path / "m.onnx", images=tmp_path / "none")
    assert not files(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "torchscript"])
def test_the_default_model(tmp_path: Path, pictures: Path, target: Target) -> None:
    """ViT-B/16 at its real size, random weights; test_tensorrt.py compares its graph in fp16."""
    model = spread_model("vit_base_patch16_224.augreg2_in21k_ft_in1k", latent_dim=192, heads=3)
    save_checkpoint(model, tmp_path / "model.pt")
    del model
    manifest = export_checkpoint(tmp_path / "model.pt", target, tmp_path / "artifact", images=pictures)
    assert manifest.parity[0].passed
    assert (tmp_path / "artifact").stat().st_size < 4.2 * 94e6  # 94 million weights
