"""Every form of fragment sampling against the NumPy reference, bit for bit, over one list of shapes."""

# What torch.ops, kernels and sessions return is Any to mypy.
# mypy: disable-error-code="import-untyped,no-any-return"

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor

import glia.ops
from glia_export.fragment_sample_onnx import FUNCTION_DOMAIN, FUNCTION_NAME, fragment_sample_function
from glia_export.graphs import gather_fragments
from glia_runtime.backends.openvino import core
from glia_runtime.errors import UsageError
from glia_runtime.fragments import FragmentSpec, fragment_sample
from glia_runtime.views import enlarge
from tests.shapes import AWKWARD_SHAPES, FRAGMENT, image_shapes, noise_image

Image = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Sampler = Callable[[Sequence[Image], Offsets | None], Image]

SPEC = FragmentSpec()
OPSET = 20
GREY_MEAN = (123.675, 116.28, 103.53)  # ImageNet's, in grey levels
GREY_STD = (58.395, 57.12, 57.375)

needs_gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine"),
)


@lru_cache
def interpreted_kernels(name: str = "glia.ops.fragment_sample_triton") -> ModuleType:
    """Load a private copy of a Triton module whose kernels run on the CPU, in Triton's interpreter.

    `triton.jit` asks for TRITON_INTERPRET when it decorates, so the variable is needed only while the copy
    loads, and the real module, compiled, can be tested in the same process. What the module imports from a sibling
    is then a copy too.
    """
    pytest.importorskip("triton")
    package, _, child = name.rpartition(".")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(importlib.import_module(package), child, None, raising=False)
        for sibling in ("fragment_sample_triton", "views_triton"):
            patch.setattr(glia.ops, sibling, None, raising=False)
            patch.setitem(sys.modules, f"glia.ops.{sibling}", None)
            del sys.modules[f"glia.ops.{sibling}"]
        patch.setitem(sys.modules, name, None)
        del sys.modules[name]
        return importlib.import_module(name)


def pad(images: Sequence[Image]) -> tuple[Tensor, Tensor]:
    """Pad images into one batch, uint8 [B, H, W, 3], with 255 where no form may look; and their sizes."""
    sizes = np.array([image.shape[:2] for image in images], dtype=np.int64)
    height, width = sizes.max(0)
    batch = np.full((len(images), height, width, 3), 255, dtype=np.uint8)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(batch), torch.from_numpy(sizes)


def torch_offsets(offsets: Offsets | None) -> Tensor | None:
    return None if offsets is None else torch.from_numpy(offsets)


def sample_torch(images: Sequence[Image], offsets: Offsets | None, device: str = "cpu") -> Image:
    batch, sizes = pad(images)
    moved = None if offsets is None else torch.from_numpy(offsets).to(device)
    return torch.ops.glia.fragment_sample(batch.to(device), sizes.to(device), moved).cpu().numpy()


@lru_cache
def exported_program(with_offsets: bool) -> Callable[..., Tensor]:
    class Sample(torch.nn.Module):
        def forward(self, images: Tensor, sizes: Tensor, offsets: Tensor | None = None) -> Tensor:
            return torch.ops.glia.fragment_sample(images, sizes, offsets)

    images, sizes = pad([noise_image(224, 300), noise_image(250, 240)])
    offsets = torch.zeros((2, 2, SPEC.grid, SPEC.grid), dtype=torch.int64) if with_offsets else None
    batch, height, width = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
    dynamic = {
        "images": {0: batch, 1: height, 2: width},
        "sizes": {0: batch},
        "offsets": {0: batch} if with_offsets else None,
    }
    program = torch.export.export(Sample(), (images, sizes, offsets), dynamic_shapes=dynamic)
    return program.module()


def sample_exported(images: Sequence[Image], offsets: Offsets | None) -> Image:
    batch, sizes = pad(images)
    return exported_program(offsets is not None)(batch, sizes, torch_offsets(offsets)).numpy()


def sample_triton_padded(images: Sequence[Image], offsets: Offsets | None) -> Image:
    batch, sizes = pad(images)
    kernels = interpreted_kernels()
    return kernels.sample_padded(batch, sizes, torch_offsets(offsets), SPEC.grid, SPEC.fragment).numpy()


def sample_triton_plugin(images: Sequence[Image], offsets: Offsets | None) -> Image:
    """The kernel of the plugin for TensorRT, which hands it pixels that are cast already; in float16, as for fp16."""
    assert offsets is None, "as in the node"
    batch, sizes = pad(images)
    mosaic = torch.empty((len(images), SPEC.size, SPEC.size, 3), dtype=torch.float16)
    block = 1 << 16  # one program a picture: the interpreter pays for each
    kernel = interpreted_kernels("glia_export.tensorrt_plugin").mosaic_kernel
    constants = {"GRID": SPEC.grid, "FRAGMENT": SPEC.fragment, "BLOCK": block}
    kernel[(len(images), 1)](batch.half(), sizes, *batch.shape[1:3], mosaic, **constants)
    assert torch.equal(mosaic, mosaic.round())
    return mosaic.to(torch.uint8).numpy()


def sample_graph(images: Sequence[Image], offsets: Offsets | None) -> Image:
    """The standard operators of TorchScript files and packages for CPUs."""
    assert offsets is None, "as in the node"
    return gather_fragments(*pad(images), SPEC).numpy()


def ragged(
    form: str,
    images: Sequence[Image],
    offsets: Offsets | None,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> Tensor:
    """Run one of the ragged forms: "torch", "triton" (interpreted) or "cuda"."""
    device = "cuda" if form == "cuda" else "cpu"
    packed = glia.ops.pack_ragged([torch.from_numpy(image).to(device) for image in images])
    moved = None if offsets is None else torch.from_numpy(offsets).to(device)
    if form == "triton":
        kernels = interpreted_kernels()
        return kernels.sample_ragged(*packed, moved, mean, std, dtype, SPEC.grid, SPEC.fragment)
    return glia.ops.fragment_sample_ragged(*packed, moved, mean=mean, std=std, dtype=dtype).cpu()


def ragged_sampler(form: str) -> Sampler:
    def sample(images: Sequence[Image], offsets: Offsets | None) -> Image:
        # Mean 0 and deviation 1 leave the integers, which float16 holds exactly: the gather alone is tested.
        planes = ragged(form, images, offsets, (0, 0, 0), (1, 1, 1), torch.float16)
        assert planes.shape == (len(images), 3, SPEC.size, SPEC.size)
        mosaic = planes.permute(0, 2, 3, 1)
        assert torch.equal(mosaic, mosaic.round())
        return mosaic.to(torch.uint8).numpy()

    return sample


@lru_cache
def onnx_model(dtype: int = TensorProto.FLOAT, opset: int = OPSET, spec: FragmentSpec = SPEC) -> bytes:
    """Make a model of the function as its only node; the node names grid and fragment only where they differ."""
    attributes: dict[str, Any] = {} if spec == SPEC else {"grid": spec.grid, "fragment": spec.fragment}
    node = helper.make_node(FUNCTION_NAME, ["images", "sizes"], ["mosaic"], domain=FUNCTION_DOMAIN, **attributes)
    graph = helper.make_graph(
        [node],
        "fragments",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", "H", "W", 3]),
            helper.make_tensor_value_info("sizes", TensorProto.INT64, ["B", 2]),
        ],
        [helper.make_tensor_value_info("mosaic", dtype, ["B", spec.size, spec.size, 3])],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(FUNCTION_DOMAIN, 1)],
        functions=[fragment_sample_function(opset, dtype)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def onnx_session(
    dtype: int = TensorProto.FLOAT, opset: int = OPSET, spec: FragmentSpec = SPEC
) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(onnx_model(dtype, opset, spec), providers=["CPUExecutionProvider"])


def openvino_request(spec: FragmentSpec = SPEC) -> Any:
    """Compile the same model with the node in OpenVINO's operators."""
    return core().compile_model(core().read_model(onnx_model(spec=spec)), "CPU").create_infer_request()


def sample_openvino(images: Sequence[Image], offsets: Offsets | None) -> Image:
    assert offsets is None, "as in the node"
    batch, sizes = pad(images)
    mosaic: npt.NDArray[np.float32] = openvino_request().infer([batch.numpy(), sizes.numpy()])["mosaic"]
    assert mosaic.dtype == np.float32 and np.array_equal(mosaic, mosaic.round())
    return mosaic.astype(np.uint8)


def sample_onnx(images: Sequence[Image], offsets: Offsets | None, dtype: int = TensorProto.FLOAT) -> Image:
    assert offsets is None, "the node has no offsets: a graph scores, and scoring draws none"
    batch, sizes = pad(images)
    mosaic = onnx_session(dtype).run(None, {"images": batch.numpy(), "sizes": sizes.numpy()})[0]
    assert mosaic.dtype == helper.tensor_dtype_to_np_dtype(dtype)
    assert np.array_equal(mosaic, mosaic.round())
    return mosaic.astype(np.uint8)


def sample_loop(image: Image, offsets: Offsets | None) -> Image:
    """Eq. 1-2 written out, one pixel at a time: what the NumPy reference itself is held against."""
    mosaic = np.empty((SPEC.size, SPEC.size, 3), dtype=np.uint8)
    sides = image.shape[:2]
    for place in np.ndindex(SPEC.size, SPEC.size):
        cell = (place[0] // SPEC.fragment, place[1] // SPEC.fragment)
        source = []
        for axis in (0, 1):
            start = cell[axis] * (sides[axis] // SPEC.grid)
            if offsets is not None:
                start += int(offsets[(axis, *cell)])
            source.append(min(max(start, 0), sides[axis] - SPEC.fragment) + place[axis] % SPEC.fragment)
        mosaic[place] = image[source[0], source[1]]
    return mosaic


@dataclass(frozen=True)
class Form:
    """One implementation, and whether it takes offsets."""

    sample: Sampler
    takes_offsets: bool = True


FORMS = {
    "torch": Form(sample_torch),
    "torch-export": Form(sample_exported),
    "torch-ragged": Form(ragged_sampler("torch")),
    "triton-padded": Form(sample_triton_padded),
    "triton-ragged": Form(ragged_sampler("triton")),
    "triton-plugin": Form(sample_triton_plugin, takes_offsets=False),
    "graph": Form(sample_graph, takes_offsets=False),
    "onnx": Form(sample_onnx, takes_offsets=False),
    "onnx-fp16": Form(lambda images, offsets: sample_onnx(images, offsets, TensorProto.FLOAT16), takes_offsets=False),
    "openvino": Form(sample_openvino, takes_offsets=False),
}
GPU_FORMS = {
    "cuda": Form(lambda images, offsets: sample_torch(images, offsets, "cuda")),
    "cuda-ragged": Form(ragged_sampler("cuda")),
}
FORM_PARAMETERS = [pytest.param(form, id=name) for name, form in FORMS.items()] + [
    pytest.param(form, id=name, marks=needs_gpu) for name, form in GPU_FORMS.items()
]
# Where examples are drawn, all forms see the same ones.
together = pytest.mark.parametrize(
    "forms", [pytest.param(FORMS, id="host"), pytest.param(GPU_FORMS, id="gpu", marks=needs_gpu)]
)


def legal_images(shape: tuple[int, int]) -> list[Image]:
    """Return the picture as callers sample it, enlarged where needed; and as it is where a fragment fits."""
    image = noise_image(*shape)
    enlarged = enlarge(image)
    return [enlarged] if enlarged is image or min(shape) < FRAGMENT else [enlarged, image]


# Two of the big ones fit in memory beside the forms' own copies; consecutive tests share a shape.
cached_images = lru_cache(maxsize=2)(legal_images)


def some_offsets(image: Image, seed: int = 0) -> list[Offsets | None]:
    """No offsets, those that training draws, and ones that leave the picture on every side."""
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    drawn = SPEC.draw_offsets(height, width, rng)
    wild = rng.integers(-max(height, width), max(height, width), (2, SPEC.grid, SPEC.grid))
    return [None, drawn, wild]


@pytest.mark.parametrize("shape", AWKWARD_SHAPES)
def test_reference_is_the_equation(shape: tuple[int, int]) -> None:
    for image in cached_images(shape):
        for offsets in some_offsets(image):
            assert np.array_equal(fragment_sample(image, offsets), sample_loop(image, offsets))


@pytest.mark.parametrize("form", FORM_PARAMETERS)
@pytest.mark.parametrize("shape", AWKWARD_SHAPES)
def test_form_equals_reference(shape: tuple[int, int], form: Form) -> None:
    for image in cached_images(shape):
        for offsets in some_offsets(image):
            if offsets is None or form.takes_offsets:
                batched = None if offsets is None else offsets[None]
                assert np.array_equal(form.sample([image], batched)[0], fragment_sample(image, offsets))


@pytest.mark.parametrize("form", FORM_PARAMETERS)
def test_mixed_sizes_in_one_batch(form: Form) -> None:
    sizes = ((224, 224), (32, 300), (501, 47), (227, 1009))
    images = [noise_image(*size) for size in sizes]
    rng = np.random.default_rng(1)
    offsets = np.stack([SPEC.draw_offsets(*size, rng) for size in sizes])
    for batched in (None, offsets) if form.takes_offsets else (None,):
        expected = [fragment_sample(image, None if batched is None else batched[i]) for i, image in enumerate(images)]
        assert np.array_equal(form.sample(images, batched), np.stack(expected))


@together
# No deadline: the first example compiles, and the interpreter's pace is the machine's.
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes=st.lists(image_shapes(min_side=FRAGMENT), min_size=1, max_size=3), seed=st.integers(0, 2**32 - 1))
def test_drawn_batches(forms: dict[str, Form], shapes: list[tuple[int, int]], seed: int) -> None:
    images = [noise_image(*shape) for shape in shapes]
    choices = list(zip(*(some_offsets(image, seed) for image in images), strict=True))
    for offsets in choices:
        expected = np.stack([fragment_sample(*pair) for pair in zip(images, offsets, strict=True)])
        batched = None if offsets[0] is None else np.stack([each for each in offsets if each is not None])
        for name, form in forms.items():
            if batched is None or form.takes_offsets:
                assert np.array_equal(form.sample(images, batched), expected), name


@together
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=image_shapes(max_side=64))
def test_drawn_small_pictures_once_enlarged(forms: dict[str, Form], shape: tuple[int, int]) -> None:
    image = enlarge(noise_image(*shape))
    expected = fragment_sample(image)
    for name, form in forms.items():
        assert np.array_equal(form.sample([image], None)[0], expected), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["torch", "triton", pytest.param("cuda", marks=needs_gpu)])
def test_ragged_normalisation(form: str, dtype: torch.dtype) -> None:
    images = [noise_image(*shape) for shape in ((224, 224), (32, 300), (501, 47))]
    mosaic = np.stack([fragment_sample(image) for image in images]).transpose(0, 3, 1, 2)
    mean = np.array(GREY_MEAN, dtype=np.float32)[:, None, None]
    scale = (1 / np.array(GREY_STD)).astype(np.float32)[:, None, None]
    expected = torch.from_numpy((mosaic.astype(np.float32) - mean) * scale).to(dtype)
    made = ragged(form, images, None, GREY_MEAN, GREY_STD, dtype)
    assert made.dtype == dtype and made.is_contiguous()
    # A subtraction, a product and one rounding, each fixed by IEEE 754: no form may differ. But Triton's
    # interpreter cuts a float32 down to bfloat16 where the hardware rounds to nearest, which is 1 ulp.
    allowed_ulps = 1 if (form, dtype) == ("triton", torch.bfloat16) else 0
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    # Equal signs (no pixel equals the mean), so that neighbouring floats are neighbouring integers.
    assert torch.equal(made.signbit(), expected.signbit())
    distance = (made.view(bits).long() - expected.view(bits).long()).abs()
    assert int(distance.max()) <= allowed_ulps


@pytest.mark.parametrize("opset", [15, 18, 21, 23])
def test_onnx_function_in_other_opsets(opset: int) -> None:
    image = noise_image(230, 301)
    feed = {"images": image[None], "sizes": np.array([[230, 301]], dtype=np.int64)}
    mosaic = onnx_session(opset=opset).run(None, feed)[0]
    assert np.array_equal(mosaic[0], fragment_sample(image))


def test_onnx_node_may_name_another_grid() -> None:
    image, spec = noise_image(100, 140), FragmentSpec(grid=3, fragment=16)
    feed = {"images": image[None], "sizes": np.array([[100, 140]], dtype=np.int64)}
    for mosaic in (onnx_session(spec=spec).run(None, feed)[0], openvino_request(spec).infer(feed)["mosaic"]):
        assert np.array_equal(mosaic[0], fragment_sample(image, spec=spec))


def test_onnx_function_refuses_what_it_cannot_make() -> None:
    with pytest.raises(UsageError, match="opset 15"):
        fragment_sample_function(14)
    with pytest.raises(UsageError, match="not UINT8"):
        fragment_sample_function(OPSET, TensorProto.UINT8)
