"""Pictures for measuring."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.shapes import noise_image


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five small JPEG files of mixed sizes and brightness; the last one lies on its side (EXIF orientation 6)."""
    folder = tmp_path_factory.mktemp("photographs")
    paths = []
    for index, (height, width) in enumerate([(240, 320), (224, 224), (300, 231), (226, 500), (240, 360)]):
        pixels = (noise_image(height, width) * (0.3 + 0.15 * index)).astype(np.uint8)
        exif = Image.Exif()
        if index == 4:
            exif[0x0112] = 6
        paths.append(folder / f"{index}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90, exif=exif)
    return paths
