"""GLIANet's rows without the peers; and the peers' process, as far as it goes without their library."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
from typer.testing import CliRunner

from glia.models import save_checkpoint
from glia_bench import peers_worker
from glia_bench.cli import app
from glia_bench.peers import PEERS, QUICK, environment_folder, measure_peer, prepare_environment
from glia_bench.results import read_run
from glia_runtime.decode import decode
from glia_runtime.errors import BackendError
from tests.glia_export.conftest import spread_model


def test_glianet_alone(views_artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    checkpoint, output = tmp_path / "model.pt", tmp_path / "peers.json"
    save_checkpoint(spread_model(), checkpoint)
    options = ["--images", str(photographs[0].parent), "--quick", "--no-peers", "-o", str(output)]
    done = CliRunner().invoke(app, ["peers", "--model", str(views_artifact), "--model", str(checkpoint), *options])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert run.subjects() == ["views.onnx (onnxruntime)", "model.pt (pytorch)"]
    eager = {item.metric: item for item in run.measurements if item.subject == "model.pt (pytorch)"}
    assert set(eager) == {"batch 1, in memory", "from files", "peak memory", "parameters"}
    expected = sum(parameter.numel() for parameter in spread_model().parameters())
    assert eager["parameters"].median == pytest.approx(expected / 1e6)
    assert "from files" in done.stdout.splitlines()[1]


def test_an_unknown_peer_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["peers", "--peer", "no-such", "--quick"], env={"XDG_CACHE_HOME": str(tmp_path)})
    assert done.exit_code == 2
    assert "topiq_nr" in done.output
    assert not list(tmp_path.iterdir())


def test_a_peer_that_fails_is_one_line(photographs: list[Path]) -> None:
    # This interpreter has torch, and no pyiqa unless somebody installed it where glia is.
    command = [sys.executable, "-c", "import pyiqa"]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        pytest.skip("IQA-PyTorch is installed here")
    with pytest.raises(BackendError, match="IQA-PyTorch failed") as caught:
        measure_peer(Path(sys.executable), PEERS[0], photographs, QUICK, pretrained=False)
    assert "pyiqa" in str(caught.value) and "\n" not in str(caught.value)


def test_half_an_environment_never_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without a network
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    said: list[str] = []
    with pytest.raises(BackendError, match="--no-peers"):
        prepare_environment(said.append)
    assert any(str(environment_folder()) in line for line in said)
    assert not environment_folder().exists()


def test_the_worker_sees_the_pixels_that_glia_sees(photographs: list[Path]) -> None:
    for path in photographs:  # the last one is turned by its EXIF tag
        tensor = peers_worker.picture(str(path))
        assert np.array_equal((tensor[0].permute(1, 2, 0).numpy() * 255).round(), decode(path))


def test_no_downloads_means_random_weights_and_is_undone() -> None:
    create = timm.create_model
    with peers_worker.no_downloads():
        timm.create_model("test_vit", pretrained=True)  # would ask a hub
        assert timm.create_model is not create
    assert timm.create_model is create


def test_the_worker_imports_nothing_of_glia() -> None:
    source = Path(peers_worker.__file__).read_text(encoding="utf-8")
    code = f"import sys; sys.path = [path for path in sys.path if 'site-packages' not in path]; exec({source!r})"
    done = subprocess.run([sys.executable, "-I", "-c", code, "{}"], capture_output=True, text=True, check=False)
    assert "KeyError" in done.stderr or "torch" in done.stderr  # it got as far as its order
    assert "glia_" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not (environment_folder() / "complete").exists(), reason="run glia-bench peers once")
def test_a_peer_is_measured(photographs: list[Path]) -> None:
    figures = measure_peer(prepare_environment(print), PEERS[0], photographs, QUICK, pretrained=False)
    assert len(figures.single) == QUICK.repeats and len(figures.rates) == len(photographs)
    assert figures.parameters is not None and figures.parameters > 1e6
    assert figures.facts["weights"].startswith("random")
