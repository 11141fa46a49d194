"""What a TensorRT engine is built for: which GPUs, how many pictures at once, of what size."""

import re
from dataclasses import dataclass

from glia.ops.resize import LONGEST_SIDE
from glia_runtime.errors import UsageError
from glia_runtime.manifest import InputKind, Limits, input_names
from glia_runtime.probe import PROBE_SIZES
from glia_runtime.view_spec import ViewSpec
from glia_runtime.views import VIEW_SIZE

Shape = tuple[int, ...]

LARGEST_SIZE = 4096
"""Default of `max_size`. An engine reserves memory for the largest batch of the largest pictures: at 8 of 4096x4096
some 3 GB for their pixels in float32, before and after transposition.
"""

# "image" as many as the runtime scores at once unless told otherwise, for the memory's sake; views take 0.3 MB each.
_MAX_BATCH: dict[InputKind, int] = {"image": 8, "views": 64}
_OPT_BATCH = 8
# One megapixel: what most pictures on the web come near to.
_OPT_SIZE = 1024
_SMALLEST_MAX_SIZE = max(map(max, PROBE_SIZES))
_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")


@dataclass(frozen=True)
class EngineOptions:
    """Options of the targets "trt" and "trt-rtx"; None is the default, which may depend on the input.

    Attributes:
        compute_capabilities: of the GPUs that shall run the engine, "8.9" for an RTX 4090; empty for this machine's
            GPU, and where there is none 8.9.
        min_batch, opt_batch, max_batch: pictures in one run: the fewest, those it is tuned for, the most.
        max_size: longest side of a picture in pixels; for the "image" input only.
        plugin: sample fragments by `glia_export.tensorrt_plugin`, where classic TensorRT builds.
    """

    compute_capabilities: tuple[str, ...] = ()
    min_batch: int | None = None
    opt_batch: int | None = None
    max_batch: int | None = None
    max_size: int | None = None
    plugin: bool = False

    def __post_init__(self) -> None:
        """Accept any sequence of compute capabilities."""
        object.__setattr__(self, "compute_capabilities", tuple(dict.fromkeys(self.compute_capabilities)))


@dataclass(frozen=True)
class Profile:
    """`EngineOptions` for one input, defaults filled in."""

    kind: InputKind
    views: ViewSpec
    min_batch: int
    opt_batch: int
    max_batch: int
    max_size: int

    @property
    def limits(self) -> Limits:
        """What the manifest tells the runtime."""
        if self.kind == "views":
            return Limits(max_batch=self.max_batch)
        return Limits(max_batch=self.max_batch, max_height=self.max_size, max_width=self.max_size)

    @property
    def shapes(self) -> dict[str, tuple[Shape, Shape, Shape]]:
        """Of each graph input the smallest, the usual and the largest shape."""
        batches = (self.min_batch, self.opt_batch, self.max_batch)
        names = input_names(self.kind, self.views)
        if self.kind == "views":
            return dict.fromkeys(names, _three([(batch, *self.views.shape) for batch in batches]))
        sides = (VIEW_SIZE, min(_OPT_SIZE, self.max_size), self.max_size)
        images, sizes = names
        return {
            images: _three([(batch, side, side, 3) for batch, side in zip(batches, sides, strict=True)]),
            sizes: _three([(batch, 2) for batch in batches]),
        }


def profile_of(options: EngineOptions, kind: InputKind, views: ViewSpec) -> Profile:
    """Check `options` and fill in what they leave open; where a picture is many crops, with fewer pictures.

    Raises:
        UsageError: they contradict one another or the input, or are out of range.
    """
    for capability in options.compute_capabilities:
        if not _CAPABILITY.fullmatch(capability):
            raise UsageError(f"--compute-capability {capability}: write it like 8.9 (an RTX 4090)")
    if options.max_size is not None and kind == "views":
        raise UsageError("--max-size is for --input image: views have one size")
    named = (options.min_batch, options.opt_batch, options.max_batch)
    known = [batch for batch in named if batch is not None]
    if known != sorted(known) or min(known, default=1) < 1:
        raise UsageError(
            f"batches of {', '.join(map(str, known))}: each must be 1 or more, "
            "and --min-batch, --opt-batch and --max-batch in rising order"
        )
    min_batch = 1 if options.min_batch is None else options.min_batch
    # What is left open gives way to what is named.
    max_batch = max(_MAX_BATCH[kind] // views.looks, *known, 1) if options.max_batch is None else options.max_batch
    opt_batch = (
        min(max(_OPT_BATCH // views.looks, min_batch), max_batch) if options.opt_batch is None else options.opt_batch
    )
    max_size = LARGEST_SIZE if options.max_size is None else options.max_size
    if not _SMALLEST_MAX_SIZE <= max_size <= LONGEST_SIDE:
        raise UsageError(
            f"--max-size {max_size}: choose {_SMALLEST_MAX_SIZE} (the longest side of a self-test picture) "
            f"to {LONGEST_SIDE}"
        )
    return Profile(kind, views, min_batch, opt_batch, max_batch, max_size)


def _three(shapes: list[Shape]) -> tuple[Shape, Shape, Shape]:
    smallest, usual, largest = shapes
    return smallest, usual, largest
