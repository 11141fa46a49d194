"""How long one picture takes from a cold start: the whole command, against what ONNX Runtime alone takes.

    python -m glia_bench.cold_start [--repeats 15] [--output FILE]

All are whole processes, started in turn so that a change of the machine's mood meets each. The first run of each
only warms the file cache. What a user waits for is the command; what no runtime on ONNX Runtime can avoid is to
import it and to create a session on the model, so the ratio of the two is what glia adds, scoring included.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from glia_bench.machine import machine
from glia_runtime.atomic import atomic_write
from glia_runtime.scorer import BUNDLED_MODEL

SESSION = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"


def seconds(command: list[str]) -> float:
    """Wall time of one process; its output is discarded, a failure raises CalledProcessError."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(repeats: int) -> dict[str, Any]:
    """Median seconds of each command over `repeats` runs, and the ratio of the medians."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "small.jpg"
        noise = np.random.default_rng(0).integers(0, 256, (256, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).save(picture, quality=90)
        infer = str(Path(sys.executable).with_name("glia-infer"))
        commands = {
            "import onnxruntime": [sys.executable, "-c", "import onnxruntime"],
            "import and session": [sys.executable, "-c", SESSION, str(BUNDLED_MODEL)],
            "glia-infer small.jpg": [infer, str(picture)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for repeat in range(repeats + 1):
            for name, command in commands.items():
                taken = seconds(command)
                if repeat:
                    times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    _, alone, whole = medians.values()
    return {
        "machine": machine("onnxruntime", "typer"),
        "seconds": times,
        "median_seconds": medians,
        "ratio": whole / alone,
    }


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each command.")] = 15,
    output: Annotated[Path | None, typer.Option(help="Write every sample and the machine here, as JSON.")] = None,
) -> None:
    """Measure the cold start of glia-infer on the bundled model."""
    result = measure(repeats)
    for name, median in result["median_seconds"].items():
        print(f"{median:8.3f} s  {name}")
    print(f"{result['ratio']:8.2f}    ratio, on {result['machine']['cores']} cores of {result['machine']['cpu']}")
    if output:
        with atomic_write(output) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
