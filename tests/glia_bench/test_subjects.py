"""Models and backends as they are named on the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from glia.models import create_model, save_checkpoint
from glia_bench.options import BUNDLED
from glia_bench.stand_ins import stand_ins
from glia_bench.subjects import EAGER, Spec, expand, open_subject, open_subjects, tell_apart
from glia_export.parity import reference_scores
from glia_runtime import enlarge
from glia_runtime.backends import BACKENDS
from glia_runtime.errors import ArtifactError, BackendError, UsageError
from glia_runtime.manifest import manifest_path
from glia_runtime.scorer import BUNDLED_MODEL
from tests.glia_export.conftest import spread_model
from tests.shapes import noise_image


def test_every_model_in_every_backend_and_a_checkpoint_once(tmp_path: Path) -> None:
    found = expand([BUNDLED, "model.pt"], ["onnxruntime", "openvino"], "cpu")
    assert [str(spec) for spec in found] == [
        "glianet-vit-tiny.onnx in onnxruntime",
        "glianet-vit-tiny.onnx in openvino",
        "model.pt in pytorch",
    ]
    assert expand(None, None, "auto") == [Spec(BUNDLED)]
    halved = expand([BUNDLED, "model.pt"], ["pytorch", "pytorch:fp16"], "cpu")
    assert [spec.backend for spec in halved] == ["auto", "pytorch", "pytorch:fp16"]
    assert expand(["model.pt"], ["all"], "cpu") == [Spec("model.pt", "cpu", "pytorch")]
    for model, backend in ((BUNDLED, "pytorch:fp16"), ("model.pt", "onnxruntime")):
        with pytest.raises(UsageError, match=f"--backend {backend} is for"):
            expand([model], [backend], "cpu")


def test_files_of_one_name_are_told_apart(views_artifact: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("x/a/model.onnx", "x/b/model.onnx", "y/b/model.onnx", "x/other.onnx")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(views_artifact.read_bytes())
        manifest_path(path).write_bytes(manifest_path(views_artifact).read_bytes())
    specs = expand([str(path) for path in files], ["onnxruntime"], "cpu")
    names = ["a/model.onnx", "x/b/model.onnx", "y/b/model.onnx", "other.onnx"]
    assert [str(spec) for spec in specs] == [f"{name} in onnxruntime" for name in names]
    assert open_subject(specs[1]).name == "x/b/model.onnx (onnxruntime)"
    (beside,) = tell_apart([Spec(str(files[0]))], beside=[Spec(str(files[1]))])
    assert beside.name == "a/model.onnx"


def test_a_stand_in_is_told_apart_from_a_checkpoint_of_its_name(tmp_path: Path) -> None:
    other = Spec(str(tmp_path / BUNDLED_MODEL.with_suffix(".pt").name))
    for specs, parts in (([Spec(BUNDLED)], 1), ([Spec(BUNDLED), other], 2)):
        folder = tmp_path / str(parts)
        folder.mkdir()
        (found,) = stand_ins(specs, folder, pytest.fail)
        assert found.path.is_file() and len(Path(found.name).parts) == parts


def test_a_file_and_a_backend_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inner").mkdir()
    again = ["model.pt", "inner/../model.pt", str(tmp_path / "model.pt")]
    assert expand([*again, BUNDLED, str(BUNDLED_MODEL)], None, "cpu") == [
        Spec("model.pt", "cpu", "pytorch"),
        Spec(BUNDLED, "cpu"),
    ]
    assert len(expand(None, ["onnxruntime", "onnxruntime"], "cpu")) == 1
    for open_ended in ("auto", "all"):  # either may be the other one
        with pytest.raises(UsageError, match=f"--backend {open_ended} may stand for another one"):
            expand([BUNDLED], ["onnxruntime", open_ended], "cpu")
        assert expand([BUNDLED, "model.pt"], ["pytorch:fp16", open_ended], "cpu")  # each is for one of the two


def test_all_stands_for_what_runs_here() -> None:
    specs = expand([BUNDLED], ["all"], "cpu")
    assert "onnxruntime" in {spec.backend for spec in specs}
    assert {spec.backend for spec in specs} <= {info.title for info in BACKENDS if info.target == "onnx"}
    refusals: list[str] = []
    subjects = open_subjects(specs, refusals.append)
    assert not refusals and list(subjects) == specs
    assert len({subject.name for subject in subjects.values()}) == len(specs)  # names tell them apart


GLINTIQA = {"backbone": "test_vit", "blocks": (4, 5), "frozen_blocks": 2, "cnn": "test_resnet", "crops": 2}


@pytest.mark.parametrize("architecture", ["glianet", "glintiqa"])
def test_a_checkpoint_runs_in_pytorch_as_the_model_does(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = spread_model() if architecture == "glianet" else create_model("glintiqa", **GLINTIQA).eval()
    save_checkpoint(model, tmp_path / "model.pt")
    subject = open_subject(Spec(str(tmp_path / "model.pt")))
    assert subject.facts()["target"] == "checkpoint"
    assert subject.manifest.score_scale == model.score_scale
    images = [noise_image(240, 300), noise_image(90, 60)]
    scores = subject.run(subject.collate([subject.prepare(image) for image in images]))
    views = [model.view_spec.sample(enlarge(image)) for image in images]
    # Sums of float32 in another order: the reference runs in batches of its own.
    np.testing.assert_allclose(scores, reference_scores(model, views), rtol=1e-5, atol=1e-5)


def test_a_checkpoint_can_be_halved(tmp_path: Path, photographs: list[Path]) -> None:
    model = spread_model()
    save_checkpoint(model, tmp_path / "model.pt")
    whole, half = (open_subject(Spec(str(tmp_path / "model.pt"), "cpu", backend)) for backend in EAGER)
    assert (whole.name, half.name) == ("model.pt (pytorch)", "model.pt (pytorch:fp16)")
    assert (whole.facts()["computes_in"], half.facts()["computes_in"]) == ("fp32", "fp16")
    inputs = whole.batch(photographs, len(photographs))
    difference = np.abs(whole.run(inputs) - half.run(inputs)).max()
    assert 0 < difference <= 1e-2 * model.score_scale.range  # the parity bound of fp16


def test_what_cannot_be_opened_is_left_out_and_nothing_at_all_is_an_error(views_artifact: Path) -> None:
    missing = Spec("none.onnx")
    refusals: list[str] = []
    subjects = open_subjects([missing, Spec(str(views_artifact), backend="onnxruntime")], refusals.append)
    assert len(subjects) == 1 and "none.onnx" in refusals[0]
    with pytest.raises(ArtifactError, match=r"none\.onnx"):
        open_subjects([missing], refusals.append)
    with pytest.raises(BackendError, match="torchscript"):
        open_subject(Spec(BUNDLED, backend="torchscript"))
