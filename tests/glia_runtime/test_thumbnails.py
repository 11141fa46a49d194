"""Thumbnails: small JPEG files with the picture's shape and colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glia_runtime import Scorer, UsageError
from glia_runtime.decode import decode
from glia_runtime.thumbnails import thumbnail
from tests.shapes import noise_image


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (300, 400, (120, 160)),
        (400, 300, (160, 120)),
        (100, 70, (100, 70)),
        (1, 1, (1, 1)),
        (8, 20000, (1, 160)),
        (3000, 2000, (160, 107)),
    ],
)
def test_its_size(height: int, width: int, expected: tuple[int, int]) -> None:
    small = Image.open(io.BytesIO(thumbnail(noise_image(height, width), 160)))
    assert small.format == "JPEG"
    assert (small.height, small.width) == expected


def test_its_colours() -> None:
    image = np.zeros((400, 600, 3), np.uint8)
    image[:200, :300], image[200:, 300:] = (200, 30, 60), (20, 90, 220)
    # every second column of a wider picture: not contiguous
    small = decode(thumbnail(np.repeat(image, 2, axis=1)[:, ::2], 60))
    # JPEG of quality 70 keeps an even area to a few grey levels.
    np.testing.assert_allclose(small[8, 12], (200, 30, 60), atol=8)
    np.testing.assert_allclose(small[-8, -12], (20, 90, 220), atol=8)


def test_one_of_a_decoded_picture_is_that_of_its_pixels() -> None:
    """Its fourth channel has no meaning, and it stays as it is."""
    image = noise_image(300, 500)
    picture = Image.fromarray(np.dstack([image, np.arange(500, dtype=np.uint8) * np.ones((300, 1), np.uint8)]), "RGBX")
    before = picture.tobytes()
    assert thumbnail(picture, 100) == thumbnail(image, 100)
    assert picture.tobytes() == before


def test_streams_carry_them_on_request(artifact: Path, pictures: list[Path]) -> None:
    scorer = Scorer.open(artifact)
    paths = [*pictures, Path("missing.png")]
    results = list(scorer.stream(paths, thumbnails=100))
    pairs = [(path.name, picture) for path in pictures for picture in (path.read_bytes(), decode(path))]
    given = [result.thumbnail for result in scorer.stream(pairs, thumbnails=100)]
    assert given == [result.thumbnail for result in results[:-1] for _ in range(2)]
    assert [result.thumbnail for result in results] == [*(thumbnail(decode(path), 100) for path in pictures), None]
    assert [result.thumbnail for result in scorer.stream(pictures)] == [None] * len(pictures)
    with pytest.raises(UsageError, match="thumbnails is 0"):
        scorer.stream(pictures, thumbnails=0)
