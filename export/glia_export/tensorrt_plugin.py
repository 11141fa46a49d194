"""`glia::FragmentSample` for classic TensorRT: a plugin compiled ahead of time from a Triton kernel, inside the engine.

Written against the published interface of `tensorrt.plugin` (TensorRT 10.9 and newer: `register`, `aot_impl`); we could
not install classic TensorRT, and nothing here has been executed with it. An engine made with the plugin holds the
kernel's PTX: it loads without Python code of ours and without a shared library. Without the plugin TensorRT compiles
the node's body, which is standard operators.
"""

# Kernels have no Python types, and TensorRT reads the types of a plugin from annotations made while it is registered.
# mypy: disable-error-code="import-untyped,no-untyped-def,no-untyped-call,untyped-decorator,valid-type,name-defined"
# ruff: noqa: N803, N806

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import triton
import triton.language as tl
from onnx import TensorProto, helper
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from glia.ops.fragment_sample_triton import fragment_source
from glia_export.engine_options import Shape
from glia_export.fragment_sample_onnx import FUNCTION_DOMAIN, FUNCTION_NAME
from glia_export.parity import Say
from glia_export.tensorrt_export import Compiler, Progress, build_engine
from glia_runtime.backends.base import first_line
from glia_runtime.errors import ArtifactError, GliaError

PLUGIN_ID = f"{FUNCTION_DOMAIN}::{FUNCTION_NAME}"
_BLOCK = 1024
# The engine's user compiles the PTX, by the driver: 8.0 is what those of CUDA 12.0 and newer read, and the first that
# knows both the RTX 40 series and Hopper. Left alone, Triton writes the newest that it knows, 9.4 for Hopper.
_PTX_VERSION = 80

_registered: set[str] = set()  # compute capabilities; TensorRT refuses the same name a second time


@triton.jit
def mosaic_kernel(
    images,  # fp16 or fp32 [B, H, W, 3]
    sizes,  # int64 [B, 2]
    height,  # of the padded batch
    width,
    mosaic,  # as images, [B, S, S, 3]
    GRID: tl.constexpr,
    FRAGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Copy BLOCK mosaic pixels of one picture: program (picture, block). Arguments in TensorRT's order."""
    SIZE: tl.constexpr = GRID * FRAGMENT
    image = tl.program_id(0).to(tl.int64)
    position = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = position < SIZE * SIZE
    within = tl.where(valid, position, 0)
    true_height = tl.minimum(tl.load(sizes + image * 2), height)
    true_width = tl.minimum(tl.load(sizes + image * 2 + 1), width)
    row, column = fragment_source(within // SIZE, within % SIZE, image, true_height, true_width, None, GRID, FRAGMENT)
    inside = valid & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    address = ((image * height + row) * width + column) * 3
    for channel in tl.static_range(3):
        value = tl.load(images + address + channel, mask=inside, other=0)
        tl.store(mosaic + (image * SIZE * SIZE + position) * 3 + channel, value, mask=valid)


@dataclass(frozen=True)
class Kernel:
    """What TensorRT embeds: the name of the entry, its PTX, threads of a block, bytes of shared memory."""

    name: str
    ptx: str
    threads: int
    shared: int


def compile_kernel(capability: str, pixel: str, grid: int, fragment: int) -> Kernel:
    """Compile the kernel for a compute capability ("8.9"), no GPU needed; `pixel` is "fp16" or "fp32"."""
    signature = {"images": f"*{pixel}", "sizes": "*i64", "height": "i32", "width": "i32", "mosaic": f"*{pixel}"}
    constants = {"GRID": grid, "FRAGMENT": fragment, "BLOCK": _BLOCK}
    source = ASTSource(mosaic_kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
    target = GPUTarget("cuda", int(capability.replace(".", "")), 32)
    compiled = triton.compile(source, target=target, options={"enable_fp_fusion": False, "ptx_version": _PTX_VERSION})
    name, metadata = compiled.metadata.name, compiled.metadata
    ptx = without_scratch(compiled.asm["ptx"], name, len(signature))
    return Kernel(name, ptx, metadata.num_warps * 32, metadata.shared)


def without_scratch(ptx: str, name: str, arguments: int) -> str:
    """Cut the entry's parameters down to the kernel's own.

    Triton appends pointers to scratch memory, which it passes at launch and TensorRT does not know of.

    Raises:
        ValueError: the kernel uses scratch memory.
    """
    head, parameters, body = _entry(ptx, name)
    extra = parameters[arguments:]
    for parameter in extra:
        if re.search(rf"\b{parameter.split()[-1]}\b", body):
            raise ValueError(f"kernel {name} uses scratch memory, which TensorRT does not allocate")
    return f"{head}(\n\t" + ",\n\t".join(parameters[:arguments]) + f"\n){body}"


def entry_parameters(ptx: str, name: str) -> list[str]:
    """The types of an entry's parameters: ".u64" a pointer, ".u32" a 32-bit number."""
    kinds = [re.search(r"\.(?:u|b|s)(\d+)\b", parameter) for parameter in _entry(ptx, name)[1]]
    return [f".u{kind[1]}" for kind in kinds if kind]


def _entry(ptx: str, name: str) -> tuple[str, list[str], str]:
    found = re.search(rf"\.entry {re.escape(name)}\s*\((.*?)\)", ptx, re.DOTALL)
    if found is None:
        raise ValueError(f"no entry {name} in the PTX")
    head = ptx[: found.start(1) - 1]
    return head, [part.strip() for part in found[1].split(",")], ptx[found.end() :]


def register_plugin(trt: Any, trtp: Any, capability: str) -> None:
    """Register the plugin with TensorRT, once in a process.

    Args:
        trt: the module tensorrt.
        trtp: the module tensorrt.plugin.
        capability: of the GPU that the engine is built for; in one process always the same, as it is the one here.
    """
    if capability in _registered:
        return

    @trtp.register(PLUGIN_ID)
    def describe(images: trtp.TensorDesc, sizes: trtp.TensorDesc, grid: int, fragment: int) -> trtp.TensorDesc:
        size = grid * fragment
        mosaic = images.like()
        mosaic.shape_expr = trtp.ShapeExprs.from_tuple((images.shape_expr[0], size, size, 3))
        return mosaic

    @trtp.aot_impl(PLUGIN_ID)
    def compiled(
        images: trtp.TensorDesc,
        sizes: trtp.TensorDesc,
        grid: int,
        fragment: int,
        outputs: tuple[trtp.TensorDesc],
        tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymExprs]:
        kernel = compile_kernel(capability, "fp16" if images.dtype == trt.float16 else "fp32", grid, fragment)
        launch = trtp.KernelLaunchParams()
        launch.grid_x, launch.grid_y = images.shape_expr[0], triton.cdiv((grid * fragment) ** 2, _BLOCK)
        launch.block_x, launch.shared_mem = kernel.threads, kernel.shared
        numbers = trtp.SymIntExprs(2)
        numbers[0], numbers[1] = trtp.SymInt32(images.shape_expr[1]), trtp.SymInt32(images.shape_expr[2])
        return kernel.name, kernel.ptx, launch, numbers

    _registered.add(capability)


def build_with_plugin(
    model: onnx.ModelProto,
    path: Path,
    compiler: Compiler,
    shapes: Mapping[str, tuple[Shape, Shape, Shape]],
    progress: Progress,
    say: Say,
) -> bool:
    """Build an engine whose fragments are the plugin's; return whether that was possible, after saying why not.

    Where the compiler is classic TensorRT (`check_plugin`); `model` is the exported graph, the rest as for
    `build_engine`.

    Raises:
        ArtifactError: TensorRT refuses the graph with the plugin, or builds nothing.
        OSError: a file cannot be written.
    """
    with TemporaryDirectory(prefix="glia-") as folder:
        graph = Path(folder, "graph.onnx")
        try:
            onnx.save_model(with_plugin(model), graph)
            trtp = import_module("tensorrt.plugin")
            register_plugin(compiler.library, trtp, compiler.compute_capabilities[0])
            build_engine(graph, path, compiler, shapes, progress)
        except ArtifactError as error:
            raise ArtifactError(f"{error}, or leave out --plugin") from error
        except (OSError, GliaError):
            raise
        except Exception as error:  # never executed by us: whatever the interface raises, there is the node's body
            say(f"--plugin: left out ({first_line(error)}); the fragments are standard operators")
            return False
    return True


def _is_node(node: onnx.NodeProto) -> bool:
    return (node.domain, node.op_type) == (FUNCTION_DOMAIN, FUNCTION_NAME)


def with_plugin(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an exported graph whose node `glia::FragmentSample` asks for the plugin, and has no body.

    The pictures are cast before the node (as its body does): UINT8 may feed nothing but a Cast. Stays as it is where
    there is no such node.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for index, node in enumerate(graph.node):
        if not _is_node(node):
            continue
        (body,) = (function for function in changed.functions if function.name == FUNCTION_NAME)
        (cast,) = (step for step in body.node if step.op_type == "Cast")
        to = helper.get_node_attr_value(cast, "to")
        assert to in (TensorProto.FLOAT, TensorProto.FLOAT16)
        pixels = f"{node.input[0]}_pixels"
        graph.node.insert(index, helper.make_node("Cast", [node.input[0]], [pixels], to=to))
        node = graph.node[index + 1]
        node.input[0] = pixels
        node.attribute.extend(
            helper.make_attribute(key, value)
            for key, value in {"plugin_namespace": FUNCTION_DOMAIN, "plugin_version": "1", "aot": 1}.items()
        )
        changed.functions.remove(body)
        break
    return changed
