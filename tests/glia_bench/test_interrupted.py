"""What was measured before Ctrl-C or an error is kept and says so; no process outlives the one that waits for it."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from glia_bench import peers_worker
from glia_bench.cli import app
from glia_bench.loadgen import Load, run_scenario
from glia_bench.measure import in_fresh_process
from glia_bench.options import measuring
from glia_bench.plots import run_plot
from glia_bench.recording import Recorder
from glia_bench.results import Measurement, Run, read_run
from glia_bench.roofline import MACHINE
from glia_bench.subjects import Spec, Subject
from glia_runtime.errors import BackendError, OutputError
from tests.glia_bench.subjects import recorder, run_of

ONE = Measurement("one", "latency", "s", "lower", (1.0,))


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted after 1 measurements"),
        (BackendError("model.onnx: no more memory"), 2, "stopped (model.onnx: no more memory) after 1 measurements"),
        (ZeroDivisionError("a bug"), 70, "stopped (a bug) after 1 measurements"),
    ],
)
def test_what_was_measured_is_delivered(
    error: BaseException, status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, html = tmp_path / "run.json", tmp_path / "run.html"
    with pytest.raises(typer.Exit) as ended, measuring("latency", False, (output, None, html)) as session:
        session.recorder.add(ONE)
        raise error
    assert ended.value.exit_code == status
    run = read_run(output)
    assert run.measurements == (ONE,) and any(said in note for note in run.notes)
    assert html.exists() and "1000 ms" in capsys.readouterr().out


def test_the_samples_are_kept_whatever_becomes_of_their_picture_and_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OutputError("run.html: cannot be written (no space)")

    def gone(run: Run) -> None:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run.csv", "run.json"]  # in their places
        raise BrokenPipeError

    files = tmp_path / "run.json", tmp_path / "run.csv", tmp_path / "run.html"
    with monkeypatch.context() as patched:
        patched.setattr("glia_bench.page.write_results", full)
        with pytest.raises(typer.Exit) as ended, measuring("latency", False, files) as session:
            session.recorder.add(ONE)
        assert ended.value.exit_code == 2
        printed = capsys.readouterr()
        assert "1000 ms" in printed.out and "no space" in printed.err
        patched.setattr("glia_bench.session.run_table", gone)
        with pytest.raises(typer.Exit), measuring("latency", False, files) as session:
            session.recorder.add(ONE)
    assert read_run(files[0]).measurements == (ONE,) and not files[2].exists()


def test_two_results_in_one_file_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = tmp_path / "run.json", None, tmp_path / "." / "run.json"
    with pytest.raises(typer.Exit) as ended, measuring("latency", False, same):
        pytest.fail("measured all the same")
    assert ended.value.exit_code == 2 and "--output and --html both name" in capsys.readouterr().err


def test_damaged_pictures_are_left_out_and_the_others_identified(photographs: list[Path], tmp_path: Path) -> None:
    for name, path in zip("abc", photographs, strict=False):
        content = path.read_bytes()
        (tmp_path / f"{name}.jpg").write_bytes(content[: len(content) // 2] if name == "b" else content)
    with measuring("stream", False, (None, None, None)) as session:
        assert [path.name for path in session.photographs(tmp_path)] == ["a.jpg", "c.jpg"]
        session.recorder.add(ONE)
    notes = [note for note in session.recorder.finish().notes if "cannot be read" in note]
    assert len(notes) == 1 and "1 of 3 pictures" in notes[0] and "b.jpg" in notes[0]
    settings = session.recorder.settings
    assert settings["images"] == f"2 of {tmp_path.name}"
    whole = (tmp_path / "a.jpg").read_bytes() + (tmp_path / "c.jpg").read_bytes()
    assert settings["images_sha256"] == hashlib.sha256(whole).hexdigest()


def test_pictures_none_of_which_can_be_read_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(typer.Exit) as ended, measuring("stream", False, (None, None, None)) as session:
        session.photographs(tmp_path)
    said = capsys.readouterr().err
    assert ended.value.exit_code == 2 and "none of its pictures can be read" in said and "a.jpg" in said


def test_a_model_that_cannot_be_opened_is_a_part_that_failed(views_artifact: Path) -> None:
    with pytest.raises(typer.Exit) as ended, measuring("stream", False, (None, None, None)) as session:
        assert len(session.open([Spec("none.onnx"), Spec(str(views_artifact))])) == 1
        session.recorder.add(ONE)
    assert ended.value.exit_code == 2
    with measuring("stream", False, (None, None, None)) as session:
        session.open([Spec(str(views_artifact))])
        session.recorder.add(ONE)


def test_of_nothing_no_file_is_written(tmp_path: Path) -> None:
    with pytest.raises(typer.Exit) as ended, measuring("latency", False, (tmp_path / "run.json", None, None)):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130 and not list(tmp_path.iterdir())


def test_one_of_two_models_fails_and_the_other_is_measured(
    views_artifact: Path, image_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(recording: Recorder, subject: Subject, *_: object, **__: object) -> None:
        recording.add(replace(ONE, subject=subject.name))
        if "views" in subject.name:
            raise BackendError("views.onnx: failed on 8 pictures")

    monkeypatch.setattr("glia_bench.latency.measure_latency", measure)
    models = ["--model", str(views_artifact), "--model", str(image_artifact)]
    options = ["--backend", "onnxruntime", "--quick", "-o", str(tmp_path / "run.json")]
    done = CliRunner().invoke(app, ["latency", *models, *options])
    assert done.exit_code == 2, done.output
    run = read_run(tmp_path / "run.json")
    assert run.subjects() == [MACHINE, "views.onnx (onnxruntime)", "image.onnx (onnxruntime)"]
    assert any("failed on 8 pictures" in note for note in run.notes) and "image.onnx" in done.stdout


def test_a_roofline_that_was_interrupted_can_be_drawn() -> None:
    peak = Measurement("this machine", "fp32 matrix product", "FLOP/s", "higher", (1e9,), {"ceiling": True})
    assert "<svg" in run_plot(replace(run_of(1.0), command="roofline", measurements=(peak,)))


def linger(pid_file: str) -> None:
    Path(pid_file).write_text(str(os.getpid()))
    time.sleep(300)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for a process in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_measuring_process_ends_with_the_command(how: signal.Signals, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from glia_bench.measure import in_fresh_process\n"
        f"from {__name__} import linger\n"
        f"in_fresh_process(linger, {str(pid_file)!r})"
    )
    # A session of its own: the signal reaches the command alone, as from another terminal.
    command = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300  # importing takes a while on a busy machine
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        assert command.poll() is None
        time.sleep(0.05)
    child = int(pid_file.read_text())
    command.send_signal(how)
    command.wait(timeout=60)
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(child)


def test_the_peers_process_ends_with_the_command() -> None:
    code = f"import runpy; runpy.run_path({peers_worker.__file__!r})['end_with'](-1)"  # no process has this number
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=300).returncode == 1


def broken() -> None:
    raise ZeroDivisionError("a bug in there")


def test_a_bug_in_the_measuring_process_is_one() -> None:
    with pytest.raises(RuntimeError, match="a bug in there"):
        in_fresh_process(broken)


def unsendable() -> object:
    return lambda: None


def lacking() -> None:
    raise ModuleNotFoundError("No module named 'timm'", name="timm")


def test_what_went_wrong_in_the_measuring_process_is_said() -> None:
    with pytest.raises(RuntimeError, match="lambda"):
        in_fresh_process(unsendable)
    with pytest.raises(ModuleNotFoundError, match="timm") as caught:
        in_fresh_process(lacking)
    assert caught.value.name == "timm"


@pytest.mark.parametrize("scenario", ["SingleStream", "Server", "Offline"])
def test_ctrl_c_reaches_the_caller_of_loadgen(scenario: str) -> None:
    calls = 0

    def work(indices: list[int]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        run_scenario(work, 3, Load(scenario, 20, 0.1, 2, 100.0))  # type: ignore[arg-type]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_a_run_of_loadgen() -> None:
    code = (
        "import os, signal, threading, time\n"
        "from glia_bench.loadgen import Load, run_scenario\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def interrupt(): os.kill(os.getpid(), signal.SIGINT)\n"
        "def work(indices):\n"
        "    threading.Timer(1, interrupt).start()\n"
        "    interrupt()\n"
        "    time.sleep(600)\n"
        "run_scenario(work, 3, Load('SingleStream', 20, 0.1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -signal.SIGINT and "a second Ctrl-C" in done.stderr


def test_a_part_that_fails_is_a_remark() -> None:
    recording = recorder()
    with recording.part("one.onnx"):
        raise BackendError("one.onnx: cannot run")
    assert recording.has_failed
    assert any("one.onnx failed: one.onnx: cannot run" in note for note in recording.finish().notes)
