"""``glia-bench cold-start``: how long one picture takes from nothing, against what ONNX Runtime alone takes.

All are whole processes, started in turn so that a change of the machine's mood meets each. The first run of each
only warms the file cache. What a user waits for is the command; what no runtime on ONNX Runtime can avoid is to
import it and to create a session on the model, so the ratio of the two is what glia adds, scoring included.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from glia_bench.measure import timed_in_turn
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_runtime.scorer import BUNDLED_MODEL, MODEL_VARIABLE

SESSION = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"


def run_process(command: list[str]) -> None:
    """Run one process to its end; its output is discarded, a failure raises CalledProcessError."""
    # The session is created on the bundled model, and glia-infer would take the user's.
    environment = {name: value for name, value in os.environ.items() if name != MODEL_VARIABLE}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def measure_cold_start(recorder: Recorder, picture: Path, repeats: int) -> None:
    """Time each command `repeats` times each on `picture`, after one start of each that does not count."""
    infer = str(Path(sys.executable).with_name("glia-infer"))
    commands = {
        "python -c 'import onnxruntime'": [sys.executable, "-c", "import onnxruntime"],
        "import onnxruntime, create the session": [sys.executable, "-c", SESSION, str(BUNDLED_MODEL)],
        "glia-infer PICTURE": [infer, str(picture)],
    }
    calls = {name: lambda command=command: run_process(command) for name, command in commands.items()}
    for name, samples in timed_in_turn(calls, warm_up=1, repeats=repeats).items():
        recorder.add(Measurement(name, "cold start", "s", "lower", samples))
