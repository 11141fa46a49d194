"""How long one picture takes from a cold start: the whole command, against importing ONNX Runtime alone.

    python -m glia_bench.cold_start [--repeats 15] [--output FILE]

Both are whole processes, started in turn so that a change of the machine's mood meets both. The first run of each
only warms the file cache. What a user waits for is the command; what no runtime on ONNX Runtime can avoid is the
import, so the ratio of the two is what glia adds.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from glia_runtime.atomic import atomic_write


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    packages = ("glia", "numpy", "pillow", "onnxruntime", "typer")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


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
            "python -c 'import onnxruntime'": [sys.executable, "-c", "import onnxruntime"],
            "glia-infer small.jpg": [infer, str(picture)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for repeat in range(repeats + 1):
            for name, command in commands.items():
                taken = seconds(command)
                if repeat:
                    times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    alone, whole = medians.values()
    return {"machine": machine(), "seconds": times, "median_seconds": medians, "ratio": whole / alone}


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
