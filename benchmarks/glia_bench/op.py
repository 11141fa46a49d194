"""``glia-bench op``: every form of fragment sampling, and of the two views, against its floor.

The floor is what the bytes alone cost: reading what the form has to read and writing what it makes, by a copy of as
many bytes: NumPy's own on one core; on a GPU the device's, or the launch of a kernel where that takes longer. A gather
cannot be faster than a copy of what it gathers. The resize looks at every pixel of a picture, so for the views that is
the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.nn.functional import interpolate

import glia.ops
from glia.ops.resize import bicubic_resize
from glia_bench.measure import timed, timed_in_turn
from glia_bench.nvidia import finished, torch_device
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import MACHINE, copy_of
from glia_export.fragment_sample_onnx import FUNCTION_DOMAIN, FUNCTION_NAME, fragment_sample_function
from glia_export.graphs import gather_fragments
from glia_runtime.backends import is_installed
from glia_runtime.backends.base import usable_cpus
from glia_runtime.backends.openvino import core
from glia_runtime.fragments import FragmentSpec, Image, fragment_sample
from glia_runtime.views import sample_views

SIZES = {"cpu": ((480, 640), (1080, 1920), (3000, 4000)), "cuda": ((864, 1152), (3000, 4000))}
"""(height, width): a thumbnail, a screen, 12 megapixels; on a GPU 1 and 12 megapixels. --quick leaves out the last."""

PICTURES = {"cpu": 1, "cuda": 64}
"""In one call; the forms that are not for batches run on the CPU only."""

Form = Callable[[], object]
_SPEC = FragmentSpec()
_KERNEL = {"cpu": "PyTorch", "cuda": "Triton"}
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, in grey levels


def measure_operator(recorder: Recorder, device: str, *, quick: bool, step: Callable[[str], None]) -> None:
    """Add every form's time on pictures of each size, with its floor, the forms in turn.

    Raises:
        BackendError: there is no such device.
    """
    device = torch_device(device)
    pictures, on_gpu = PICTURES[device], device == "cuda"
    launch = 0.0
    if on_gpu:
        one = torch.zeros(1, device=device)
        samples = timed(finished(lambda: one.add_(1), device), warm_up=20, repeats=200)
        launch = recorder.add(Measurement(MACHINE, "launch of a kernel", "s", "lower", samples)).median
    else:
        torch.set_num_threads(usable_cpus())
        recorder.note("the Triton kernels and the TensorRT plugin run on GPUs alone: not measured")
    # On a GPU every form writes float16; on the CPU the floor is that of the forms that write bytes.
    dtype, written = (torch.float16, 2) if on_gpu else (torch.float32, 1)
    mosaic = _SPEC.size * _SPEC.size * 3
    for height, width in SIZES[device][: -1 if quick else None]:
        size = f"{width}x{height}"
        step(size)
        image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
        images = [image.to(device, copy=True) for _ in range(pictures)]
        # A mosaic is read and written once; both views ask for every pixel once, and write two mosaics.
        for make_forms, moved in (
            (fragment_forms, mosaic * (1 + written)),
            (view_forms, image.numel() + 2 * mosaic * written),
        ):
            floor_bytes = pictures * moved
            facts = {"size": size, "pictures": pictures, "device": device, "floor_bytes": floor_bytes}
            # As a limit of a time, the floor shows as the part of the time that it makes up.
            facts["limit"] = max(_floor(floor_bytes, device), launch)
            timings = timed_in_turn(make_forms(images, dtype), warm_up=2, repeats=5 if quick else 50)
            for name, samples in timings.items():
                metric = f"{pictures} of {size}" if on_gpu else size
                recorder.add(Measurement(name, metric, "s", "lower", samples, facts))


def _floor(size: int, device: str) -> float:
    """Seconds of a copy that moves `size` bytes in all, half of them read, half written."""
    if device == "cuda":
        return median(timed(copy_of(size // 2, device), warm_up=5, repeats=50))
    source = np.ones(size // 2, dtype=np.uint8)
    target = np.zeros_like(source)
    return median(timed(lambda: np.copyto(target, source), warm_up=5, repeats=50))


def fragment_forms(images: Sequence[Tensor], dtype: torch.dtype) -> dict[str, Form]:
    """Every form that samples fragments of pictures, uint8 [H, W, 3], where they lie; on the CPU there is but one."""
    device = images[0].device.type
    packed = glia.ops.pack_ragged(images)
    forms: dict[str, Form] = {
        f"fragments: ragged, normalised ({_KERNEL[device]})": finished(
            lambda: glia.ops.fragment_sample_ragged(*packed, mean=_MEAN, std=_STD, dtype=dtype), device
        )
    }
    if device == "cuda":
        return forms
    first, sizes = images[0][None], torch.tensor([images[0].shape[:2]])
    image = images[0].numpy()
    return {
        "fragments: NumPy reference": lambda: fragment_sample(image),
        "fragments: torch.ops.glia.fragment_sample": lambda: torch.ops.glia.fragment_sample(first, sizes),
        "fragments: standard operators (TorchScript)": lambda: gather_fragments(first, sizes, _SPEC),
        "fragments: ONNX function (ONNX Runtime, float)": _onnx_runtime_form(image),
        **({"fragments: in the graph (OpenVINO, float)": _openvino_form(image)} if is_installed("openvino") else {}),
        **forms,
    }


def view_forms(images: Sequence[Tensor], dtype: torch.dtype) -> dict[str, Form]:
    """Every form that makes both views of pictures, uint8 [H, W, 3], where they lie; on the CPU there is but one."""
    device = images[0].device.type
    packed = glia.ops.pack_ragged(images)
    padded = torch.stack(list(images)), torch.tensor([image.shape[:2] for image in images], device=device)
    forms: dict[str, Form] = {
        f"views: ragged, normalised ({_KERNEL[device]})": finished(
            lambda: glia.ops.ragged_views(*packed, mean=_MEAN, std=_STD, dtype=dtype), device
        ),
        f"views: padded, normalised ({_KERNEL[device]})": finished(
            lambda: glia.ops.padded_views(*padded, mean=_MEAN, std=_STD, dtype=dtype), device
        ),
        "views: normalised, in PyTorch's own operators": finished(lambda: eager_views(images, dtype), device),
    }
    if device == "cuda":
        return forms
    first, sizes = images[0][None], torch.tensor([images[0].shape[:2]])
    image = images[0].numpy()
    return {
        "views: Pillow and NumPy (runtime)": lambda: sample_views(image),
        "views: in the graph (PyTorch)": lambda: (
            bicubic_resize(first, sizes, _SPEC.size),
            gather_fragments(first, sizes, _SPEC),
        ),
        **forms,
    }


def eager_views(images: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`glia.ops.ragged_views` as one would write it: picture by picture, in PyTorch's own operators."""
    device = images[0].device
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (_MEAN, _STD))
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


def _onnx_function() -> onnx.ModelProto:
    """The model-local function alone."""
    opset, side = 20, _SPEC.size
    graph = helper.make_graph(
        [helper.make_node(FUNCTION_NAME, ["images", "sizes"], ["mosaic"], domain=FUNCTION_DOMAIN)],
        "fragments",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", "H", "W", 3]),
            helper.make_tensor_value_info("sizes", TensorProto.INT64, ["B", 2]),
        ],
        [helper.make_tensor_value_info("mosaic", TensorProto.FLOAT, ["B", side, side, 3])],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(FUNCTION_DOMAIN, 1)]
    function = fragment_sample_function(opset)
    model = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _feed(image: Image) -> dict[str, Any]:
    return {"images": image[None], "sizes": np.array([image.shape[:2]], dtype=np.int64)}


def _onnx_runtime_form(image: Image) -> Form:
    onnxruntime: Any = import_module("onnxruntime")  # it ships no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    session = onnxruntime.InferenceSession(
        _onnx_function().SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    feed = _feed(image)
    return lambda: session.run(None, feed)


def _openvino_form(image: Image) -> Form:
    model = core().read_model(_onnx_function().SerializeToString())  # the runtime's core knows the function's node
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cpus()}
    request = core().compile_model(model, "CPU", options).create_infer_request()
    feed = _feed(image)
    return lambda: list(request.infer(feed, share_inputs=True).values())
