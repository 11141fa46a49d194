"""Files to scores, against the graph alone and against decoding alone, in one run.

    python -m glia_bench.stream [--images FOLDER] [--megapixels 12] [--model FILE] [--output FILE]

The same files go through each stage by itself and through `Scorer.stream`, in turn, `repeats` times over:

- backend: the graph on ready batches, without any file;
- decode: `glia_runtime.decode.decode`, files to arrays, by as many threads as the stream has;
- pillow: the same by Pillow alone, without simplejpeg;
- stream: files to scores; and with `draft`, where the artifact takes views.

A stream can be no faster than its slowest stage, and on a CPU the stages share the cores: the ratios say how near it
comes. With `--megapixels` every picture is first enlarged to that size and written as a JPEG of quality 90.
"""

import itertools
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from glia_bench.machine import this_machine
from glia_bench.measure import timed_in_turn
from glia_bench.results import write_json
from glia_runtime.backends.base import usable_cpus
from glia_runtime.decode import decode, decode_picture
from glia_runtime.errors import UsageError
from glia_runtime.inputs import collate, prepare
from glia_runtime.scorer import Scorer


def measure(scorer: Scorer, paths: list[Path], repeats: int) -> dict[str, Any]:
    """Pictures a second of each stage and of the stream, every sample and the medians, and the ratios."""
    stages: dict[str, Callable[[], object]] = {
        "backend": lambda: _run_backend(scorer, paths),
        "decode": lambda: _in_threads(decode, paths),
        "pillow": lambda: _in_threads(_pillow, paths),
        "stream": lambda: _scores(scorer, paths, draft=False),
    }
    if scorer.manifest.input == "views":
        stages["draft"] = lambda: _scores(scorer, paths, draft=True)
    taken = timed_in_turn(stages, warm_up=1, repeats=repeats)
    rates = {name: [len(paths) / seconds for seconds in samples] for name, samples in taken.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    streams = [name for name in ("stream", "draft") if name in medians]
    ratios = {
        f"{name} / {alone}": medians[name] / medians[alone] for name in streams for alone in ("backend", "decode")
    }
    result: dict[str, Any] = {
        "machine": asdict(this_machine()),
        "backend": scorer.choice,
        "artifact": scorer.manifest.architecture,
        "pictures": len(paths),
        "pictures_per_second": rates,
        "median_pictures_per_second": medians,
        "ratios": ratios,
    }
    if "draft" in stages:
        exact, drafted = _scores(scorer, paths, draft=False), _scores(scorer, paths, draft=True)
        result["draft_largest_score_difference"] = float(np.abs(exact - drafted).max())
    return result


def _run_backend(scorer: Scorer, paths: list[Path]) -> None:
    # One real picture many times over: what a graph costs does not depend on the pixels.
    picture = prepare(decode_picture(paths[0]), scorer.manifest)
    size = scorer._batch_size(None)
    for start in range(0, len(paths), size):
        batch = [picture] * min(size, len(paths) - start)
        scorer._backend.run(collate(batch, scorer.manifest))


def _in_threads(work: Callable[[Path], object], paths: list[Path]) -> None:
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for _ in pool.map(lambda path: work(path) is None, paths):  # not the arrays, which would fill the memory
            pass


def _pillow(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def _scores(scorer: Scorer, paths: list[Path], *, draft: bool) -> Any:
    return np.array([result.score for result in scorer.stream(paths, draft=draft)], dtype=np.float64)


def _enlarged(paths: list[Path], megapixels: float, folder: Path) -> list[Path]:
    made = []
    for path in paths:
        picture = Image.fromarray(decode(path))
        factor = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
        large = picture.resize((round(picture.width * factor), round(picture.height * factor)))
        made.append(folder / path.name)
        large.save(made[-1], "JPEG", quality=90)
    return made


def main(
    images: Annotated[Path, typer.Option(help="Folder of JPEG files.")] = Path("images"),
    count: Annotated[int, typer.Option(min=1, help="Pictures in a round; the files are used in turn.")] = 64,
    megapixels: Annotated[float | None, typer.Option(min=0.1, help="Enlarge each picture to this size.")] = None,
    model: Annotated[str | None, typer.Option(help="Artifact. Default: as glia-infer.")] = None,
    device: Annotated[str, typer.Option(help="As for glia-infer.")] = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Write every sample and the machine here, as JSON.")] = None,
) -> None:
    """Measure the pipeline against its stages."""
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))[:count]
    if not files:
        raise UsageError(f"{images}: no JPEG files in it; name a folder with --images")
    with tempfile.TemporaryDirectory() as folder:
        if megapixels is not None:
            files = _enlarged(files, megapixels, Path(folder))
        paths = list(itertools.islice(itertools.cycle(files), count))
        result = measure(Scorer.open(model, device), paths, repeats)
    for name, rate in result["median_pictures_per_second"].items():
        print(f"{rate:10.2f} pictures/s  {name}")
    for name, ratio in result["ratios"].items():
        print(f"{ratio:10.3f} {name}")
    print(f"on {result['machine']['cores']} cores of {result['machine']['cpu']}; {result['backend']}")
    if output:
        write_json(result, output)


if __name__ == "__main__":
    typer.run(main)
