"""Fig. 3's page: the frozen ViT's map is its own, and every picture stands beside both maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from glia.evaluation.cli import app
from glia.evaluation.maps import look, open_looking
from glia.models import create_model, save_checkpoint
from glia.models.attention import class_attention
from glia_runtime.views import sample_views
from tests.glia_runtime.test_report import Reader


def save_model(path: Path, **options: object) -> Path:
    torch.manual_seed(0)
    save_checkpoint(create_model("glianet", backbone="test_vit", latent_dim=16, heads=2, **options), path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "model.pt")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, size in {"wide.png": (96, 64), "tall<b>.png": (64, 96)}.items():
        Image.effect_noise(size, 60).convert("RGB").save(folder / name)
    (folder / "broken.png").write_text("no picture")
    Image.new("RGB", (1, 60000)).save(folder / "line.png")
    return folder


def test_the_map_before_is_the_frozen_streams_own(checkpoint: Path, pictures: Path) -> None:
    """The model itself sends the resized picture through the untouched blocks: there a hook listens."""
    model, view = open_looking(checkpoint)
    image = np.asarray(Image.open(pictures / "wide.png"))
    given: list[Tensor] = []
    last = model.backbone.blocks[-1]
    hook = last.register_forward_pre_hook(lambda _, tokens: given.append(tokens[0]))
    found = look(model, image)
    hook.remove()
    semantic, detail = (torch.from_numpy(view)[None] for view in sample_views(image))
    with torch.inference_mode():
        prior, main = (class_attention(last, tokens)[0].numpy() for tokens in given)
        score = float(model(semantic, detail))
    assert view == "detail" and found.score == pytest.approx(score, abs=1e-5)
    # the same blocks on the same tokens, by two ways through timm; shares near 1/196
    assert found.before.ravel() == pytest.approx(prior, abs=1e-7)
    assert found.after.ravel() == pytest.approx(main, abs=1e-7)
    assert abs(found.before - found.after).max() > 1e-4  # so the two were told apart
    assert found.before.shape == found.after.shape and found.before.shape[0] == found.before.shape[1]


def test_the_page(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    page = tmp_path / "maps.html"
    result = CliRunner().invoke(app, ["maps", str(checkpoint), "--images", str(pictures), "--html", str(page)])
    assert (result.exit_code, result.stdout) == (1, "")
    lines = sorted(result.stderr.splitlines())
    assert len(lines) == 2 and "broken.png: not a picture" in lines[0] and "line.png: the picture is" in lines[1]
    shown = Reader(page.read_text(encoding="utf-8"))
    names = ["tall<b>.png", "wide.png"]
    wanted = [f"{name}{column}" for name in names for column in ("", ", before", ", after")]
    assert [image["alt"] for image in shown.all("img")] == wanted
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in shown.all("img"))
    assert shown.texts["figcaption"] == ["picture", "before", "after"] * 2
    assert shown.texts["a"] == names


def test_a_model_without_maps_is_refused(pictures: Path, tmp_path: Path) -> None:
    path = save_model(tmp_path / "model.pt", lgf=False)
    page = tmp_path / "maps.html"
    result = CliRunner().invoke(app, ["maps", str(path), "--images", str(pictures), "--html", str(page)])
    assert result.exit_code == 2 and "cannot say where it looked" in result.stderr and not page.exists()
