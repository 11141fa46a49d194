"""OpenVINO on the CPU: in float32, or in bfloat16 where the CPU has it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from glia_runtime.backends.base import Backend
from glia_runtime.fragments import FragmentSpec
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import Precision

# OpenVINO keeps what it compiled for each shape it has seen (for 120 pictures of random sizes up to 900 pixels 210 MB,
# on this grid 24 MB, and no slower).
_GRID = 256


class OpenVinoBackend(Backend):
    """An ``.onnx`` file in an `openvino.CompiledModel`.

    In bf16 the resize inside an "image" graph rounds as well: its pixels are off by 2 grey levels at most (seen on
    pictures of up to 30,000 pixels a side), which the parity row covers.
    """

    name = "openvino"

    @classmethod
    def obstacle(cls, device: str, precision: Precision) -> str | None:
        # Where the CPU has no bfloat16 the hint is ignored, and float32 would pass for it.
        if precision == "bf16" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "this CPU computes no bfloat16; choose --backend openvino"
        return None

    def _load(self) -> None:
        properties = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, all threads on it
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            # Whoever decodes meanwhile shares the cores: a pinned thread could not move to a free one.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = core().read_model(str(self.artifact))
            self._check_signature((item.any_name for item in model.inputs), (item.any_name for item in model.outputs))
            self._request: Any = core().compile_model(model, "CPU", properties).create_infer_request()
        except (RuntimeError, TypeError) as error:
            raise self._refuse(error) from error

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        return self._output("score", inputs)

    def _run_maps(self, inputs: Inputs) -> npt.NDArray[Any]:
        return self._output("map", inputs)

    def _output(self, output: str, inputs: Inputs) -> npt.NDArray[Any]:
        if self.manifest.input == "image":
            inputs = {**inputs, "images": _pad_to_grid(inputs["images"])}
        return self._request.infer(inputs, share_inputs=True)[output]  # type: ignore[no-any-return]


def _pad_to_grid(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pad images [B, H, W, 3] at the bottom and right, which the graph ignores, to multiples of `_GRID`."""
    down, across = (-side % _GRID for side in images.shape[1:3])
    return np.pad(images, ((0, 0), (0, down), (0, across), (0, 0)))


@cache
def core() -> Any:
    """The process's one `openvino.Core`, which knows the fragment operator.

    Never a second one: the CPU plugin in each takes over the thread's alternate signal stack, and puts back what it
    found when it goes. Where two went in the order they came, that was the stack which the first had freed; the next
    signal with a handler (torch's DataLoader has one for its processes' ends) then killed Python without a word.
    Seen with OpenVINO 2026.4.
    """
    core = import_module("openvino").Core()  # by name, because openvino may be missing where types are checked
    extension = import_module("openvino.frontend.onnx").ConversionExtension
    core.add_extension(extension("FragmentSample", "glia", fragment_sample_node))
    return core


def fragment_sample_node(node: Any) -> list[Any]:
    """The node ``glia::FragmentSample`` in OpenVINO's operators, since it reads no functions inside an ONNX file.

    The same gather as `glia_runtime.fragments.fragment_sample`: images uint8 [B, H, W, 3] and sizes int64 [B, 2] to the
    mosaic, float32 [B, S, S, 3].
    """
    ops: Any = import_module("openvino.opset13")

    def whole(value: npt.ArrayLike) -> Any:
        return ops.constant(np.asarray(value, np.int64))

    images, sizes = node.get_input(0), node.get_input(1)
    usual = FragmentSpec()
    grid, fragment = node.get_attribute("grid", usual.grid), node.get_attribute("fragment", usual.fragment)
    cell, within = np.divmod(np.arange(grid * fragment), fragment)
    step = ops.unsqueeze(ops.divide(sizes, whole(grid)), whole(2))
    limit = ops.unsqueeze(ops.subtract(sizes, whole(fragment)), whole(2))
    source = ops.add(ops.minimum(ops.multiply(step, whole(cell)), limit), whole(within))  # [B, 2, S]
    row, column = (ops.gather(source, whole(axis), whole(1)) for axis in (0, 1))
    batch, height, width = (ops.gather(ops.shape_of(images), whole(axis), whole(0)) for axis in (0, 1, 2))
    first_row = ops.unsqueeze(ops.multiply(ops.range(whole(0), batch, whole(1), "i64"), height), whole(1))
    first_pixel = ops.unsqueeze(ops.multiply(ops.add(first_row, row), width), whole(2))
    address = ops.add(first_pixel, ops.unsqueeze(column, whole(1)))  # [B, S, S]
    pixels = ops.reshape(images, whole([-1, 3]), False)
    return [ops.convert(ops.gather(pixels, address, whole(0)), "f32").output(0)]
