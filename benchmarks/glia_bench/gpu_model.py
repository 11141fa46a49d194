"""A model in each form that PyTorch runs: pictures a second, share of the matrix peak, and parity with fp32.

    python -m glia_bench.gpu_model [--device cuda] [--checkpoint model.pt] [--output FILE]

The inputs are views that lie on the device. The peak is that of a large fp16 matrix product, measured in the same run;
the work is what PyTorch counts for the model (matrix products and convolutions). On the CPU, where tests run it, the
package is compiled in fp32.

Not run on a GPU by us yet.
"""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glia.models import QualityModel, create_model, load_checkpoint
from glia_bench.device import describe, matrix_peak, seconds
from glia_bench.results import write_json
from glia_export.parity import built_in_pictures
from glia_export.pt2_export import package_target, save_pt2
from glia_export.torchscript_export import save_torchscript
from glia_runtime.backends.pt2 import CudaGraph

Form = Callable[..., Tensor]

BATCHES = (1, 8, 64, 256)
FORMS = ("eager fp32", "eager fp16", "torchscript fp16", "pt2 fp16")
_PEAK_SIZE = {"cuda": 8192, "cpu": 512}


def make_form(name: str, model: QualityModel, device: str, folder: Path) -> Form:
    """One of `FORMS` of a float32 model, on `device`; files are written to `folder`."""
    if name.startswith("eager"):
        eager = copy.deepcopy(model).eval().requires_grad_(False)
        eager.fold_normalization()
        if name == "eager fp16":
            eager.halve()
        return eager.to(device)
    if name == "torchscript fp16":
        save_torchscript(model, "views", "fp16", folder / "model.ts")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")  # deprecated
            script: Form = torch.jit.load(str(folder / "model.ts"), map_location=device)
        return script
    target = package_target("cuda", "fp16") if device == "cuda" else package_target("cpu", "fp32")
    save_pt2(model, "views", "fp16" if device == "cuda" else "fp32", target, folder / "model.pt2")
    # Single-threaded, as the runtime loads it: else no CUDA graph can be recorded.
    package: Form = torch._inductor.aoti_load_package(str(folder / "model.pt2"), run_single_threaded=True)
    return package


def _measured(form: Form, views: tuple[Tensor, ...], graph: bool, repeats: int) -> float:
    if graph:
        form(*views)  # loads the kernels, which must not happen while recording
        recorded = CudaGraph(torch, form, list(views))
        return seconds(lambda: recorded(list(views)), "cuda", repeats)
    return seconds(lambda: form(*views), views[0].device.type, repeats)


@torch.inference_mode()
def measure(
    model: QualityModel, device: str, batches: tuple[int, ...], forms: tuple[str, ...], repeats: int
) -> dict[str, Any]:
    """Figures of each form at each batch; `model` is in float32 on the CPU."""
    half = torch.float16 if device == "cuda" else torch.float32
    peak = matrix_peak(device, half, _PEAK_SIZE[device])
    spec = model.view_spec
    seen = [torch.from_numpy(np.stack(view)).to(device) for view in zip(*built_in_pictures(spec).views, strict=True)]
    with FlopCounterMode(display=False) as counter:
        make_form("eager fp32", model, device, Path())(*(view[:1] for view in seen))
    work = counter.get_total_flops()
    reference: Tensor | None = None
    rows: dict[str, Any] = {}
    with TemporaryDirectory(prefix="glia-") as folder:
        for name in forms:
            form = make_form(name, model, device, Path(folder))
            # Eight at a time, as everywhere the scores are compared.
            parts = zip(*(view.split(max(1, 8 // spec.looks)) for view in seen), strict=True)
            scores = torch.cat([form(*part).float() for part in parts])
            reference = scores if reference is None else reference
            row: dict[str, Any] = {"largest_difference": (scores - reference).abs().max().item()}
            for batch in batches:
                views = tuple(
                    torch.randint(0, 256, (batch, *spec.shape), dtype=torch.uint8, device=device) for _ in spec.names
                )
                taken = _measured(form, views, name.startswith("pt2") and device == "cuda", repeats)
                row[f"batch {batch}"] = {
                    "seconds": taken,
                    "pictures_per_second": batch / taken,
                    "share_of_peak": batch / taken * work / peak,
                }
            rows[name] = row
    scale = model.score_scale
    return {
        "machine": describe(device),
        "matrix_peak_flops": peak,
        "flop_per_picture": work,
        "score_range": scale.range,
        "model": model.config.to_dict(),
        "forms": rows,
    }


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    checkpoint: Annotated[Path | None, typer.Option(help="Default: GLIANet on ViT-B/16 with random weights.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each form and batch.")] = 20,
    output: Annotated[Path | None, typer.Option(help="Write all figures and the machine here, as JSON.")] = None,
) -> None:
    """Measure a model in eager PyTorch, TorchScript and as a compiled package."""
    torch.manual_seed(0)
    model = load_checkpoint(checkpoint) if checkpoint else create_model("glianet").eval()
    result = measure(model, device, BATCHES, FORMS, repeats)
    for name, row in result["forms"].items():
        for batch in BATCHES:
            figures = row[f"batch {batch}"]
            print(
                f"{name:<18} batch {batch:>3}: {figures['pictures_per_second']:9.1f} pictures/s, "
                f"{figures['share_of_peak']:.0%} of the matrix peak"
            )
    if output:
        write_json(result, output)


if __name__ == "__main__":
    typer.run(main)
