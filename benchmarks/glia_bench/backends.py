"""How fast each backend scores, beside eager PyTorch and beside what the machine's matrix units can do at most.

    python -m glia_bench.backends [CHECKPOINT] [--images FOLDER] [--batch 4] [--runs 10] [--output FILE]

One run, one machine: the checkpoint (by default a ViT-B/16 GLIANet with random weights) is exported, and every way to
run the artifacts on the CPU is timed in turn, round by round, so that a change of the machine's mood meets all. Views
go in, so nothing is decoded or resized. Its parity row stands beside each. The matrix peak is the largest rate of a
bf16 and of an fp32 product in PyTorch and in OpenVINO; the model's floating-point operations are counted by PyTorch.
"""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import openvino
import torch
import typer
from openvino import opset13
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from glia.models import QualityModel, create_model, load_checkpoint, save_checkpoint
from glia_bench.machine import this_machine
from glia_bench.measure import timed, timed_in_turn
from glia_bench.results import write_json
from glia_export import export_checkpoint
from glia_export.targets import TARGETS
from glia_runtime.backends import choices
from glia_runtime.backends.base import usable_cpus
from glia_runtime.backends.openvino import core
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import Precision, Target, read_manifest

DEFAULT_BACKBONE = "vit_base_patch16_224"
# (rows, inner, columns): a cube, and the product that a ViT-B/16 layer makes of 8 pictures.
SHAPES = ((2048, 2048, 2048), (1576, 768, 768))
PRODUCTS = 10

Job = Callable[[], object]


def matrix_peaks(threads: int) -> dict[str, dict[str, float]]:
    """{precision: {"library rows x inner x columns": GFLOP/s}}, the best of `PRODUCTS` products each."""
    peaks: dict[str, dict[str, float]] = {}
    for precision, dtype, hint in (("fp32", torch.float32, "f32"), ("bf16", torch.bfloat16, "bf16")):
        rates = peaks[precision] = {}
        for rows, inner, columns in SHAPES:
            left, right = torch.randn(rows, inner), torch.randn(inner, columns)
            jobs = {
                "torch": _torch_product(left.to(dtype), right.to(dtype)),
                "openvino": _openvino_product(left, right, hint, threads),
            }
            for library, job in jobs.items():
                best = min(timed(job, warm_up=1, repeats=PRODUCTS))
                rates[f"{library} {rows}x{inner}x{columns}"] = 2e-9 * rows * inner * columns / best
    return peaks


def _torch_product(left: torch.Tensor, right: torch.Tensor) -> Job:
    return lambda: left @ right


def _openvino_product(left: torch.Tensor, right: torch.Tensor, hint: str, threads: int) -> Job:
    data = opset13.parameter(list(left.shape), np.float32)
    product = opset13.matmul(data, opset13.constant(right.numpy()), False, False)
    # One number comes out: copying the whole product would be timed as well.
    model = openvino.Model([opset13.reduce_max(product, np.array([0, 1]))], [data])
    properties = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    request = core().compile_model(model, "CPU", properties).create_infer_request()
    return lambda: request.infer([left.numpy()], share_inputs=True)


def flops_of(model: QualityModel) -> int:
    """Floating-point operations for one picture, a multiplication and an addition counted as two."""
    views = [torch.zeros(1, *model.view_spec.shape, dtype=torch.uint8) for _ in model.view_spec.names]
    # The counter knows matrix products, not every fused attention.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*views)
    return int(counter.get_total_flops())


def eager(model: QualityModel, inputs: Inputs) -> Job:
    """The model in PyTorch, fp32."""
    views = [torch.from_numpy(inputs[name]) for name in model.view_spec.names]

    def run() -> None:
        with torch.inference_mode():
            model(*views)

    return run


def ways(checkpoint: Path, folder: Path, images: Path | None, inputs: Inputs) -> dict[str, tuple[Job, dict[str, Any]]]:
    """Of every way that can run here on the CPU what to time, and its parity row."""
    found: dict[str, tuple[Job, dict[str, Any]]] = {}
    for target in _targets():
        artifact = folder / f"model.{target}"
        export_checkpoint(checkpoint, target, artifact, input="views", images=images)
        manifest = read_manifest(artifact)
        for choice in choices(artifact, manifest, device="cpu"):
            row = choice.row(manifest)
            if row is None:
                continue
            backend = choice.load(artifact, manifest)
            kept = ("precision", "images", "max_abs", "mean_abs", "srcc", "plcc", "passed")
            found[choice.info.title] = (
                lambda backend=backend: backend.run(inputs),  # type: ignore[misc]
                {"range": manifest.score_scale.range, **{name: getattr(row, name) for name in kept}},
            )
    return found


def _targets() -> list[Target]:
    return [info.name for info in TARGETS if not info.is_engine and info.unavailable is None]


def measure(checkpoint: Path, images: Path | None, batch: int, runs: int) -> dict[str, Any]:
    """Everything that `main` prints."""
    threads = usable_cpus()
    torch.set_num_threads(threads)
    model = load_checkpoint(checkpoint)
    flops = flops_of(model)
    rng, shape = np.random.default_rng(0), (batch, *model.view_spec.shape)
    inputs: Inputs = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name in model.view_spec.names}
    peaks = matrix_peaks(threads)
    with tempfile.TemporaryDirectory() as folder:
        timed_ways: dict[str, tuple[Job, dict[str, Any]]] = {"eager PyTorch": (eager(model, inputs), {})}
        timed_ways |= ways(checkpoint, Path(folder), images, inputs)
        jobs = {name: job for name, (job, _) in timed_ways.items()}
        seconds = timed_in_turn(jobs, warm_up=1, repeats=runs)
    results = {}
    for name, (_, parity) in timed_ways.items():
        rate = batch / statistics.median(seconds[name])
        precision: Precision = parity.get("precision", "fp32")
        peak = max(peaks["bf16" if precision == "bf16" else "fp32"].values())
        results[name] = {
            "pictures_per_second": rate,
            "times_eager": rate / (batch / statistics.median(seconds["eager PyTorch"])),
            "gflops": rate * flops * 1e-9,
            "part_of_peak": rate * flops * 1e-9 / peak,
            "seconds": seconds[name],
            "parity": parity,
        }
    return {
        "machine": asdict(this_machine()) | {"threads": threads},
        "model": {"architecture": model.architecture, **model.config.to_dict(), "flops_per_picture": flops},
        "batch": batch,
        "matrix_peaks_gflops": peaks,
        "backends": results,
    }


def main(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Made by glia-train. Default: random weights.", show_default=False)
    ] = None,
    backbone: Annotated[str, typer.Option(help="Of the random weights: a timm ViT.")] = DEFAULT_BACKBONE,
    images: Annotated[
        Path | None, typer.Option(help="Photographs for the parity rows. Default: glia-export's own pictures.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures in one run of the graph.")] = 4,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each backend.")] = 10,
    output: Annotated[Path | None, typer.Option(help="Write every sample and the machine here, as JSON.")] = None,
) -> None:
    """Measure every backend on the CPU against eager PyTorch and the matrix peak."""
    with tempfile.TemporaryDirectory() as folder:
        if checkpoint is None:
            torch.manual_seed(0)
            checkpoint = Path(folder, "random.safetensors")
            save_checkpoint(create_model("glianet", backbone=backbone), checkpoint)
        result = measure(checkpoint, images, batch, runs)
    print(f"{'backend':<16} {'pictures/s':>10} {'x eager':>8} {'GFLOP/s':>8} {'of peak':>8}  parity")
    for name, row in result["backends"].items():
        parity = row["parity"]
        proof = "the reference"
        if parity:
            mean, largest = (parity[name] / parity["range"] for name in ("mean_abs", "max_abs"))
            proof = f"mean {mean:.1e}, largest {largest:.1e} of the range, SRCC {parity['srcc']:.5f}"
            proof += "" if parity["passed"] else " (missed)"
        print(
            f"{name:<16} {row['pictures_per_second']:10.2f} {row['times_eager']:8.2f} {row['gflops']:8.0f} "
            f"{row['part_of_peak']:8.0%}  {proof}"
        )
    for precision, rates in result["matrix_peaks_gflops"].items():
        print(f"{precision} peak: {max(rates.values()):.0f} GFLOP/s ({max(rates, key=lambda name: rates[name])})")
    print(f"{result['machine']['threads']} threads, {result['machine']['cpu']}")
    if output:
        write_json(result, output)


if __name__ == "__main__":
    typer.run(main)
