"""A small model whose scores spread, its checkpoint, and its exports, each made once a run."""

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image

from glia.models import QualityModel, create_model, save_checkpoint
from glia_export import export_checkpoint
from glia_export.engine_options import EngineOptions
from glia_export.targets import target_info
from glia_runtime.backends.engines import RTX, import_if_here
from glia_runtime.manifest import InputKind, Precision, ScoreScale, Target
from tests.conftest import MadeOnce
from tests.shapes import noise_image

Exported = Callable[[Target, InputKind, Precision], Path]
Engine = Callable[[Target, InputKind, Precision, EngineOptions], Path]

needs_rtx = pytest.mark.skipif(
    import_if_here(RTX.module) is None, reason="tensorrt_rtx does not import: pip install 'glia[trt-rtx]'"
)


def spread_model(backbone: str = "test_vit", **config: object) -> QualityModel:
    """Random weights, the same at every call, whose scores on a scale of 0 to 100 differ by tens.

    A fresh model's adapters hardly act and its scores hardly differ: half of a graph could be missing unseen.
    """
    torch.manual_seed(0)
    model = create_model("glianet", backbone=backbone, **{"latent_dim": 64, "heads": 4, **config})
    with torch.no_grad():
        for adapter in model.get_submodule("adapters").children():
            for name, parameter in adapter.named_parameters():
                if name.endswith("_scale"):
                    parameter.normal_(std=0.5)
        model.get_parameter("head.weight").mul_(4.0)
    model.set_scale(ScoreScale(0.0, 100.0, True, "test"), mean=50.0, std=20.0)
    return model.eval()


@pytest.fixture(scope="session")
def model() -> QualityModel:
    return spread_model()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, model: QualityModel) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.pt"
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest checkpoint, for tests where it does not matter what a compiler compiles."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("probe") / "probe.pt"
    save_checkpoint(create_model("linear-probe", backbone="test_vit"), path)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six pictures of mixed sizes, unlike in colour and noise, and two files that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    sizes = [(224, 224), (240, 320), (400, 230), (60, 90), (300, 301), (225, 600)]
    # Chosen so that the scores lie at least 2 apart: bf16 may be off by more than a tie, and must keep the order.
    tints = [(250, 120, 30), (30, 220, 60), (250, 200, 200), (240, 230, 40), (128, 128, 128), (10, 10, 10)]
    for index, ((height, width), tint) in enumerate(zip(sizes, tints, strict=True)):
        ramp = np.linspace(0.3, 1.0, width)[None, :, None] * np.ones((height, 1, 1)) * tint
        noisy = ramp + (noise_image(height, width) - 127.5) * (index / 5)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="session")
def exported(made_once: MadeOnce, checkpoint: Path, pictures: Path) -> Exported:
    """Export once for each combination, on a few pictures."""

    def export(target: Target, kind: InputKind, precision: Precision) -> Path:
        def make(path: Path) -> None:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # which must not stay in the artifact, see test_pt2.py
            try:
                export_checkpoint(checkpoint, target, path, precision=precision, input=kind, images=pictures)
            finally:
                torch.set_num_threads(threads)

        return made_once(f"{kind}-{precision}{target_info(target).suffix}", make)

    return export


@pytest.fixture(scope="session")
def engine(made_once: MadeOnce, checkpoint: Path, pictures: Path) -> Engine:
    """Build an engine once for each combination."""

    def build(target: Target, kind: InputKind, precision: Precision, options: EngineOptions) -> Path:
        def make(path: Path) -> None:
            export_checkpoint(
                checkpoint, target, path, precision=precision, input=kind, images=pictures, engine=options
            )

        built_for = crc32(repr(options).encode())
        return made_once(f"{kind}-{precision}-{built_for:08x}.{target}", make)

    return build
