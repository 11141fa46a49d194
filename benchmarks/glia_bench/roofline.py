"""What this machine can do at most, and how much of it a model uses.

The matrix peak and the copy bandwidth are measured, by the libraries that run the models. A model's operations are
counted by PyTorch; its bytes are those that no implementation can avoid: the file of weights once a batch, the pictures
once. The limit of a row is what the slower of the two allows, so that nothing can be above 100 % but by a better matrix
product than any that was tried here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from glia_bench.measure import timed
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.subjects import ARITHMETIC, Subject
from glia_runtime.backends import is_installed
from glia_runtime.backends.base import usable_cpus
from glia_runtime.backends.openvino import core
from glia_runtime.errors import UsageError
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import Manifest

MACHINE = "this machine"
_SIDE = 2048
"""Of the square matrices: 50 MB in fp32, work enough for every core, and what a ViT-B multiplies is no larger."""

_QUICK_SIDE = 1024
_SMALLEST_COPY = 64 << 20

Product = Callable[[], object]


@dataclass(frozen=True)
class Ceilings:
    """Limits of this machine.

    Attributes:
        peaks: FLOP/s of the fastest matrix product by arithmetic ("fp32", "bf16").
        copy: bytes/s read and written by a copy larger than the caches.
    """

    peaks: dict[str, float]
    copy: float

    def peak(self, arithmetic: str) -> tuple[str, float]:
        """The best peak that a model of this arithmetic can reach: its own, or fp32's, since it may be widened."""
        return max(
            ((name, self.peaks[name]) for name in {arithmetic, "fp32"} & set(self.peaks)), key=lambda peak: peak[1]
        )


@dataclass(frozen=True)
class Cost:
    """What one picture costs a model: floating-point operations (a multiplication and an addition are two), and the
    number of parameters.
    """

    flops: int
    parameters: int


def measure_ceilings(recorder: Recorder, *, quick: bool) -> Ceilings:
    """Measure matrix peaks and copy bandwidth, add every library's to `recorder`, and return the best."""
    side = _QUICK_SIDE if quick else _SIDE
    peaks: dict[str, float] = {}
    for library, arithmetic, product in _products(side):
        samples = timed(product, warm_up=2, repeats=5 if quick else 20)
        rates = tuple(2 * side**3 / sample for sample in samples)
        facts = {"ceiling": True, "side": side}
        item = recorder.add(
            Measurement(MACHINE, f"{arithmetic} matrix product, {library}", "FLOP/s", "higher", rates, facts)
        )
        peaks[arithmetic] = max(peaks.get(arithmetic, 0.0), item.median)
    size = max(_SMALLEST_COPY, 4 * (recorder.machine.cache_bytes or 0))
    samples = timed(_copy(size), warm_up=2, repeats=5 if quick else 20)
    rates = tuple(2 * size / sample for sample in samples)
    facts = {"ceiling": True, "size_bytes": size}
    copy = recorder.add(Measurement(MACHINE, "copy bandwidth", "bytes/s", "higher", rates, facts))
    return Ceilings(peaks, copy.median)


def limit_facts(subject: Subject, inputs: Inputs, ceilings: Ceilings) -> dict[str, Any]:
    """For a row of `subject` on the batch `inputs`: its limit in images/s, and what it is made of.

    Empty where the architecture is not one that PyTorch can count.
    """
    cost = model_cost(subject.manifest)
    if cost is None:
        return {}
    batch = len(next(iter(inputs.values())))
    arithmetic, peak = ceilings.peak(ARITHMETIC[subject.backend.precision])
    moved = subject.backend.artifact.stat().st_size / batch + sum(array.nbytes for array in inputs.values()) / batch
    return {
        "flops": cost.flops,
        "parameters": cost.parameters,
        "bytes_a_picture": moved,
        "flops_a_byte": cost.flops / moved,
        "arithmetic": arithmetic,
        "limit": 1 / max(cost.flops / peak, moved / ceilings.copy),
    }


def model_cost(manifest: Manifest) -> Cost | None:
    """Count the model of a manifest by `torch.utils.flop_counter` on shapes alone, nothing being computed."""
    try:
        return _count(manifest.architecture, json.dumps(manifest.config))
    except (UsageError, TypeError):  # an architecture of another glia
        return None


@cache
def _count(architecture: str, config: str) -> Cost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from glia.models import create_model

    with torch.device("meta"), torch.inference_mode():
        model = create_model(architecture, **json.loads(config)).eval()
        spec = model.view_spec
        with FlopCounterMode(display=False) as counter:
            model(*(torch.zeros(1, *spec.shape, dtype=torch.uint8) for _ in spec.names))
    return Cost(counter.get_total_flops(), sum(parameter.numel() for parameter in model.parameters()))


def measure_roofline(recorder: Recorder, subject: Subject, inputs: Inputs, ceilings: Ceilings, *, quick: bool) -> None:
    """Add the engine's rate on the batch `inputs` beside its limit."""
    batch = len(next(iter(inputs.values())))
    samples = timed(lambda: subject.run(inputs), warm_up=2, repeats=3 if quick else 20)
    facts = {**subject.facts(), "batch": batch, **limit_facts(subject, inputs, ceilings)}
    rates = tuple(batch / sample for sample in samples)
    recorder.add(Measurement(subject.name, f"engine rate, batch {batch}", "images/s", "higher", rates, facts))


def _products(side: int) -> Iterator[tuple[str, str, Product]]:
    """(library, arithmetic, product of two square matrices) for each library that is here."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((side, side)).astype(np.float32) for _ in range(2))
    yield "NumPy", "fp32", lambda: first @ second
    import torch

    torch.set_num_threads(usable_cpus())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device == "cuda":
        kinds["fp16"] = torch.float16  # on a CPU without fp16 units it is emulated: 0.2 GFLOP/s, ten seconds a product
    for arithmetic, dtype in kinds.items():
        left, right = (torch.from_numpy(array).to(device, dtype) for array in (first, second))
        yield "PyTorch", arithmetic, lambda left=left, right=right: _wait(left @ right)  # type: ignore[misc]
    if is_installed("openvino"):
        for arithmetic, hint in (("fp32", "f32"), ("bf16", "bf16")):
            yield "OpenVINO", arithmetic, _openvino_product(first, second, hint)


def _wait(result: Any) -> None:
    if result.is_cuda:
        import torch

        torch.cuda.synchronize()


def _openvino_product(first: Any, second: Any, hint: str) -> Product:
    openvino: Any = import_module("openvino")
    operators: Any = import_module("openvino.opset13")
    left = operators.parameter(first.shape, np.float32)
    model = openvino.Model([operators.matmul(left, operators.constant(second), False, False)], [left])
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": usable_cpus()}
    request = core().compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(first, shared_memory=True))
    return lambda: request.infer()


def _copy(size: int) -> Product:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    return lambda: _wait(target.copy_(source))
