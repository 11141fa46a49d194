"""Both views of a batch of raw pictures: one launch, against the same steps in eager PyTorch and against its floors.

    python -m glia_bench.gpu_operator [--device cuda] [--batch 64] [--output FILE]

Two floors: the bytes that must be read and written over the bandwidth of a copy, both measured in the same run, and
the time that any launch takes. The resize looks at every pixel of a picture, so for the views together that is the
picture; the fragments alone touch 224 x 224 x 3 bytes of it.

Not run on a GPU by us yet.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn.functional import interpolate

from glia.ops import pack_ragged, ragged_views
from glia_bench.device import copy_bandwidth, describe, launch_latency, seconds
from glia_bench.results import write_json
from glia_runtime.fragments import FragmentSpec

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, in grey levels
SIZES = {"1 MP": (864, 1152), "12 MP": (3000, 4000)}
_SPEC = FragmentSpec()


def eager_views(images: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`glia.ops.ragged_views` as one would write it: picture by picture, in PyTorch's own operators."""
    device = images[0].device
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    position = torch.arange(_SPEC.size, device=device)
    cell, within = position // _SPEC.fragment, position % _SPEC.fragment
    semantic, detail = [], []
    for image in images:
        planes = image.permute(2, 0, 1)
        side = (_SPEC.size, _SPEC.size)
        resized = interpolate(planes[None].float(), side, mode="bicubic", antialias=True, align_corners=False)[0]
        rows, columns = (
            torch.clamp(cell * (length // _SPEC.grid), max=length - _SPEC.fragment) + within
            for length in image.shape[:2]
        )
        mosaic = planes[:, rows[:, None], columns[None, :]].float()
        semantic.append(((resized.round().clamp(0, 255) - mean) / std).to(dtype))
        detail.append(((mosaic - mean) / std).to(dtype))
    return torch.stack(semantic), torch.stack(detail)


def measure(device: str, batch: int, sizes: dict[str, tuple[int, int]], repeats: int) -> dict[str, Any]:
    """Seconds of each form for `batch` pictures of each size (height, width), the floors, and the ratios."""
    dtype = torch.float16
    latency = launch_latency(device)
    rows = {}
    for name, (height, width) in sizes.items():
        images = [torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, device=device) for _ in range(batch)]
        packed = pack_ragged(images)
        fused = ragged_views(*packed, mean=MEAN, std=STD, dtype=dtype)
        eager = eager_views(images, dtype)
        # PyTorch neither rounds nor clamps between the passes; on noise, which overshoots everywhere, that makes some
        # 10 grey levels here and there, 0.2 once normalised. The fragments differ by float16's rounding.
        difference = {
            view: (ours.float() - theirs.float()).abs().max().item()
            for view, ours, theirs in zip(("semantic", "detail"), fused, eager, strict=True)
        }
        moved = packed[0].numel() + sum(view.numel() * view.element_size() for view in fused)
        bandwidth = copy_bandwidth(device, min(moved, 1 << 30))
        floor = max(moved / bandwidth, latency)
        one = seconds(lambda packed=packed: ragged_views(*packed, mean=MEAN, std=STD, dtype=dtype), device, repeats)  # type: ignore[misc]
        many = seconds(lambda images=images: eager_views(images, dtype), device, repeats)  # type: ignore[misc]
        rows[name] = {
            "pictures": batch,
            "size": [height, width],
            "bytes": moved,
            "copy_bandwidth": bandwidth,
            "floor_seconds": floor,
            "seconds": one,
            "eager_seconds": many,
            "times_faster_than_eager": many / one,
            "share_of_floor": floor / one,
            "largest_difference": difference,
        }
    return {"machine": describe(device), "launch_latency_seconds": latency, "operator": rows}


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    batch: Annotated[int, typer.Option(min=1, help="Pictures in one launch.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each form.")] = 20,
    output: Annotated[Path | None, typer.Option(help="Write all figures and the machine here, as JSON.")] = None,
) -> None:
    """Measure `glia.ops.ragged_views` for pictures of 1 and 12 megapixels."""
    result = measure(device, batch, SIZES, repeats)
    for name, row in result["operator"].items():
        print(
            f"{batch} x {name}: {row['seconds'] * 1e3:.3f} ms, {row['share_of_floor']:.0%} of the floor's speed, "
            f"{row['times_faster_than_eager']:.1f} times as fast as eager PyTorch"
        )
    if output:
        write_json(result, output)


if __name__ == "__main__":
    typer.run(main)
