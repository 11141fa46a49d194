"""Peak memory of a stream of 20,000 pictures against one of 2,000, and what stays open afterwards.

    python -m glia_bench.memory [--few 2000] [--many 20000] [--model FILE] [--output FILE]

Each stream is a process of its own over files of 16 sizes from 40x30 to 640x480 pixels, some of them damaged. A
pipeline that keeps anything for each picture shows as a ratio above 1; a leak as threads or handles left over.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from glia_bench.machine import this_machine
from glia_bench.results import write_json
from glia_runtime.scorer import Scorer, find_model

DISTINCT = 500
"""Files that are really made; a longer stream names them again."""


def make(folder: Path) -> list[Path]:
    """Write `DISTINCT` small JPEG and PNG files, every 50th cut in half."""
    paths = []
    for index in range(DISTINCT):
        side = 40 * (index % 16 + 1)
        noise = np.random.default_rng(index).integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)
        path = folder / f"{index:03}.{'png' if index % 4 == 0 else 'jpg'}"
        Image.fromarray(noise).save(path)
        if index % 50 == 49:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        paths.append(path)
    return paths


def stream(model: Path, folder: Path, count: int) -> dict[str, int]:
    """Score `count` pictures here; peak memory in bytes, and threads and handles before and after."""
    scorer = Scorer.open(model)
    paths = sorted(folder.iterdir())
    list(scorer.stream(paths[:16]))  # engines start their threads at the first run
    threads, handles = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    failed = sum(result.score is None for result in scorer.stream(itertools.islice(itertools.cycle(paths), count)))
    return {
        "pictures": count,
        "failed": failed,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads_left": threading.active_count() - threads,
        "handles_left": len(list(Path("/proc/self/fd").iterdir())) - handles,
    }


def measure(model: Path, few: int, many: int) -> dict[str, Any]:
    """Both streams, each in its own process, and the ratio of their peaks."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for count in (few, many):
            command = [sys.executable, "-m", "glia_bench.memory", "--one", folder, "--few", str(count)]
            done = subprocess.run(
                [*command, "--model", str(model)], check=True, stdout=subprocess.PIPE, text=True, env=os.environ
            )
            runs.append(json.loads(done.stdout))
    return {"machine": asdict(this_machine()), "runs": runs, "ratio": runs[1]["peak_bytes"] / runs[0]["peak_bytes"]}


def main(
    few: Annotated[int, typer.Option(min=1, help="Pictures of the short stream.")] = 2000,
    many: Annotated[int, typer.Option(min=1, help="Pictures of the long stream.")] = 20000,
    model: Annotated[Path | None, typer.Option(help="Artifact. Default: as glia-infer.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the runs and the machine here, as JSON.")] = None,
    one: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure that memory does not grow with the number of pictures."""
    artifact = find_model(model)
    if one is not None:
        print(json.dumps(stream(artifact, one, few)))
        return
    result = measure(artifact, few, many)
    for run in result["runs"]:
        left = f"{run['threads_left']} threads and {run['handles_left']} handles left"
        print(f"{run['peak_bytes'] / 1e6:8.1f} MB  {run['pictures']} pictures, {run['failed']} failed, {left}")
    print(f"{result['ratio']:8.3f}     ratio, on {result['machine']['cores']} cores of {result['machine']['cpu']}")
    if output:
        write_json(result, output)


if __name__ == "__main__":
    typer.run(main)
