"""``glia-bench op``: the forms of fragment sampling, and of the two views, each against its own floor.

The floor is what the bytes alone cost: reading what the form has to read and writing what it makes, in the type that it
makes, by a copy of as many bytes, the faster of PyTorch's on all cores and NumPy's on one, in a hot cache where they
fit; on a GPU PyTorch's, or the launch of a kernel where that takes longer. A gather cannot be faster than a copy of
what it gathers. The resize looks at every pixel of a picture, so for the views that is the picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn.functional import interpolate

import glia.ops
from glia_bench.measure import timed, timed_in_turn
from glia_bench.nvidia import finished, torch_device
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_bench.roofline import MACHINE, copy_of
from glia_export.fragment_sample_onnx import FUNCTION_DOMAIN, FUNCTION_NAME, fragment_sample_function
from glia_export.graphs import dynamic_shapes, example_inputs, gather_fragments, sample_in_graph
from glia_export.onnx_export import OPSET
from glia_runtime.backends import is_installed
from glia_runtime.backends.base import usable_cpus
from glia_runtime.backends.openvino import core
from glia_runtime.fragments import FragmentSpec, Image, fragment_sample
from glia_runtime.manifest import input_names
from glia_runtime.view_spec import FragmentViews
from glia_runtime.views import sample_views

SIZES = {"cpu": ((480, 640), (1080, 1920), (3000, 4000)), "cuda": ((864, 1152), (3000, 4000))}
"""(height, width): a thumbnail, a screen, 12 megapixels; on a GPU 1 and 12 megapixels. --quick leaves out the last."""

PICTURES = {"cpu": 1, "cuda": 64}
"""In one call; the forms that are not for batches, and those of other libraries, run on the CPU only."""

Form = Callable[[], object]
_SPEC = FragmentSpec()
_VIEWS = FragmentViews()
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
    alone = "the views in the graph" if on_gpu else "the Triton kernels, which run on a GPU alone"
    recorder.note(f"not measured: the TensorRT plugin (by this command never), and here {alone}")
    dtype = torch.float16 if on_gpu else torch.float32
    mosaic = _SPEC.size * _SPEC.size * 3
    for height, width in SIZES[device][: -1 if quick else None]:
        size = f"{width}x{height}"
        step(size)
        image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
        images = [image.to(device, copy=True) for _ in range(pictures)]
        metric = f"{pictures} of {size}" if on_gpu else size
        facts = {"size": size, "pictures": pictures, "device": device}
        # Each pixel of a mosaic is read once; both views ask for every pixel of the picture once.
        for make_forms, read in ((fragment_forms, mosaic), (view_forms, image.numel())):
            _measure_forms(recorder, make_forms(images, dtype), metric, facts, pictures * read, launch, quick=quick)


def _measure_forms(
    recorder: Recorder,
    forms: dict[str, Form],
    metric: str,
    facts: dict[str, Any],
    read: int,
    launch: float,
    *,
    quick: bool,
) -> None:
    """Add the time of each form, which reads `read` bytes, with its floor."""
    moved = {name: read + bytes_of(form()) for name, form in forms.items()}
    floors = {size: max(_floor(size, facts["device"]), launch) for size in set(moved.values())}
    for name, samples in timed_in_turn(forms, warm_up=2, repeats=5 if quick else 50).items():
        # As a limit of a time, the floor shows as the part of the time that it makes up.
        own = {"floor_bytes": moved[name], "limit": floors[moved[name]]}
        recorder.add(Measurement(name, metric, "s", "lower", samples, {**facts, **own}))


def bytes_of(made: Any) -> int:
    """Of what a form returns, one array or several: how many bytes it wrote."""
    return sum(int(array.nbytes) for array in (made if isinstance(made, (tuple, list)) else (made,)))


def _floor(size: int, device: str) -> float:
    """Seconds of a copy that moves `size` bytes in all, half of them read, half written."""
    copies = [copy_of(size // 2, device)]
    if device == "cpu":  # one core is the faster one where a mosaic is soon copied
        source = np.ones(size // 2, dtype=np.uint8)
        copies.append(partial(np.copyto, np.zeros_like(source), source))
    return min(median(timed(copy, warm_up=5, repeats=50)) for copy in copies)


def fragment_forms(images: Sequence[Tensor], dtype: torch.dtype) -> dict[str, Form]:
    """The forms that sample fragments of pictures of one size, uint8 [H, W, 3], where they lie.

    The ragged one makes `dtype`. On the CPU NumPy and the engines are among them, which take the first picture alone.
    """
    device = images[0].device.type
    packed, padded = glia.ops.pack_ragged(images), _padded(images)
    forms: dict[str, Form] = {
        "fragments: torch.ops.glia.fragment_sample": finished(lambda: torch.ops.glia.fragment_sample(*padded), device),
        "fragments: standard operators (TorchScript)": finished(lambda: gather_fragments(*padded, _SPEC), device),
        f"fragments: ragged, normalised ({_KERNEL[device]})": finished(
            lambda: glia.ops.fragment_sample_ragged(*packed, mean=_MEAN, std=_STD, dtype=dtype), device
        ),
    }
    if device == "cuda":
        return forms
    image = images[0].numpy()
    return {
        "fragments: NumPy reference": lambda: fragment_sample(image),
        "fragments: ONNX function (ONNX Runtime, float)": _onnx_runtime_form(_onnx_function(), image),
        **_openvino_forms("fragments: in the graph (OpenVINO, float)", _onnx_function(), image),
        **forms,
    }


def view_forms(images: Sequence[Tensor], dtype: torch.dtype) -> dict[str, Form]:
    """The forms that make both views of pictures of one size, uint8 [H, W, 3], where they lie; as `fragment_forms`."""
    device = images[0].device.type
    packed, padded = glia.ops.pack_ragged(images), _padded(images)
    forms: dict[str, Form] = {
        f"views: ragged, normalised ({_KERNEL[device]})": finished(
            lambda: glia.ops.ragged_views(*packed, mean=_MEAN, std=_STD, dtype=dtype), device
        ),
        f"views: padded, normalised ({_KERNEL[device]})": finished(
            lambda: glia.ops.padded_views(*padded, mean=_MEAN, std=_STD, dtype=dtype), device
        ),
        "views: normalised, in PyTorch's own operators": finished(lambda: eager_views(images, dtype), device),
    }
    if device == "cuda":  # 64 pictures of 12 megapixels in float32, in the graph, would want tens of gigabytes
        return forms
    image = images[0].numpy()
    return {
        "views: Pillow and NumPy (runtime)": lambda: sample_views(image),
        "views: in the graph (PyTorch)": lambda: sample_in_graph(*padded, _VIEWS, as_node=False),
        "views: in the graph (ONNX Runtime, float)": _onnx_runtime_form(_onnx_views(), image),
        **_openvino_forms("views: in the graph (OpenVINO, float)", _onnx_views(), image),
        **forms,
    }


def _padded(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pictures of one size as a batch, uint8 [B, H, W, 3], and their sizes, int64 [B, 2]."""
    return torch.stack(list(images)), torch.tensor([image.shape[:2] for image in images], device=images[0].device)


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
    side = _SPEC.size
    graph = helper.make_graph(
        [helper.make_node(FUNCTION_NAME, ["images", "sizes"], ["mosaic"], domain=FUNCTION_DOMAIN)],
        "fragments",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", "H", "W", 3]),
            helper.make_tensor_value_info("sizes", TensorProto.INT64, ["B", 2]),
        ],
        [helper.make_tensor_value_info("mosaic", TensorProto.FLOAT, ["B", side, side, 3])],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUNCTION_DOMAIN, 1)]
    function = fragment_sample_function(OPSET)
    model = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=10)
    onnx.checker.check_model(model)
    return model


class _ViewsInGraph(nn.Module):
    """What comes before the model in an "image" graph."""

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        return sample_in_graph(images, sizes, _VIEWS, as_node=True)


@cache  # ten seconds
def _onnx_views() -> onnx.ModelProto:
    """Both views as an "image" artifact makes them, exported like one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used", category=UserWarning)
        program = torch.onnx.export(
            _ViewsInGraph().eval(),
            example_inputs("image", _VIEWS),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(input_names("image", _VIEWS)),
            output_names=list(_VIEWS.names),
            dynamic_shapes=dynamic_shapes("image", _VIEWS),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.functions.append(fragment_sample_function(OPSET))
    onnx.checker.check_model(model, full_check=True)
    return model


def _feed(image: Image) -> dict[str, Any]:
    return {"images": image[None], "sizes": np.array([image.shape[:2]], dtype=np.int64)}


def _onnx_runtime_form(model: onnx.ModelProto, image: Image) -> Form:
    onnxruntime: Any = import_module("onnxruntime")  # it ships no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    # Its threads would go on spinning for work while the form after it is timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    feed = _feed(image)
    return lambda: session.run(None, feed)


def _openvino_forms(name: str, model: onnx.ModelProto, image: Image) -> dict[str, Form]:
    """The form by its name, where OpenVINO is installed."""
    if not is_installed("openvino"):
        return {}
    read = core().read_model(model.SerializeToString())  # the runtime's core knows the function's node
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cpus()}
    request = core().compile_model(read, "CPU", options).create_infer_request()
    feed = _feed(image)
    return {name: lambda: list(request.infer(feed, share_inputs=True).values())}
