"""What an exported TorchScript file is, and that it scores as the model does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glia.models import QualityModel
from glia_export.parity import pictures_in, reference_scores
from glia_runtime import Scorer, read_manifest
from glia_runtime.manifest import InputKind, Limits
from tests.glia_export.conftest import Exported

kinds = pytest.mark.parametrize("kind", ["views", "image"])


@kinds
def test_scores(exported: Exported, model: QualityModel, pictures: Path, kind: InputKind) -> None:
    path = exported("torchscript", kind, "fp32")
    scorer = Scorer.open(path)
    found = pictures_in(pictures, Limits(), print)
    images = list(found.images())
    together = scorer.score(images)
    # The bound for fp32, 1e-4 of a scale of 100.
    assert np.abs(together - reference_scores(model, found.views)).max() <= 1e-2
    for image, score in zip(images, together, strict=True):
        # Another batch is another blocking of the same sums.
        assert scorer.score([image])[0] == pytest.approx(score, abs=1e-3)
    manifest = read_manifest(path)
    assert (manifest.target, manifest.input, manifest.opset) == ("torchscript", kind, None)
    assert [(row.backend, row.images, row.passed) for row in manifest.parity] == [("torchscript", 6, True)]
    scorer.self_test()


@kinds
def test_the_file_loads_without_glia(exported: Exported, kind: InputKind) -> None:
    program = f"""
import sys
sys.modules["glia"] = sys.modules["timm"] = None
from glia_runtime import Scorer
Scorer.open({str(exported("torchscript", kind, "fp32"))!r}).self_test()
print("scored")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "scored\n", done.stderr
