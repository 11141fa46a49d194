"""What the tests of datasets share."""

import numpy as np

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
