"""Exports with maps: a second output that looks where the model does."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from glia.models import QualityModel, save_checkpoint
from glia_export import export_checkpoint, exporter
from glia_export.parity import BOUND_MAP, map_difference, reference_maps
from glia_runtime import Scorer
from glia_runtime.decode import decode
from glia_runtime.errors import ArtifactError, UsageError
from glia_runtime.manifest import InputKind, Precision
from tests.glia_export.conftest import spread_model


@pytest.mark.parametrize(("kind", "precision"), [("views", "fp16"), ("image", "fp32")])
def test_maps_are_the_models(
    checkpoint: Path, model: QualityModel, pictures: Path, tmp_path: Path, kind: InputKind, precision: Precision
) -> None:
    path = tmp_path / "mapped.onnx"
    manifest = export_checkpoint(checkpoint, "onnx", path, precision=precision, input=kind, images=pictures, maps=True)
    assert manifest.map_view == "detail"
    outputs = onnx.load(path).graph.output
    assert [output.name for output in outputs] == ["score", "map"]
    assert {output.type.tensor_type.elem_type for output in outputs} == {onnx.TensorProto.FLOAT}
    scorer = Scorer.open(path)
    images = [decode(picture) for picture in sorted(pictures.glob("[0-9].png"))]
    maps = np.stack(scorer.maps(images))
    assert maps.shape == (6, 14, 14)
    assert maps.dtype == np.float32
    assert map_difference(maps, reference_maps(model, images)) <= BOUND_MAP[precision]


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
