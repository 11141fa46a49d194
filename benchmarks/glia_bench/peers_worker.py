"""Times one metric of IQA-PyTorch; runs in that library's own environment, where glia is not installed.

    python peers_worker.py '{"metric": "topiq_nr", "paths": [...], "cores": 2, "repeats": 5, "warm_up": 8,
        "patience": 30, "may_stop": true, "weights": "random", "device": "auto", "parent": 4711}'

Prints one line of JSON on standard output, after what the libraries print. Imports nothing of glia.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

MARK = "glia-bench: "

CLIPS = {
    "ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12),
    "RN50": (1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12),
}
"""The shapes of CLIP (Radford et al., 2021, tables 19 and 20) in the order that IQA-PyTorch's class takes them; its own
loader reads them off a file of weights.
"""


def main(order: dict[str, Any]) -> dict[str, Any]:
    """Load the metric, time it on a picture in memory and on one pass over the files, and return the figures.

    Each of these ends early, after one picture at least, once it has taken `patience` seconds; but the pass only where
    it `may_stop`.
    """
    threading.Thread(target=end_with, args=(order["parent"],), daemon=True).start()
    torch: Any = import_module("torch")
    torch.set_num_threads(order["cores"])
    wanted = order["device"]
    device = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    metric, weights = load(order["metric"], device, order["weights"])
    first = picture(order["paths"][0])

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def timed(pictures: Iterable[Any], may_stop: bool = True) -> list[float]:
        """Seconds of each, from pixels or from its path to its score."""
        taken: list[float] = []
        for given in pictures:
            begun = time.perf_counter()
            metric((picture(given) if isinstance(given, str) else given).to(device))
            wait()
            taken.append(time.perf_counter() - begun)
            if may_stop and sum(taken) >= order["patience"]:
                break
        return taken

    with torch.inference_mode():
        timed([first, *order["paths"][: order["warm_up"]]])
        single = timed([first] * order["repeats"])
        files = timed(order["paths"], order["may_stop"])
    return {
        "single": single,
        "files": files,
        "memory_bytes": peak_memory_bytes(),
        "gpu_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "parameters": parameters(metric.net),
        "weights": weights,
        "device": device,
        "versions": {name: import_module("importlib.metadata").version(name) for name in ("pyiqa", "torch", "timm")},
    }


def end_with(parent: int) -> None:
    """End this process when the one that started it has ended, however that was."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def peak_memory_bytes() -> int:
    """As `glia_bench.measure.peak_memory_bytes`, which cannot be imported here."""
    with Path("/proc/self/status").open(encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def load(name: str, device: str, weights: str) -> tuple[Any, str]:
    """The metric, and whose weights it has: its authors', or random ones where those cannot be had."""
    pyiqa: Any = import_module("pyiqa")
    reason = "as asked"
    if weights == "pretrained":
        try:
            return pyiqa.create_metric(name, device=device), "pretrained"
        except Exception as error:  # no network, a moved file, a changed hub: each library has its own
            reason = type(error).__name__
    with no_downloads(), random_clip():
        return pyiqa.create_metric(name, device=device, pretrained=False), f"random (speed only; {reason})"


@contextlib.contextmanager
def no_downloads() -> Iterator[None]:
    """Let the parts that a metric is built from make random weights instead of fetching theirs."""
    timm: Any = import_module("timm")
    create = timm.create_model

    def bare(*arguments: Any, **options: Any) -> Any:
        return create(*arguments, **{**options, "pretrained": False})

    timm.create_model = bare
    try:
        yield
    finally:
        timm.create_model = create


@contextlib.contextmanager
def random_clip() -> Iterator[None]:
    """Let LIQE and CLIP-IQA+ build CLIP with random weights.

    LIQE keeps its text features in the user's cache; made of random weights they would spoil it for good, so that they
    go to a folder that is removed.
    """
    torch: Any = import_module("torch")
    model: Any = import_module("pyiqa.archs.clip_model")
    users: list[Any] = [import_module(f"pyiqa.archs.{name}_arch") for name in ("liqe", "clipiqa")]
    loads, cache = [user.load for user in users], users[0].DEFAULT_CACHE_DIR

    def load(name: str, device: str) -> Any:
        torch.manual_seed(0)
        return model.CLIP(*CLIPS[name]).eval().to(device)

    with tempfile.TemporaryDirectory(prefix="glia-bench-") as folder:
        users[0].DEFAULT_CACHE_DIR = folder
        for user in users:
            user.load = load
        try:
            yield
        finally:
            users[0].DEFAULT_CACHE_DIR = cache
            for user, original in zip(users, loads, strict=True):
                user.load = original


def parameters(net: Any) -> int:
    """Number of parameters, those included that CLIP-IQA+ hides in a list from its own module."""
    torch: Any = import_module("torch")
    hidden = [part for value in vars(net).values() if isinstance(value, list) for part in value]
    modules = [net, *(part for part in hidden if isinstance(part, torch.nn.Module))]
    found = {id(tensor): tensor.numel() for module in modules for tensor in module.parameters()}
    return sum(found.values())


def picture(path: str) -> Any:
    """float32 [1, 3, H, W], 0 to 1: what these metrics take."""
    numpy: Any = import_module("numpy")
    torch: Any = import_module("torch")
    pillow: Any = import_module("PIL.Image")
    turned: Any = import_module("PIL.ImageOps").exif_transpose(pillow.open(path)).convert("RGB")
    return torch.from_numpy(numpy.array(turned)).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    print(MARK + json.dumps(main(json.loads(sys.argv[1]))))
