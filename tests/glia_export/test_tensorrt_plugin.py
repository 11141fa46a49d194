"""The plugin for classic TensorRT, as far as it can be tested without: its PTX, the node, the calls.

What its kernel computes is tested in tests/test_fragment_sample.py.
"""

# mypy: disable-error-code="import-untyped"

import inspect
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from glia_export.tensorrt_export import Compiler
from glia_runtime.backends.engines import CLASSIC
from glia_runtime.errors import ArtifactError, BackendError
from glia_runtime.fragments import FragmentSpec
from tests.glia_export.conftest import Exported

triton = pytest.importorskip("triton")

from glia_export import tensorrt_plugin  # noqa: E402

SPEC = FragmentSpec()
capabilities = pytest.mark.parametrize("capability", ["8.9", "9.0"])
pixels = pytest.mark.parametrize("pixel", ["fp16", "fp32"])


@pixels
@capabilities
def test_the_ptx(tmp_path: Path, capability: str, pixel: str) -> None:
    kernel = tensorrt_plugin.compile_kernel(capability, pixel, SPEC.grid, SPEC.fragment)
    # TensorRT passes the inputs, then our two numbers, then the outputs; and nothing else.
    assert tensorrt_plugin.entry_parameters(kernel.ptx, kernel.name) == [".u64", ".u64", ".u32", ".u32", ".u64"]
    assert f".target sm_{capability.replace('.', '')}" in kernel.ptx
    assert ".version 8.0" in kernel.ptx
    assert kernel.threads == 128 and f".reqntid {kernel.threads}" in kernel.ptx and kernel.shared == 0
    (source := tmp_path / "kernel.ptx").write_text(kernel.ptx)
    target = next(line.split()[1] for line in kernel.ptx.splitlines() if line.startswith(".target"))
    ptxas = triton.knobs.nvidia.ptxas.path
    done = subprocess.run(
        [ptxas, f"-arch={target}", source, "-o", tmp_path / "kernel.cubin"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_parameters_for_scratch_memory_are_cut_off_unless_used() -> None:
    ptx = ".visible .entry k(\n\t.param .u64 k_param_0,\n\t.param .u64 k_param_1\n)\n{\n\tld [k_param_0];\n%s}\n"
    assert tensorrt_plugin.entry_parameters(tensorrt_plugin.without_scratch(ptx % "", "k", 1), "k") == [".u64"]
    with pytest.raises(ValueError, match="uses scratch memory"):
        tensorrt_plugin.without_scratch(ptx % "\tld [k_param_1];\n", "k", 1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_node_asks_for_the_plugin(exported: Exported, precision: Any) -> None:
    model = onnx.load(exported("onnx", "image", precision))
    changed = tensorrt_plugin.with_plugin(model)
    assert len(changed.graph.node) == len(model.graph.node) + 1 and not changed.functions
    (node,) = (node for node in changed.graph.node if node.op_type == "FragmentSample")
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    assert attributes == {"grid": 7, "fragment": 32, "plugin_namespace": b"glia", "plugin_version": b"1", "aot": 1}
    (cast,) = (other for other in changed.graph.node if node.input[0] in other.output)
    assert (cast.op_type, list(cast.input)) == ("Cast", ["images"])
    # The mosaic has the type that the body gave it, so the rest of the graph fits.
    (body,) = model.functions
    (inner,) = (step for step in body.node if step.op_type == "Cast")
    assert onnx.helper.get_node_attr_value(cast, "to") == onnx.helper.get_node_attr_value(inner, "to")


class Expressions(list[Any]):
    """Stands for ShapeExprs and SymIntExprs: a sequence of a length fixed when made."""

    def __init__(self, length: int) -> None:
        super().__init__([None] * length)

    @classmethod
    def from_tuple(cls, values: tuple[Any, ...]) -> "Expressions":
        made = cls(len(values))
        made[:] = values
        return made


class Description:
    """Stands for TensorDesc."""

    def __init__(self, shape: tuple[Any, ...], dtype: str) -> None:
        self.shape_expr, self.dtype = Expressions.from_tuple(shape), dtype

    def like(self) -> "Description":
        return Description(tuple(self.shape_expr), self.dtype)


@capabilities
def test_the_registration(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the published signatures, by a stand-in: classic TensorRT cannot be installed where this is developed."""
    registered: dict[str, Any] = {}

    def decorator(kind: str) -> Any:
        def register(name: str, function: Any) -> Any:
            assert f"{kind} {name}" not in registered, "TensorRT raises"
            registered[f"{kind} {name}"] = function
            return function

        return lambda name: lambda function: register(name, function)

    trtp = SimpleNamespace(
        register=decorator("register"),
        aot_impl=decorator("aot_impl"),
        TensorDesc=Description,
        ShapeExprs=Expressions,
        SymIntExprs=Expressions,
        SymExprs=Expressions,
        SymInt32=lambda value: ("int32", value),
        KernelLaunchParams=type("KernelLaunchParams", (SimpleNamespace,), {}),
    )
    monkeypatch.setattr(tensorrt_plugin, "_registered", set())
    for _ in range(2):
        tensorrt_plugin.register_plugin(SimpleNamespace(float16="half"), trtp, capability)
    describe = registered["register glia::FragmentSample"]
    compiled = registered["aot_impl glia::FragmentSample"]
    # TensorRT tells inputs from attributes by their annotations, and wants each name in both functions alike.
    hints = {name: item.annotation for name, item in inspect.signature(describe).parameters.items()}
    assert hints == {"images": Description, "sizes": Description, "grid": int, "fragment": int}
    assert list(inspect.signature(compiled).parameters) == [*hints, "outputs", "tactic"]

    images, sizes = Description(("B", "H", "W", 3), "half"), Description(("B", 2), "int64")
    mosaic = describe(images, sizes, 7, 32)
    assert (mosaic.shape_expr, mosaic.dtype) == (["B", 224, 224, 3], "half")
    name, ptx, launch, numbers = compiled(images, sizes, 7, 32, (mosaic,), 0)
    assert f".entry {name}(" in ptx
    assert (launch.grid_x, launch.grid_y, launch.block_x, launch.shared_mem) == ("B", 49, 128, 0)
    assert numbers == [("int32", "H"), ("int32", "W")]


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (ArtifactError("refused; export --to onnx"), "refused; export --to onnx, or leave out --plugin"),
        (BackendError("no GPU left"), "no GPU left"),
        (OSError(28, "No space left on device"), "No space left"),
        (TypeError("another interface"), None),
    ],
)
def test_only_what_the_interface_raises_falls_back_to_the_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, outcome: str | None
) -> None:
    def register(*given: object) -> None:
        raise raised

    monkeypatch.setattr(tensorrt_plugin, "import_module", lambda name: SimpleNamespace())
    monkeypatch.setattr(tensorrt_plugin, "register_plugin", register)
    said: list[str] = []
    compiler = Compiler(CLASSIC, SimpleNamespace(__version__="1"), ("8.9",))

    def build() -> bool:
        engine = tmp_path / "engine"
        return tensorrt_plugin.build_with_plugin(
            onnx.ModelProto(), engine, compiler, {}, lambda *step: None, said.append
        )

    if outcome is None:
        assert not build()
        assert said == ["--plugin: left out (another interface); the fragments are standard operators"]
    else:
        with pytest.raises(type(raised), match=outcome):
            build()
        assert not said
    assert not list(tmp_path.iterdir())
