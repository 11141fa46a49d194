"""Pictures made by integer arithmetic alone, the same bytes on every machine, to check an artifact against
its manifest.

Nothing is stored: the manifest keeps the scores these pictures had under the PyTorch fp32 model, and whoever
    opens the artifact, on whatever hardware, can score them again. No side is under 224, so nothing is
    enlarged and no floating-point filter comes before the views.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from glia_runtime.fragments import Image

PROBE_SIZES = ((224, 224), (225, 301), (347, 241), (230, 1009), (480, 640))
"""(height, width) of the probe pictures: the smallest, not divisible divide, primes, very wide, ordinary.
"""

Plane = npt.NDArray[np.int64]


def probe_images() -> list[Image]:
    """The probe pictures, uint8 [H, W, 3] each, of sizes `PROBE_SIZES`, from smooth to noisy."""
    return [_draw(height, width, index) for index, (height, width) in enumerate(PROBE_SIZES)]


def _draw(height: int, width: int, index: int) -> Image:
    """Broad waves, a chequerboard that gets finer, and noise that gets stronger with `index`."""
    row, column, channel = np.meshgrid(
        np.arange(height, dtype=np.int64),
        np.arange(width, dtype=np.int64),
        np.arange(3, dtype=np.int64),
        indexing="ij",
    )
    waves = _triangle(row + 2 * column + 37 * channel, 96 - 16 * index) + _triangle(3 * row - column, 160)
    square = 40 >> index
    chequers = ((row // (square + 1) + column // (square + 1)) % 2) * 64
    noise = _hash(row, column, channel + 3 * index) % (1 + 24 * index)
    image: Image = ((waves + chequers + noise) % 256).astype(np.uint8)
    return image


def _triangle(position: Plane, period: int) -> Plane:
    """A triangle wave of values 0..96 with the given period in pixels."""
    phase = position % period
    return 96 * np.minimum(phase, period - phase) * 2 // period


def _hash(row: Plane, column: Plane, salt: Plane) -> Plane:
    """Pseudo-random integers 0..32767, two linear congruential steps; no product reaches 2^63."""
    state = (row * 73_856_093 + column * 19_349_663 + salt * 83_492_791) % 2_147_483_647
    for _ in range(2):
        state = (state * 1_103_515_245 + 12_345) % 2_147_483_647
    return state >> 16
