"""``glia-bench op``: every form of fragment sampling, and of the two views, against its floor.

The floor is what the bytes alone cost: reading what the form has to read and writing what it makes, by NumPy's own copy
of as many bytes on one core. A gather cannot be faster than a copy of what it gathers.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from glia_bench.measure import timed, timed_in_turn
from glia_bench.recording import Recorder
from glia_bench.results import Measurement
from glia_runtime.backends.base import usable_cpus
from glia_runtime.fragments import FragmentSpec, Image, fragment_sample
from glia_runtime.views import sample_views

SIZES = ((480, 640), (1080, 1920), (3000, 4000))
"""(height, width): a thumbnail, a screen, 12 megapixels."""

Form = Callable[[], object]
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, in grey levels


def measure_operator(recorder: Recorder, *, quick: bool, step: Callable[[str], None]) -> None:
    """Add every form's time on a picture of each size, with its floor, the forms in turn."""
    spec = FragmentSpec()
    mosaic = spec.size * spec.size * 3
    for height, width in SIZES[:2] if quick else SIZES:
        step(f"{width}x{height}")
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        fragments, views = _fragment_forms(image), _view_forms(image)
        # A mosaic is read and written once; both views ask for every pixel once, and write two mosaics' bytes.
        for forms, floor_bytes in ((fragments, 2 * mosaic), (views, image.nbytes + 2 * mosaic)):
            _measure(recorder, forms, floor_bytes, f"{width}x{height}", quick)
    if not _has_gpu():
        recorder.note("no GPU here: the Triton kernel and the TensorRT plugin are not measured")


def _measure(recorder: Recorder, forms: dict[str, Form], floor_bytes: int, size: str, quick: bool) -> None:
    floor = float(np.median(timed(_copy(floor_bytes), warm_up=5, repeats=50)))
    for name, samples in timed_in_turn(forms, warm_up=2, repeats=5 if quick else 50).items():
        # As a limit of a time, the floor shows as the part of the time that it makes up.
        facts = {"size": size, "floor_bytes": floor_bytes, "limit": floor}
        recorder.add(Measurement(name, size, "s", "lower", samples, facts))


def _copy(size: int) -> Form:
    """A copy that moves `size` bytes in all, half of them read, half written."""
    source = np.ones(size // 2, dtype=np.uint8)
    target = np.zeros_like(source)
    return lambda: np.copyto(target, source)


def _fragment_forms(image: Image) -> dict[str, Form]:
    import torch

    import glia.ops
    from glia_export.graphs import gather_fragments

    torch.set_num_threads(usable_cpus())
    images = torch.from_numpy(image)[None]
    sizes = torch.tensor([image.shape[:2]])
    pixels, starts, ragged_sizes = glia.ops.pack_ragged([images[0]])
    spec = FragmentSpec()
    forms: dict[str, Form] = {
        "fragments: NumPy reference": lambda: fragment_sample(image),
        "fragments: torch.ops.glia.fragment_sample": lambda: torch.ops.glia.fragment_sample(images, sizes),
        "fragments: standard operators (TorchScript)": lambda: gather_fragments(images, sizes, spec),
        "fragments: ONNX function (ONNX Runtime, float)": _onnx_form(image),
        "fragments: ragged, normalised (PyTorch)": lambda: glia.ops.fragment_sample_ragged(
            pixels, starts, ragged_sizes, mean=_MEAN, std=_STD, dtype=torch.float32
        ),
    }
    if _has_gpu():
        on_gpu = [tensor.cuda() for tensor in (pixels, starts, ragged_sizes)]
        forms["fragments: ragged, normalised fp16 (Triton)"] = lambda: _synchronized(
            glia.ops.fragment_sample_ragged(*on_gpu, mean=_MEAN, std=_STD, dtype=torch.float16)
        )
    return forms


def _view_forms(image: Image) -> dict[str, Form]:
    import torch

    from glia.ops.resize import bicubic_resize
    from glia_export.graphs import gather_fragments

    images, sizes, spec = torch.from_numpy(image)[None], torch.tensor([image.shape[:2]]), FragmentSpec()
    return {
        "views: Pillow and NumPy (runtime)": lambda: sample_views(image),
        "views: in the graph (PyTorch)": lambda: (
            bicubic_resize(images, sizes, spec.size),
            gather_fragments(images, sizes, spec),
        ),
    }


def _onnx_form(image: Image) -> Form:
    """The model-local function alone, in ONNX Runtime."""
    import onnx
    from onnx import TensorProto, helper

    from glia_export.fragment_sample_onnx import FUNCTION_DOMAIN, FUNCTION_NAME, fragment_sample_function

    opset, side = 20, FragmentSpec().size
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
    onnxruntime: Any = import_module("onnxruntime")  # it ships no types
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    onnx.checker.check_model(model)
    feed = {"images": image[None], "sizes": np.array([image.shape[:2]], dtype=np.int64)}
    return lambda: session.run(None, feed)


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _synchronized(result: object) -> object:
    import torch

    torch.cuda.synchronize()
    return result
