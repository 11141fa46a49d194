"""``glia-bench roofline``: what this machine can do at most, and how much of it a model uses.

The matrix peak and the copy bandwidth are measured, by the libraries that run the models. A model's operations are
counted by PyTorch; its bytes are those that no implementation can avoid: the weights once a batch, as narrow as they
are stored or computed with, and the pictures once. The limit of a row is what the slower of the two allows, so that
nothing can be above 100 % but by a better matrix product than any that was tried here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from glia_bench.machine import Machine
from glia_bench.measure import timed, timed_in_turn
from glia_bench.nvidia import finished, torch_device
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.subjects import ARITHMETIC, Subject
from glia_runtime.backends import is_installed
from glia_runtime.backends.base import usable_cpus
from glia_runtime.backends.openvino import core
from glia_runtime.errors import BackendError, UsageError
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import Manifest, Precision

MACHINE = "this machine"
_SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the square matrices, halved by --quick. On a CPU 50 MB in fp32, work enough for every core, and what a ViT-B
multiplies is no larger; a GPU wants more to fill it.
"""

_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "fp16-weights": 2, "bf16": 2, "int8": 1}
"""A weight's."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Ceilings:
    """Limits of a device of this machine.

    Attributes:
        device: "cpu" or "cuda".
        peaks: FLOP/s of the fastest matrix product by arithmetic ("fp32", "bf16").
        copy: bytes/s read and written by a copy larger than the caches.
    """

    device: str
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


def measure_ceilings(recorder: Recorder, subjects: Collection[Subject], *, quick: bool) -> Ceilings | None:
    """Measure matrix peaks and copy bandwidth, add every library's to `recorder`, and return the best.

    Args:
        recorder: takes the measurements.
        subjects: where any of them runs on a GPU, its limits are measured, else the CPU's.
        quick: smaller and fewer.

    Returns:
        None, and a remark in `recorder`, where there is no PyTorch or timm, or it cannot use the GPU that another
        library can.
    """
    if not (is_installed("torch") and is_installed("timm")):
        recorder.note("no limits are measured: that takes PyTorch and timm")
        return None
    wanted = "cuda" if any(subject.backend.device == "cuda" for subject in subjects) else "cpu"
    try:
        device = torch_device(wanted)
    except BackendError as error:
        recorder.note(f"no limits are measured: {error}")
        return None
    side, repeats = _SIDE[device] // (2 if quick else 1), 5 if quick else 20
    peaks: dict[str, float] = {}
    for library, arithmetic, product in _products(device, side):
        rates = tuple(2 * side**3 / sample for sample in timed(product, warm_up=2, repeats=repeats))
        facts = {"ceiling": True, "side": side}
        item = recorder.add(
            Measurement(MACHINE, f"{arithmetic} matrix product, {library}", "FLOP/s", "higher", rates, facts)
        )
        peaks[arithmetic] = max(peaks.get(arithmetic, 0.0), item.median)
    size = copy_bytes(device, recorder.machine, quick=quick)
    rates = tuple(2 * size / sample for sample in timed(copy_of(size, device), warm_up=2, repeats=repeats))
    facts = {"ceiling": True, "size_bytes": size}
    copy = recorder.add(Measurement(MACHINE, "copy bandwidth", "bytes/s", "higher", rates, facts))
    return Ceilings(device, peaks, copy.median)


def limit_facts(subject: Subject, inputs: Inputs, ceilings: Ceilings | None) -> dict[str, Any]:
    """For a row of `subject` on the batch `inputs`: its limit in images/s, and what it is made of.

    Empty without ceilings, for an architecture that PyTorch cannot count, and for a subject on another
    device.
    """
    if ceilings is None or subject.backend.device != ceilings.device:
        return {}
    if (cost := model_cost(subject.manifest)) is None:  # asked last: it takes PyTorch, which ceilings say is there
        return {}
    batch = len(next(iter(inputs.values())))
    arithmetic, peak = ceilings.peak(ARITHMETIC[subject.backend.precision])
    # Of whole pictures the true sizes: nobody has to read the padding.
    shown = sum(array.nbytes for array in inputs.values())
    if "sizes" in inputs:
        shown = 3 * int(inputs["sizes"].prod(axis=1).sum())
    moved = (subject.backend.artifact.stat().st_size * _kept(subject) + shown) / batch
    return {
        "flops": cost.flops,
        "parameters": cost.parameters,
        "bytes_a_picture": moved,
        "flops_a_byte": cost.flops / moved,
        "arithmetic": arithmetic,
        "limit": 1 / max(cost.flops / peak, moved / ceilings.copy),
    }


def _kept(subject: Subject) -> float:
    """Part of the file's bytes that has to be read for a batch.

    An engine that computes in bf16 or fp16 keeps the weights of a float32 file so, and reads half of its bytes; held to
    all of them it could be above its limit. The other way round the narrow file is what cannot be avoided: its weights
    can be widened on their way. Nearly all of a file are weights.
    """
    stored, computed = (_BYTES[kind] for kind in (subject.manifest.precision, subject.backend.precision))
    return min(stored, computed) / stored


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


def measure_roofline(
    recorder: Recorder,
    subjects: Collection[Subject],
    paths: Sequence[Path],
    batches: Sequence[int],
    ceilings: Ceilings | None,
    *,
    quick: bool,
    step: Callable[[str], None],
) -> None:
    """Add every engine's rate beside its limit, the subjects in turn for each size of batch."""
    for batch in batches:
        step(f"batch {batch}")
        inputs: dict[Subject, Inputs] = {}
        for subject in subjects:
            with recorder.part(subject.name):  # before the rounds, which one that fails would end for all
                batched = subject.batch(paths, batch)
                subject.run(batched)
                inputs[subject] = batched
        calls = {subject: partial(subject.run, ready) for subject, ready in inputs.items()}
        for subject, samples in timed_in_turn(calls, warm_up=2, repeats=5 if quick else 20).items():
            facts = {**subject.facts(), "batch": batch, "at_once": subject.at_once(batch)}
            facts.update(limit_facts(subject, inputs[subject], ceilings))
            rates = tuple(batch / sample for sample in samples)
            metric = f"engine rate, {subject.batch_title(batch)}"
            recorder.add(Measurement(subject.name, metric, "images/s", "higher", rates, facts))


def _products(device: str, side: int) -> Iterator[tuple[str, str, Call]]:
    """(library, arithmetic, product of two square matrices) for each library that computes on `device`."""
    import torch

    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((side, side)).astype(np.float32) for _ in range(2))
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if device == "cuda":
        kinds["fp16"] = torch.float16  # on a CPU without fp16 units it is emulated: 0.2 GFLOP/s, ten seconds a product
    else:
        torch.set_num_threads(usable_cpus())
        yield "NumPy", "fp32", lambda: first @ second
    for arithmetic, dtype in kinds.items():
        left, right = (torch.from_numpy(array).to(device, dtype) for array in (first, second))
        yield "PyTorch", arithmetic, finished(partial(torch.matmul, left, right), device)
    if device == "cpu" and is_installed("openvino"):
        for arithmetic, hint in (("fp32", "f32"), ("bf16", "bf16")):
            yield "OpenVINO", arithmetic, _openvino_product(first, second, hint)


def _openvino_product(first: Any, second: Any, hint: str) -> Call:
    openvino: Any = import_module("openvino")
    operators: Any = import_module("openvino.opset13")
    left = operators.parameter(first.shape, np.float32)
    model = openvino.Model([operators.matmul(left, operators.constant(second), False, False)], [left])
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": usable_cpus()}
    request = core().compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(first, shared_memory=True))
    return lambda: request.infer()


def copy_bytes(device: str, machine: Machine, *, quick: bool) -> int:
    """How much to copy for the bandwidth of memory alone: on a CPU four times its last cache, as STREAM asks for.

    Twice the cache where that has to do, and never so much that source and target take over a quarter of the memory:
    a server's cache may have 500 MB, and a virtual machine on it little memory.
    """
    if device == "cuda":
        return 1 << 30
    size = max(64 << 20, (2 if quick else 4) * (machine.cache_bytes or 0))
    return min(size, machine.memory_bytes // 8) if machine.memory_bytes else size


def copy_of(size: int, device: str) -> Call:
    """What copies `size` bytes in the memory of `device`, so that twice as many are moved."""
    import torch

    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    return finished(partial(target.copy_, source), device)
