"""The ONNX form of fragment sampling: the body of the node `glia::FragmentSample`, in standard operators.

An engine that knows the node may bring its own kernel (a TensorRT plugin); others (ONNX Runtime,
TensorRT-RTX) inline the body. For an engine that does neither (OpenVINO) there is
`onnx.inliner.inline_local_functions(model)`.
"""

import onnx
import onnx.parser
from onnx import TensorProto

from glia_runtime.errors import UsageError
from glia_runtime.fragments import FragmentSpec

FUNCTION_DOMAIN = "glia"
FUNCTION_NAME = "FragmentSample"

OLDEST_OPSET = 15
"""`Shape` takes `start` and `end` from opset 15 on."""

# Cast comes first because TensorRT lets a UINT8 tensor feed nothing else. It converts the whole picture (in
# ONNX Runtime, on one core, 8 ms for 12 megapixels to FLOAT and 53 ms to FLOAT16), but so does the semantic
# view beside it, and ONNX Runtime merges two equal Casts.
# Without offsets a cell's start is never negative: clamping from above is enough.
_BODY = """
<opset_import: ["" : {opset}], domain: "{domain}">
{name} <grid: int = {grid}, fragment: int = {fragment}> (images, sizes) => (mosaic)
{{
    cells = Constant <value_int: int = @grid> ()
    side = Constant <value_int: int = @fragment> ()
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    axis_1 = Constant <value_ints: ints = [1]> ()
    axis_2 = Constant <value_ints: ints = [2]> ()
    axes_1_2 = Constant <value_ints: ints = [1, 2]> ()
    flat = Constant <value_ints: ints = [-1, 3]> ()

    size = Mul (cells, side)
    position = Range (zero, size, one)
    cell = Div (position, side)
    within = Mod (position, side)

    step = Div (sizes, cells)
    step_column = Unsqueeze (step, axis_2)
    corner = Mul (step_column, cell)
    limit = Sub (sizes, side)
    limit_column = Unsqueeze (limit, axis_2)
    start = Min (corner, limit_column)
    source = Add (start, within)
    source_row = Gather <axis: int = 1> (source, zero)
    source_column = Gather <axis: int = 1> (source, one)

    batch = Shape <start: int = 0, end: int = 1> (images)
    height = Shape <start: int = 1, end: int = 2> (images)
    width = Shape <start: int = 2, end: int = 3> (images)
    batch_scalar = Squeeze (batch)
    image = Range (zero, batch_scalar, one)
    first_row = Mul (image, height)
    first_row_column = Unsqueeze (first_row, axes_1_2)
    row = Unsqueeze (source_row, axis_2)
    column = Unsqueeze (source_column, axis_1)
    row_in_batch = Add (first_row_column, row)
    row_address = Mul (row_in_batch, width)
    address = Add (row_address, column)

    values = Cast <to: int = {dtype}> (images)
    pixels = Reshape (values, flat)
    mosaic = Gather <axis: int = 0> (pixels, address)
}}
"""


def fragment_sample_function(opset: int, dtype: int = TensorProto.FLOAT) -> onnx.FunctionProto:
    """Return the model-local function `glia::FragmentSample` (GLIANet, Eq. 1-2; offsets zero).

    Inputs: images uint8 [B, H, W, 3], a padded batch whose padding is never read; sizes int64 [B, 2], the
    true height and width, each at least `fragment`. Output: mosaic [B, S, S, 3], S = grid * fragment, the
    exact integers 0..255 of `glia_runtime.fragments.fragment_sample`. Attributes: grid and fragment,
    integers, by default those of `FragmentSpec()`.

    Args:
        opset: version of the standard operators; onnx.checker wants the one that the model itself imports.
        dtype: the mosaic's element type, FLOAT or FLOAT16 (which holds every integer up to 2048 exactly).

    Raises:
        UsageError: `opset` is older than `OLDEST_OPSET`, or `dtype` is another type.

    """
    if opset < OLDEST_OPSET:
        raise UsageError(f"glia::FragmentSample needs opset {OLDEST_OPSET} or newer, not {opset}: raise --opset")
    if dtype not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise UsageError(f"glia::FragmentSample makes FLOAT or FLOAT16, not {TensorProto.DataType.Name(dtype)}")
    spec = FragmentSpec()
    return onnx.parser.parse_function(
        _BODY.format(
            opset=opset,
            domain=FUNCTION_DOMAIN,
            name=FUNCTION_NAME,
            grid=spec.grid,
            fragment=spec.fragment,
            dtype=dtype,
        )
    )
