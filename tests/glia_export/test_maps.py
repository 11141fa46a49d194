"""Exports with maps: a second output that looks where the model does."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from glia.models import QualityModel, save_checkpoint
from glia_export import export_checkpoint, exporter, parity
from glia_export.parity import BOUND_MAP, map_difference, reference_maps
from glia_runtime import Scorer
from glia_runtime.decode import decode
from glia_runtime.errors import ArtifactError, UsageError
from glia_runtime.manifest import InputKind, Precision
from tests.glia_export.conftest import spread_model
from tests.glia_export.test_onnx import HAS_BF16


@pytest.mark.parametrize(("kind", "precision"), [("views", "fp16"), ("image", "fp32")])
def test_maps_are_the_models(
    checkpoint: Path, model: QualityModel, pictures: Path, tmp_path: Path, kind: InputKind, precision: Precision
) -> None:
    path = tmp_path / "mapped.onnx"
    said: list[str] = []
    manifest = export_checkpoint(
        *(checkpoint, "onnx", path), precision=precision, input=kind, images=pictures, maps=True, say=said.append
    )
    assert manifest.map_view == "detail"
    assert not [line for line in said if "not for maps" in line]
    outputs = onnx.load(path).graph.output
    assert [output.name for output in outputs] == ["score", "map"]
    assert {output.type.tensor_type.elem_type for output in outputs} == {onnx.TensorProto.FLOAT}
    images = [decode(picture) for picture in sorted(pictures.glob("[0-9].png"))]
    for backend in ("onnxruntime", "openvino"):
        maps = np.stack(Scorer.open(path, backend=backend).maps(images))
        assert maps.shape == (6, 14, 14)
        assert maps.dtype == np.float32
        assert map_difference(maps, reference_maps(model, images)) <= BOUND_MAP[precision]


@pytest.mark.skipif(not HAS_BF16, reason="this CPU computes no bfloat16")
def test_maps_of_every_backend_are_compared(
    checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the target needs can refuse an export; of another backend whose maps differ it is said."""
    said: list[str] = []
    # far less than bfloat16 can keep
    monkeypatch.setattr(parity, "BOUND_MAP", {**BOUND_MAP, "bf16": 1e-6})
    export_checkpoint(
        checkpoint, "onnx", tmp_path / "model.onnx", input="views", images=pictures, maps=True, say=said.append
    )
    (line,) = [line for line in said if "not for maps" in line]
    assert line.startswith(
        "openvino:bf16 on cpu is not for maps, name another --backend: the exported file does not look"
    )


def test_an_export_that_looks_elsewhere_is_refused(
    checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "reference_maps", lambda *given: np.roll(reference_maps(*given), 1, axis=2))
    path = tmp_path / "mapped.onnx"
    with pytest.raises(ArtifactError, match="does not look where the model does"):
        export_checkpoint(checkpoint, "onnx", path, input="views", images=pictures, maps=True)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_say_where_it_looked_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind.pt"
    save_checkpoint(spread_model(lgf=False), blind)
    with pytest.raises(UsageError, match="cannot say where it looked"):
        export_checkpoint(blind, "onnx", tmp_path / "blind.onnx", maps=True)
    with pytest.raises(UsageError, match="gives scores only"):
        export_checkpoint(checkpoint, "torchscript", tmp_path / "model.ts", maps=True)
