"""GLIANet's rows without the peers; and the peers' process, as far as it goes without their library."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from typer.testing import CliRunner

from glia.models import save_checkpoint
from glia_bench import peers_worker
from glia_bench.cli import app
from glia_bench.measure import in_fresh_process
from glia_bench.options import BUNDLED
from glia_bench.peers import (
    FULL,
    PEERS,
    QUICK,
    Effort,
    Figures,
    Peer,
    measure_model,
    measure_peer,
    measure_peers,
)
from glia_bench.peers_environment import is_installed, prepare_environment
from glia_bench.results import read_run
from glia_bench.stand_ins import stand_ins
from glia_bench.subjects import Spec
from glia_bench.tables import peers_table, times_eager
from glia_runtime.backends import choices
from glia_runtime.decode import decode
from glia_runtime.errors import BackendError, ImageError, MissingExtraError, UsageError
from glia_runtime.manifest import Manifest, read_manifest
from glia_runtime.scorer import BUNDLED_MODEL
from tests.glia_bench.subjects import bundled_figures, recorder
from tests.glia_export.conftest import spread_model


def test_glianet_alone(views_artifact: Path, photographs: list[Path], tmp_path: Path) -> None:
    checkpoint, output = tmp_path / "model.pt", tmp_path / "peers.json"
    save_checkpoint(spread_model(), checkpoint)
    options = ["--images", str(photographs[0].parent), "--backend", "onnxruntime", "--quick", "--no-peers"]
    options += ["-o", str(output)]
    done = CliRunner().invoke(app, ["peers", "--model", str(views_artifact), "--model", str(checkpoint), *options])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    assert run.subjects() == ["views.onnx (onnxruntime)", "model.pt (pytorch)"]
    eager = {item.metric: item for item in run.measurements if item.subject == "model.pt (pytorch)"}
    assert set(eager) == {"batch 1, in memory", "from files", "peak memory", "parameters"}
    expected = sum(parameter.numel() for parameter in spread_model().parameters())
    assert eager["parameters"].median == pytest.approx(expected / 1e6)
    assert "from files" in done.stdout.splitlines()[1]


def test_by_default_every_backend_and_eager_pytorch(photographs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "peers.json"
    options = ["--images", str(photographs[0].parent), "--quick", "--no-peers", "-o", str(output)]
    done = CliRunner().invoke(app, ["peers", *options])
    assert done.exit_code == 0, done.output
    run = read_run(output)
    bundled = choices(BUNDLED_MODEL, read_manifest(BUNDLED_MODEL))
    here = [choice.info.title for choice in bundled if choice.obstacle(BUNDLED_MODEL) is None]
    assert run.subjects() == [f"glianet-vit-tiny.onnx ({title})" for title in here] + ["glianet-vit-tiny.pt (pytorch)"]
    eager = {item.metric: item for item in run.measurements if item.subject == run.subjects()[-1]}
    assert eager["from files"].facts["weights"].startswith("random")
    # It counts as the checkpoint that the artifact was exported from.
    assert {subject for subject, metric in times_eager(run) if metric == "from files"} == set(run.subjects()[:-1])
    assert len({item.median for item in run.measurements if item.metric == "parameters"}) == 1


@pytest.mark.parametrize(
    "error",
    [
        UsageError("unknown architecture 'glianet'"),
        TypeError("no such argument"),
        RuntimeError("Unknown model (vit_none)"),
        MissingExtraError.for_package("peft", "tune", "lora"),
    ],
)
def test_an_architecture_that_cannot_be_made_is_a_remark(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("glia.models.create_model", fail)
    said: list[str] = []
    assert not stand_ins([Spec(BUNDLED)], tmp_path, said.append)
    assert len(said) == 1 and "not in eager PyTorch" in said[0] and str(error) in said[0]


def test_the_memory_of_a_model_without_torch_holds_no_torch(photographs: list[Path]) -> None:
    figures, has_torch = in_fresh_process(bundled_figures, photographs[:2])
    assert not has_torch
    assert figures.memory_bytes > 50 << 20


def test_a_file_that_cannot_be_scored_is_not_counted(photographs: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photographs[0].read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        measure_model(Spec(BUNDLED, backend="onnxruntime"), [photographs[0], broken], QUICK)


def _figures(rate: float, **facts: object) -> Figures:
    return Figures((1 / rate, 1 / rate), rate, 1 << 20, None, {"pictures": 1000, **facts})


def test_models_and_peers_run_in_rounds_and_give_as_many_passes(
    photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    manifest = read_manifest(BUNDLED_MODEL)

    def model(function: object, spec: Spec, *_: object) -> tuple[str, Manifest, Figures]:
        order.append(spec.model)
        if spec.model == "broken":
            raise BackendError("broken.onnx: cannot run")
        return spec.model, manifest, _figures(10.0)

    def peer(python: Path, peer: Peer, *_: object, **__: object) -> Figures:
        order.append(peer.name)
        return _figures(2.0)

    monkeypatch.setattr("glia_bench.peers.in_fresh_process", model)
    monkeypatch.setattr("glia_bench.peers.measure_peer", peer)
    monkeypatch.setattr("glia_bench.peers.prepare_environment", lambda say: Path("python"))
    recording = recorder()
    effort = replace(FULL, rounds=3)
    specs = [Spec("one"), Spec("broken"), Spec("two")]
    options: dict[str, Any] = {"pretrained": False, "device": "cpu", "step": lambda step: None}
    measure_peers(recording, specs, PEERS[:1], photographs, effort, **options)
    assert order == ["one", "broken", "two", "TOPIQ-NR"] + 2 * ["one", "two", "TOPIQ-NR"]
    assert recording.has_failed
    run = recording.finish()
    assert any("broken in auto left out: broken.onnx: cannot run" in note for note in run.notes)
    rates = {item.subject: item for item in run.measurements if item.metric == "from files"}
    assert {len(item.samples) for item in rates.values()} == {3} and len(rates) == 3
    # Two repeats in each round are one sample.
    assert {len(item.samples) for item in run.measurements if item.unit == "s"} == {3}


def test_a_peer_that_fails_is_no_failed_part(photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Figures:
        raise BackendError("it took more than 120 s")

    monkeypatch.setattr("glia_bench.peers.measure_peer", fail)
    monkeypatch.setattr("glia_bench.peers.prepare_environment", lambda say: Path("python"))
    recording = recorder()
    measure_peers(recording, (), PEERS[:1], photographs, QUICK, pretrained=False, device="cpu", step=lambda step: None)
    assert not recording.has_failed
    assert any("TOPIQ-NR left out: it took more than 120 s" in note for note in recording.finish().notes)


def test_the_rounds_of_an_interrupted_run_are_kept(photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, calls = read_manifest(BUNDLED_MODEL), iter([10.0, 20.0])

    def model(function: object, spec: Spec, *_: object) -> tuple[str, Manifest, Figures]:
        if (rate := next(calls, None)) is None:
            raise KeyboardInterrupt
        return spec.model, manifest, _figures(rate)

    monkeypatch.setattr("glia_bench.peers.in_fresh_process", model)
    recording = recorder()
    options: dict[str, Any] = {"pretrained": False, "device": "cpu", "step": lambda step: None}
    with pytest.raises(KeyboardInterrupt):
        measure_peers(recording, [Spec("one")], (), photographs, FULL, **options)
    assert [item.samples for item in recording.finish().measurements if item.unit == "images/s"] == [(10.0, 20.0)]


@pytest.mark.parametrize(("patience", "may_stop", "passed"), [(60, True, 5), (0, True, 1), (0, False, 5)])
def test_a_peers_pass_is_all_files_or_as_many_as_there_is_time_for(
    patience: float, may_stop: bool, passed: int, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Metric:
        net = torch.nn.Linear(2, 3)

        def __call__(self, picture: torch.Tensor) -> torch.Tensor:
            time.sleep(0.01)
            return picture.mean()

    monkeypatch.setattr(peers_worker, "load", lambda *_: (Metric(), "random"))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1")
    paths = [str(path) for path in photographs]
    order = {"metric": "any", "paths": paths, "cores": 1, "repeats": 2, "warm_up": 1, "weights": "random"}
    order |= {"device": "cpu", "patience": patience, "may_stop": may_stop, "parent": os.getppid()}
    ended_with: list[int] = []  # the real one would end pytest
    monkeypatch.setattr(peers_worker, "end_with", ended_with.append)
    found = peers_worker.main(order)
    assert ended_with == [order["parent"]]
    assert len(found["files"]) == passed
    assert len(found["single"]) == (2 if patience else 1)
    assert min(found["files"] + found["single"]) >= 0.01 and found["parameters"] == 9


def test_a_pass_cut_short_says_so_and_stays_the_same_in_every_round(
    photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[list[Path], bool]] = []

    def peer(python: Path, peer: Peer, paths: list[Path], effort: object, *, may_stop: bool, **_: object) -> Figures:
        passes.append((paths, may_stop))
        return _figures(0.02, pictures=2 if may_stop else len(paths), weights="random")

    def model(*_: object) -> tuple[str, Manifest, Figures]:
        return "one", read_manifest(BUNDLED_MODEL), _figures(10.0, pictures=5)

    monkeypatch.setattr("glia_bench.peers.in_fresh_process", model)
    monkeypatch.setattr("glia_bench.peers.measure_peer", peer)
    monkeypatch.setattr("glia_bench.peers.prepare_environment", lambda say: Path("python"))
    recording = recorder()
    options: dict[str, Any] = {"pretrained": False, "device": "cpu", "step": lambda step: None}
    measure_peers(recording, [Spec("one")], PEERS[:1], photographs, replace(FULL, rounds=3), **options)
    assert passes == [(photographs, True), (photographs[:2], False), (photographs[:2], False)]
    run = recording.finish()
    assert "TOPIQ-NR (IQA-PyTorch): the first 2 of 5 files only, for lack of time" in run.notes
    header, model_row, peer_row = peers_table(run)
    # What the files decide is marked, the one picture in memory is not.
    marked = [name for name, cell in zip(header, peer_row, strict=True) if "(2 of 5 files)" in cell]
    assert marked == ["from files", "peak memory"]
    assert not any("files)" in cell for cell in model_row)


_AS_ASKED: dict[str, Any] = {"may_stop": True, "pretrained": False, "device": "cpu"}


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
        measure_peer(Path(sys.executable), PEERS[0], photographs, QUICK, **_AS_ASKED)
    assert "pyiqa" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("effort", "hint"), [(QUICK, "leave out --quick"), (FULL, "name the other peers with --peer")])
def test_a_peer_that_takes_too_long_says_what_to_do(
    effort: Effort, hint: str, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(BackendError) as caught:
        measure_peer(Path(sys.executable), PEERS[0], photographs, effort, **_AS_ASKED)
    assert str(caught.value) == f"it took more than {effort.seconds:.0f} s in one round; {hint}"


def test_an_interpreter_that_cannot_be_run_is_one_line(photographs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"No such file or directory.*remove {tmp_path}, and"):
        measure_peer(tmp_path / "bin" / "python", PEERS[0], photographs, QUICK, **_AS_ASKED)


def test_a_peer_is_told_where_to_compute(photographs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[dict[str, Any]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        orders.append(json.loads(command[-1]))
        return subprocess.CompletedProcess(command, 1, "", "enough")

    monkeypatch.setattr(subprocess, "run", run)
    for device in ("cpu", "cuda"):
        with pytest.raises(BackendError, match="enough"):
            measure_peer(Path(sys.executable), PEERS[0], photographs, QUICK, **{**_AS_ASKED, "device": device})
    assert [order["device"] for order in orders] == ["cpu", "cuda"]


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
@pytest.mark.skipif(not is_installed(), reason="run glia-bench peers once")
def test_a_peer_is_measured(photographs: list[Path]) -> None:
    figures = measure_peer(prepare_environment(print), PEERS[0], photographs, QUICK, **_AS_ASKED)
    assert len(figures.single) == QUICK.repeats and figures.rate > 0
    assert figures.parameters is not None and figures.parameters > 1e6
    assert figures.facts["weights"].startswith("random")
