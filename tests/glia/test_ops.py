"""The registered operators as PyTorch sees them, and the kernel as compilers do; the numbers are
tests/test_fragment_sample.py's.
"""

# mypy: disable-error-code="import-untyped"

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import glia.ops
from glia_runtime.fragments import FragmentSpec, fragment_sample
from tests.shapes import noise_image
from tests.test_fragment_sample import GREY_MEAN, GREY_STD, SPEC, interpreted_kernels

OPERATORS = torch.ops.glia
SIZES = ((224, 224), (101, 47))


def padded_arguments() -> tuple[Tensor, Tensor, Tensor]:
    images = torch.from_numpy(noise_image(2 * 224, 224)).view(2, 224, 224, 3)
    return images, torch.tensor(SIZES), torch.arange(2 * 2 * 49).view(2, 2, 7, 7)


def ragged_arguments() -> tuple[Tensor, Tensor, Tensor]:
    return glia.ops.pack_ragged([torch.from_numpy(noise_image(*size)) for size in SIZES])


@pytest.mark.parametrize("with_offsets", [False, True])
def test_opcheck(with_offsets: bool) -> None:
    images, sizes, offsets = padded_arguments()
    given = offsets if with_offsets else None
    torch.library.opcheck(OPERATORS.fragment_sample.default, (images, sizes, given))
    rest = (given, list(GREY_MEAN), list(GREY_STD), torch.float16)
    torch.library.opcheck(OPERATORS.fragment_sample_ragged.default, (*ragged_arguments(), *rest))


def test_compiles_once_for_every_size() -> None:
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    compiled = torch.compile(OPERATORS.fragment_sample, backend=count, fullgraph=True, dynamic=True)
    # Not a first batch of 2 or 3: torch.compile takes equal sizes for one, here the batch for the (fixed)
    # columns of `sizes` or the channels, and would compile once more.
    for batch, height, width in ((5, 300, 240), (2, 64, 1000), (3, 33, 32)):
        images = torch.zeros((batch, height, width, 3), dtype=torch.uint8)
        sizes = torch.tensor([[height, width]] * batch)
        assert compiled(images, sizes).shape == (batch, SPEC.size, SPEC.size, 3)
    assert graphs == 1


def test_other_grids_and_layouts() -> None:
    images, sizes, _ = padded_arguments()
    mosaic = OPERATORS.fragment_sample(images, sizes, None, 3, 16)
    spec = FragmentSpec(grid=3, fragment=16)
    for made, image, (height, width) in zip(mosaic, images, SIZES, strict=True):
        assert np.array_equal(made, fragment_sample(image[:height, :width].numpy(), spec=spec))
    assert torch.equal(interpreted_kernels().sample_padded(images, sizes, None, 3, 16), mosaic)
    channels_first = images.permute(0, 3, 1, 2).contiguous()
    assert torch.equal(OPERATORS.fragment_sample(channels_first.permute(0, 2, 3, 1), sizes, None, 3, 16), mosaic)


def test_empty_batch() -> None:
    images, sizes, offsets = padded_arguments()
    assert OPERATORS.fragment_sample(images[:0], sizes[:0], offsets[:0]).shape == (0, SPEC.size, SPEC.size, 3)
    pixels, starts, sizes = ragged_arguments()
    planes = glia.ops.fragment_sample_ragged(
        pixels, starts[:0], sizes[:0], mean=GREY_MEAN, std=GREY_STD, dtype=torch.float16
    )
    assert planes.shape == (0, 3, SPEC.size, SPEC.size)
    assert interpreted_kernels().sample_padded(images[:0], sizes[:0], None, 7, 32).shape[0] == 0


def test_padded_boundary() -> None:
    images, sizes, offsets = padded_arguments()
    wrong = [
        ("images must be uint8", (images.float(), sizes)),
        ("images must be uint8", (images[0], sizes)),
        ("images must be uint8", (images[..., :1], sizes)),
        ("one .height, width. per image", (images, sizes[:1])),
        ("sizes must be int64", (images, sizes.int())),
        ("sizes must be int64", (images, sizes.view(-1))),
        ("enlarge first", (images, torch.tensor([[224, 224], [31, 224]]))),
        ("exceed the padded", (images, torch.tensor([[224, 224], [224, 225]]))),
        ("offsets must be int64", (images, sizes, offsets[:1])),
        ("offsets must be int64", (images, sizes, offsets.int())),
        ("must be positive", (images, sizes, None, 0)),
    ]
    for message, arguments in wrong:
        with pytest.raises(RuntimeError, match=message):
            OPERATORS.fragment_sample(*arguments)


def test_ragged_boundary() -> None:
    pixels, starts, sizes = ragged_arguments()
    good: dict[str, Any] = {"mean": GREY_MEAN, "std": GREY_STD, "dtype": torch.float32}
    wrong: list[tuple[str, tuple[Tensor, Tensor, Tensor], dict[str, Any]]] = [
        ("pixels must be uint8", (pixels.float(), starts, sizes), {}),
        ("starts must be int64", (pixels, starts[:1], sizes), {}),
        ("reaches outside", (pixels[:-1], starts, sizes), {}),
        ("reaches outside", (pixels, starts - 1, sizes), {}),
        ("enlarge first", (pixels, starts, sizes // 2), {}),
        ("dtype must be", (pixels, starts, sizes), {"dtype": torch.int32}),
        ("three numbers", (pixels, starts, sizes), {"mean": (1.0,)}),
        ("std positive", (pixels, starts, sizes), {"std": (1.0, 1.0, 0.0)}),
    ]
    for message, arguments, changes in wrong:
        with pytest.raises(RuntimeError, match=message):
            glia.ops.fragment_sample_ragged(*arguments, **(good | changes))
    with pytest.raises(RuntimeError, match="no images"):
        glia.ops.pack_ragged([])


def test_kernel_reads_nothing_outside_the_pixels() -> None:
    # Nobody looks at the sizes before a GPU starts. In the interpreter a stray read would crash the process.
    pixels = torch.full((64 * 64 * 3,), 9, dtype=torch.uint8)
    huge = torch.tensor([[1 << 40, 1 << 40]])
    starts = torch.tensor([0])
    planes = interpreted_kernels().sample_ragged(pixels, starts, huge, None, (0,) * 3, (1,) * 3, torch.float32, 7, 32)
    assert planes[0, 0, 0, 0] == 9 and planes[0, 0, 223, 223] == 0


@pytest.mark.parametrize("capability", [89, 90])
@pytest.mark.parametrize("kind", ["ragged", "padded"])
def test_kernel_compiles_without_a_gpu(kind: str, capability: int) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from glia.ops.fragment_sample_triton import fragment_sample_kernel

    signature = {
        "out": "*fp16",
        "pixels": "*u8",
        "length": "i64",
        "starts": "*i64",
        "sizes": "*i64",
        "offsets": "*i64",
        "image_bytes": "i64",
        "row_bytes": "i64",
    }
    constants: dict[str, object] = {"GRID": 7, "FRAGMENT": 32, "BLOCK": 1024}
    if kind == "ragged":
        constants |= {"MEAN": GREY_MEAN, "INVERSE_STD": tuple(1 / value for value in GREY_STD)}
    else:
        constants |= {"MEAN": None, "INVERSE_STD": None, "starts": None, "offsets": None}
        signature["out"] = "*u8"
    signature |= dict.fromkeys(constants, "constexpr")
    compiled = triton.compile(
        ASTSource(fragment_sample_kernel, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"enable_fp_fusion": False},
    )
    ptx = compiled.asm["ptx"]
    assert f".target sm_{capability}" in ptx
    # 16-bit stores are the fused fp16 output's, 8-bit ones the mosaic's.
    assert ("cvt.rn.f16.f32" in ptx) == (kind == "ragged")
    assert compiled.asm["cubin"]


def test_import_needs_no_triton() -> None:
    program = """
import importlib.util, sys, torch

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "triton" or name.startswith("triton."):
            raise ImportError(name)

found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "triton" else found(name, package)
for name in [name for name in sys.modules if name.partition(".")[0] == "triton"]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())

import glia.ops
image = torch.ones((1, 40, 50, 3), dtype=torch.uint8)
mosaic = torch.ops.glia.fragment_sample(image, torch.tensor([[40, 50]]))
assert mosaic.all() and "triton" not in sys.modules
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
