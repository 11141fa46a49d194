"""A right export passes and a wrong engine is caught, by the command."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner, Result

from glia.evaluation.scoring import EagerBackend
from glia.models import create_model, save_checkpoint
from glia_bench.cli import app
from glia_bench.parity import QUICK_PICTURES, measure_parity
from glia_bench.plots import run_plot
from glia_bench.results import Run, read_run, write_run
from glia_bench.subjects import Subject
from glia_bench.tables import run_table
from glia_export import export_checkpoint
from glia_runtime.backends.onnxruntime import OnnxRuntimeBackend
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import InputKind, Limits, read_manifest, sha256_file
from tests.glia_bench.subjects import recorder
from tests.glia_export.conftest import spread_model
from tests.glia_runtime.artifacts import rewrite
from tests.shapes import noise_image


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parity") / "model.pt"
    save_checkpoint(spread_model(), path)
    return path


@pytest.fixture(scope="module")
def artifacts(checkpoint: Path, photographs: list[Path]) -> dict[InputKind, Path]:
    kinds: tuple[InputKind, ...] = ("views", "image")
    paths = {kind: checkpoint.with_name(f"{kind}.onnx") for kind in kinds}
    for kind, path in paths.items():
        export_checkpoint(checkpoint, "onnx", path, input=kind, images=photographs[0].parent)
    return paths


@pytest.fixture(params=["views", "image"])
def artifact(request: pytest.FixtureRequest, artifacts: dict[InputKind, Path]) -> Path:
    return artifacts[request.param]


def invoke(checkpoint: Path, photographs: list[Path], *arguments: str) -> Result:
    folder = str(photographs[0].parent)
    return CliRunner().invoke(app, ["parity", "--reference", str(checkpoint), "--images", folder, *arguments])


def test_a_right_artifact_passes(checkpoint: Path, artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    output, html = tmp_path / "parity.json", tmp_path / "parity.html"
    done = invoke(checkpoint, photographs, str(artifact), str(checkpoint), "-o", str(output), "--html", str(html))
    assert done.exit_code == 0, done.output
    run = read_run(output)
    exported, itself = run.measurements
    assert exported.facts["passed"] and exported.facts["largest"] == max(exported.samples)
    assert len(exported.samples) == len(photographs)
    assert exported.facts["srcc"] == pytest.approx(1.0)
    # The checkpoint against itself: the same arithmetic on the same views.
    assert itself.facts["largest"] < 1e-4
    page = html.read_text()
    # the plot stands inside: it needs no other file
    assert page.count("src=") == page.count('src="data:image/svg+xml') == 1


def compared_in(folder: Path, checkpoint: Path, *subjects: Subject) -> tuple[Run, list[str]]:
    """The result of comparing on the pictures of `folder`, and a line for each missed bound."""
    recording = recorder(command="parity")
    bounds: dict[str, Any] = {"max_difference": None, "max_mean_difference": None, "min_srcc": None, "most": 200}
    missed = measure_parity(recording, checkpoint, subjects, folder, **bounds, step=lambda step: None)
    return recording.finish(), missed


def wrong_engine(artifact: Path, folder: Path) -> Path:
    """The artifact with the weight matrices of its second half negated, under a manifest that vouches for it."""
    model = onnx.load(artifact)
    matrices = [item for item in model.graph.initializer if len(item.dims) == 2 and min(item.dims) >= 32]
    for matrix in matrices[len(matrices) // 2 :]:
        matrix.CopyFrom(numpy_helper.from_array(-np.asarray(numpy_helper.to_array(matrix)), matrix.name))
    path = folder / artifact.name
    onnx.save(model, path)
    rewrite(path, read_manifest(artifact), artifact_sha256=sha256_file(path))
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])  # auto may compute in bf16, whose bound is wider
def test_a_wrong_engine_is_caught(
    backend: str, checkpoint: Path, artifact: Path, photographs: list[Path], tmp_path: Path
) -> None:
    wrong = wrong_engine(artifact, tmp_path)
    done = invoke(checkpoint, photographs, str(artifact), str(wrong), "--backend", backend)
    assert done.exit_code == 1, done.output
    rows = [line for line in done.stdout.splitlines() if artifact.name in line]
    assert "passed" in rows[0] and "MISSED" in rows[1]
    assert "the worst pictures" in done.stderr and ".jpg" in done.stderr


def test_the_bounds_are_options(checkpoint: Path, artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    wrong = str(wrong_engine(artifact, tmp_path))
    wide = (wrong, "--max-difference", "1e3", "--max-mean-difference", "1e3")
    assert invoke(checkpoint, photographs, *wide, "--min-srcc", "-1").exit_code == 0
    assert invoke(checkpoint, photographs, *wide, "--min-srcc", "1.1").exit_code == 1
    assert invoke(checkpoint, photographs, str(artifact), "--max-difference", "0").exit_code == 1
    missed = invoke(checkpoint, photographs, str(artifact), "--max-mean-difference", "0")
    assert missed.exit_code == 1 and "misses its bound of the mean difference" in missed.stderr


def test_quick_takes_a_few_photographs(checkpoint: Path, artifact: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "photographs", tmp_path / "parity.json"
    folder.mkdir()
    for number in range(QUICK_PICTURES + 4):
        Image.fromarray(noise_image(230 + number, 240)).save(folder / f"{number}.png")
    for quick, pictures in (((), QUICK_PICTURES + 4), (("--quick",), QUICK_PICTURES)):
        done = invoke(checkpoint, [folder / "0.png"], str(artifact), *quick, "-o", str(output))
        assert done.exit_code == 0, done.output
        (item,) = read_run(output).measurements
        assert len(item.samples) == pictures


class Padding(OnnxRuntimeBackend):
    """Takes the padding for a part of the picture."""

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        return super()._run({**inputs, "sizes": np.full_like(inputs["sizes"], inputs["images"].shape[1:3])})


class FirstOnly(OnnxRuntimeBackend):
    """Gives every picture of a batch the score of the first."""

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        return np.full_like(super()._run(inputs), super()._run(inputs)[0])


@pytest.mark.parametrize("are_mixed", [True, False])
@pytest.mark.parametrize(("backend", "is_right"), [(OnnxRuntimeBackend, True), (Padding, False), (FirstOnly, False)])
def test_whole_pictures_are_compared_in_pairs_and_with_padding(
    backend: type[OnnxRuntimeBackend],
    is_right: bool,
    are_mixed: bool,
    checkpoint: Path,
    artifacts: dict[InputKind, Path],
    tmp_path: Path,
) -> None:
    for index in range(4):
        pixels = noise_image(230 + 20 * index * are_mixed, 260) * (0.4 + 0.2 * index)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{index}.png")
    path = artifacts["image"]
    run, missed = compared_in(tmp_path, checkpoint, Subject("whole", backend(path, read_manifest(path), "cpu")))
    (item,) = run.measurements
    assert len(item.samples) == 4 and (missed == []) == is_right


def test_padding_stays_within_the_limits(checkpoint: Path, artifacts: dict[InputKind, Path], tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    small.write_bytes(artifacts["image"].read_bytes())
    rewrite(small, read_manifest(artifacts["image"]), limits=Limits(max_height=240, max_width=300))
    seen: list[tuple[int, ...]] = []

    class Seeing(OnnxRuntimeBackend):
        def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
            seen.append(inputs["images"].shape)
            return super()._run(inputs)

    Image.fromarray(noise_image(230, 231)).save(tmp_path / "picture.png")
    _, missed = compared_in(tmp_path, checkpoint, Subject("small", Seeing(small, read_manifest(small), "cpu")))
    assert missed == [] and seen == [(1, 240, 271, 3)]


class Shifted(EagerBackend):
    """The checkpoint as an engine in bf16 that is off by `shift`."""

    shift = 0.0

    def _load(self) -> None:
        super()._load()
        self.precision = "bf16"

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        return super()._run(inputs) + np.float32(self.shift)


def compared(shift: float, checkpoint: Path, folder: Path) -> tuple[Run, list[str]]:
    backend = Shifted(checkpoint, "cpu")
    backend.shift = shift
    return compared_in(folder, checkpoint, Subject("shifted", backend))


def test_every_score_off_by_little_misses_the_bound_of_the_mean(checkpoint: Path, photographs: list[Path]) -> None:
    # Of a scale of 100: bf16 may be off by 4 once, and by 1 in the mean.
    run, missed = compared(1.6, checkpoint, photographs[0].parent)
    (item,) = run.measurements
    assert item.facts["largest"] == pytest.approx(1.6, abs=1e-3) and item.facts["bound"] == pytest.approx(4.0)
    assert item.facts["bound_mean"] == pytest.approx(1.0) and item.facts["missed"] == ["mean difference"]
    assert "misses its bound of the mean difference" in missed[0]
    header, row = run_table(run)
    assert "MISSED" in row and row[header.index("mean") : header.index("mean") + 2] == ["1.6", "1"]
    assert compared(0.6, checkpoint, photographs[0].parent)[1] == []


def test_a_score_that_is_not_finite_is_no_dot(checkpoint: Path, photographs: list[Path], tmp_path: Path) -> None:
    run, missed = compared(float("nan"), checkpoint, photographs[0].parent)
    assert missed and any("5 of 5 scores are not finite" in note for note in run.notes)
    write_run(run, tmp_path / "run.json")
    (item,) = read_run(tmp_path / "run.json").measurements
    assert item.facts["scores"] == [None] * 5
    assert "<svg" in run_plot(run)


def test_a_model_that_fails_has_not_passed_and_the_others_are_compared(
    checkpoint: Path, photographs: list[Path]
) -> None:
    broken = Shifted(checkpoint, "cpu")
    broken.shift = "not a number"  # type: ignore[assignment]
    both = [Subject("broken", broken), Subject("whole", Shifted(checkpoint, "cpu"))]
    run, missed = compared_in(photographs[0].parent, checkpoint, *both)
    assert not missed and run.subjects() == ["whole"]
    assert any("broken failed" in note for note in run.notes)


def test_the_worst_pictures_are_named_below_the_folder(
    checkpoint: Path, photographs: list[Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(photographs[ord(name) - ord("a")].read_bytes())
    run, _ = compared(0.0, checkpoint, tmp_path)
    assert {row["picture"] for row in run.measurements[0].facts["worst"]} == {"a/1.jpg", "b/1.jpg"}


def test_two_architectures_in_one_table(checkpoint: Path, photographs: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    other, output = tmp_path / "glintiqa.pt", tmp_path / "parity.json"
    tiny = {"backbone": "test_vit", "blocks": (4, 5), "frozen_blocks": 2, "cnn": "test_resnet", "crops": 2}
    save_checkpoint(create_model("glintiqa", **tiny), other)
    done = invoke(checkpoint, photographs, "--reference", str(other), str(other), str(checkpoint), "-o", str(output))
    assert done.exit_code == 0, done.output
    assert {item.subject.split()[0]: item.facts["largest"] for item in read_run(output).measurements} == {
        "model.pt": pytest.approx(0.0, abs=1e-3),
        "glintiqa.pt": pytest.approx(0.0, abs=1e-5),
    }
    refused = invoke(checkpoint, photographs, str(other))
    assert refused.exit_code == 2
    assert "a glintiqa, and" in refused.output and "name its own checkpoint with another --reference" in refused.output
