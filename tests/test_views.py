"""The operator that makes both views, in every form, against the runtime's views, which are Pillow's."""

# What torch.ops and kernels return is Any to mypy.
# mypy: disable-error-code="import-untyped,no-any-return"

from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import glia.ops
from glia_runtime.fragments import FragmentSpec, Image
from glia_runtime.views import enlarge, sample_views
from tests.shapes import AWKWARD_SHAPES, image_shapes, noise_image
from tests.test_fragment_sample import GREY_MEAN, GREY_STD, interpreted_kernels, needs_gpu, pad

SPEC = FragmentSpec()
FORMS = ["torch", "triton", pytest.param("cuda", marks=needs_gpu)]
forms = pytest.mark.parametrize("form", FORMS)

# Noise, so that each grey level of difference can show. Enlarged, since that is what the runtime hands over.
PICTURES = [enlarge(noise_image(*shape)) for shape in AWKWARD_SHAPES if max(shape) <= 1100 and min(shape) > 1]
IDENTITY = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def make(
    form: str, images: Sequence[Image], mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    device = "cuda" if form == "cuda" else "cpu"
    pixels, starts, sizes = glia.ops.pack_ragged([torch.from_numpy(image).to(device) for image in images])
    if form == "triton":
        kernels = interpreted_kernels("glia.ops.views_triton")
        arguments = (pixels, starts, sizes[:, 1] * 3, sizes)
        return kernels.launch(*arguments, list(mean), list(std), dtype, SPEC.grid, SPEC.fragment)
    semantic, detail = glia.ops.ragged_views(pixels, starts, sizes, mean=mean, std=std, dtype=dtype)
    return semantic.cpu(), detail.cpu()


def check(semantic: Tensor, detail: Tensor, images: Sequence[Image]) -> None:
    """Compare grey levels with the runtime's: the mosaic to the bit, the resize to one level in a few places."""
    assert semantic.shape == detail.shape == (len(images), 3, SPEC.size, SPEC.size)
    for resized, mosaic, image in zip(semantic, detail, images, strict=True):
        expected, fragments = sample_views(image)
        difference = np.abs(resized.float().permute(1, 2, 0).numpy() - expected.astype(np.float32))
        # A float32 sum lands on the other side of a half in some 20 of 150,528 values.
        assert difference.max() <= 1 and np.count_nonzero(difference) <= 150, image.shape
        assert np.array_equal(mosaic.float().permute(1, 2, 0).numpy(), fragments.astype(np.float32))


@forms
def test_mixed_sizes_in_one_batch(form: str) -> None:
    pictures = PICTURES if form != "triton" else PICTURES[:3]  # seconds each in the interpreter
    check(*make(form, pictures, *IDENTITY, torch.float16), pictures)


@forms
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes=st.lists(image_shapes(min_side=SPEC.size, max_side=330), min_size=1, max_size=1))
def test_drawn_batches(form: str, shapes: list[tuple[int, int]]) -> None:
    pictures = [noise_image(*shape) for shape in shapes]
    check(*make(form, pictures, *IDENTITY, torch.float16), pictures)


@forms
def test_extremes_are_clamped(form: str) -> None:
    stripes = np.zeros((224, 301, 3), np.uint8)
    stripes[:, np.arange(301) % 16 < 8] = 255  # bicubic overshoots at every edge
    semantic, detail = make(form, [stripes], *IDENTITY, torch.float32)
    assert semantic.min() == 0 and semantic.max() == 255
    check(semantic, detail, [stripes])


@forms
def test_normalisation(form: str) -> None:
    images = [noise_image(224, 224)]
    grey = make(form, images, *IDENTITY, torch.float32)
    mean = torch.tensor(GREY_MEAN, dtype=torch.float32)[:, None, None]
    scale = (1 / torch.tensor(GREY_STD, dtype=torch.float64)).float()[:, None, None]
    for made, levels in zip(make(form, images, GREY_MEAN, GREY_STD, torch.float16), grey, strict=True):
        assert made.is_contiguous()
        # A subtraction, a product and one rounding, each fixed by IEEE 754.
        assert torch.equal(made, ((levels - mean) * scale).half())


def test_padding_is_never_seen() -> None:
    images = [noise_image(*shape) for shape in ((224, 300), (300, 224), (250, 250))]
    batch, sizes = pad(images)
    mean, std = IDENTITY
    check(*glia.ops.padded_views(batch, sizes, mean=mean, std=std, dtype=torch.float16), images)


def test_boundary() -> None:
    pixels, starts, sizes = glia.ops.pack_ragged(
        [torch.from_numpy(noise_image(*size)) for size in ((224, 230), (40, 50))]
    )
    good = {"mean": GREY_MEAN, "std": GREY_STD, "dtype": torch.float16}
    wrong: list[tuple[str, tuple[Tensor, Tensor, Tensor], dict[str, object]]] = [
        ("pixels must be uint8", (pixels.float(), starts, sizes), {}),
        ("starts and row_bytes must be int64", (pixels, starts[:1], sizes), {}),
        ("sizes must be int64", (pixels, starts, sizes.int()), {}),
        ("reaches outside", (pixels[:-1], starts, sizes), {}),
        ("reaches outside", (pixels, starts - 1, sizes), {}),
        ("enlarge first", (pixels, starts, sizes // 2), {}),
        ("longer than 32768", (pixels, starts, torch.tensor([[224, 230], [40, 40_000]])), {}),
        ("dtype must be", (pixels, starts, sizes), {"dtype": torch.int32}),
        ("three numbers", (pixels, starts, sizes), {"mean": (1.0,)}),
        ("multiple of 32", (pixels, starts, sizes), {"grid": 3, "fragment": 25}),
    ]
    for message, arguments, changes in wrong:
        with pytest.raises(RuntimeError, match=message):
            glia.ops.ragged_views(*arguments, **(good | changes))  # type: ignore[arg-type]
    empty = glia.ops.ragged_views(pixels, starts[:0], sizes[:0], **good)  # type: ignore[arg-type]
    assert [view.shape for view in empty] == [(0, 3, 224, 224)] * 2


def test_the_kernel_reads_nothing_outside_the_pixels() -> None:
    # Nobody looks at the sizes before a GPU starts. In the interpreter a stray read would crash the process.
    pixels = torch.full((230 * 230 * 3,), 9, dtype=torch.uint8)
    one, huge = torch.tensor([0]), torch.tensor([[230, 1 << 40]])
    kernels = interpreted_kernels("glia.ops.views_triton")
    # LONGEST_SIDE bounds what a wrong size can cost; 32768 columns would take the interpreter minutes.
    with mock.patch.object(kernels, "LONGEST_SIDE", 600):
        semantic, detail = kernels.launch(pixels, one, one + 230 * 3, huge, [0.0] * 3, [1.0] * 3, torch.float32, 7, 32)
    assert detail[0, 0, 0, 0] == 9 and semantic[0, 0, 0, 0] == 9


@pytest.mark.parametrize("capability", [89, 90])
def test_the_kernel_compiles_without_a_gpu(capability: int) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from glia.ops.views_triton import BLOCK, TILE, views_kernel

    constants = {"GRID": 7, "FRAGMENT": 32, "TILE": TILE, "STEP": 32, "BLOCK": BLOCK, "LONGEST": 32768}
    signature = {"semantic": "*fp16", "detail": "*fp16", "pixels": "*u8", "length": "i64"}
    signature |= dict.fromkeys(("starts", "row_bytes", "sizes"), "*i64")
    signature |= dict.fromkeys(("mean_0", "mean_1", "mean_2", "inverse_0", "inverse_1", "inverse_2"), "fp32")
    signature |= dict.fromkeys(constants, "constexpr")
    compiled = triton.compile(
        ASTSource(views_kernel, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"enable_fp_fusion": False},
    )
    ptx = compiled.asm["ptx"]
    assert f".target sm_{capability}" in ptx and compiled.asm["cubin"]
    # The resize runs on the matrix units: float16 in, sums in float32.
    assert "f32.f16.f16.f32" in ptx
    # Two blocks of 4 warps must fit on an RTX 4090's multiprocessor (100 kB of shared memory).
    assert compiled.metadata.shared <= 50_000


class OnlyViews(torch.nn.Module):
    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        return glia.ops.padded_views(images, sizes, mean=GREY_MEAN, std=GREY_STD, dtype=torch.float16)


# torch looks which tensors the kernel writes to; without a GPU it cannot, logs so, and takes all of them.
def test_compilers_see_the_kernel() -> None:
    """What AOTInductor is handed on a machine with a GPU: traced here with tensors that are shapes only."""
    pytest.importorskip("triton")
    from torch._functorch.aot_autograd import aot_export_module
    from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_functional
    from torch._subclasses.fake_tensor import FakeTensorMode

    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    shapes = {"images": {0: batch, 1: height, 2: width}, "sizes": {0: batch}}
    with FakeTensorMode():
        images = torch.empty((2, 300, 260, 3), dtype=torch.uint8, device="cuda")
        sizes = torch.empty((2, 2), dtype=torch.int64, device="cuda")
        program = torch.export.export(OnlyViews(), (images, sizes), dynamic_shapes=shapes)
        lowered, _ = aot_export_module(program.module(), (images, sizes), trace_joint=False)
    assert [node.target for node in program.graph.nodes].count(torch.ops.glia.views.default) == 1
    assert isinstance(lowered, torch.fx.GraphModule)
    assert [node.target for node in lowered.graph.nodes].count(triton_kernel_wrapper_functional) == 1
