"""simplejpeg gives the very pixels of Pillow where glia uses it, and Pillow decides wherever it does not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from glia_runtime import ImageError
from glia_runtime import decode as decode_module
from glia_runtime.decode import decode
from tests.shapes import noise_image

simplejpeg = pytest.importorskip("simplejpeg")
if not features.check_feature("libjpeg_turbo"):
    pytest.skip("this Pillow runs another libjpeg", allow_module_level=True)

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "images").glob("*.jpg"))
SIZES = [(1, 1), (1, 2), (2, 1), (7, 9), (8, 8), (15, 17), (17, 33), (100, 1), (61, 83)]


def pillows(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each picture decoded: whether simplejpeg made its pixels."""
    seen: list[bool] = []
    fast = decode_module._fast_jpeg

    def noted(*arguments: Any) -> Any:
        picture = fast(*arguments)
        seen.append(picture is not None)
        return picture

    monkeypatch.setattr(decode_module, "_fast_jpeg", noted)
    return seen


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.name)
def test_photographs(path: Path, taken: list[bool]) -> None:
    data = path.read_bytes()
    assert np.array_equal(decode(data), pillows(data))
    assert taken == [True]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 5},
        {"quality": 100},
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 1},
        {"restart_marker_rows": 1},
    ],
    ids=str,
)
def test_what_pillow_writes(subsampling: str, options: dict[str, Any], taken: list[bool]) -> None:
    for size in SIZES:
        for mode in ("RGB", "L"):
            file = io.BytesIO()
            Image.fromarray(noise_image(*size)).convert(mode).save(file, "JPEG", subsampling=subsampling, **options)
            data = file.getvalue()
            assert np.array_equal(decode(data), pillows(data)), (size, mode)
    assert all(taken) and len(taken) == 2 * len(SIZES)


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
def test_the_odd_subsamplings(subsampling: str, taken: list[bool]) -> None:
    for size in SIZES:
        data = simplejpeg.encode_jpeg(noise_image(*size), quality=80, colorsubsampling=subsampling)
        assert np.array_equal(decode(data), pillows(data)), size
    assert all(taken)


def test_colours_kept_as_rgb(taken: list[bool]) -> None:
    file = io.BytesIO()
    Image.fromarray(noise_image(61, 83)).save(file, "JPEG", keep_rgb=True)
    assert np.array_equal(decode(file.getvalue()), pillows(file.getvalue()))
    assert taken == [True]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int, taken: list[bool]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(noise_image(40, 70)).save(file, "JPEG", exif=exif)
    assert np.array_equal(decode(file.getvalue()), pillows(file.getvalue()))
    assert taken == [True]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_cmyk_is_left_to_pillow(subsampling: str, taken: list[bool]) -> None:
    """libjpeg-turbo's own conversion differs from Pillow's by 1 or 2 levels."""
    file = io.BytesIO()
    Image.fromarray(noise_image(61, 83)).convert("CMYK").save(file, "JPEG", subsampling=subsampling)
    assert np.array_equal(decode(file.getvalue()), pillows(file.getvalue()))
    assert taken == [False]


def test_damaged_files_are_left_to_pillow(taken: list[bool]) -> None:
    data = PHOTOGRAPHS[0].read_bytes()
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode(data[: len(data) // 2])
    damaged = bytearray(data)
    damaged[len(data) // 2 : len(data) // 2 + 64] = bytes(64)  # Pillow reads on after that
    assert np.array_equal(decode(bytes(damaged)), pillows(bytes(damaged)))
    assert taken == [False, False]


def test_without_simplejpeg(monkeypatch: pytest.MonkeyPatch, taken: list[bool]) -> None:
    monkeypatch.setattr(decode_module, "_simplejpeg", lambda: None)
    data = PHOTOGRAPHS[0].read_bytes()
    assert np.array_equal(decode(data), pillows(data))
    assert taken == [False]
