"""Every uncommon kind of picture, and every way a file can fail to be one."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from glia_runtime import ImageError, sample_views
from glia_runtime.decode import decode
from tests.shapes import noise_image


def encoded(picture: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def smooth(height: int = 60, width: int = 80) -> Image.Image:
    """A gradient with a different slope in each channel, which JPEG keeps to within a few levels."""
    row, column = np.mgrid[0:height, 0:width]
    pixels = np.stack([row * 3, column * 2, 255 - row - column], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with_header(width: int, height: int) -> bytes:
    """A valid PNG file but for its size: 8-bit grey, one row of data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png(width: int, samples: npt.NDArray[np.uint16], *, colour_type: int, key: list[int]) -> bytes:
    """A PNG of one row of 16-bit samples with a transparent colour; type 0 is grey, 2 RGB."""
    header = struct.pack(">IIBBBBB", width, 1, 16, colour_type, 0, 0, 0)
    transparent = png_chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" + samples.tobytes()))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + transparent + pixels + png_chunk(b"IEND", b"")


def tiff(width: int, data: bytes, *, bits: int, sample_format: int, photometric: int = 1) -> bytes:
    """An uncompressed grey TIFF of one row; sample format 1 is unsigned, 2 signed; photometric 0: zero is white."""
    entries = {
        256: width,
        257: 1,
        258: bits,
        259: 1,
        262: photometric,
        273: 0,
        277: 1,
        278: 1,
        279: len(data),
        339: sample_format,
    }
    entries[273] = 8 + 2 + 12 * len(entries) + 4  # where the data starts
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(4) + data


JPEG = encoded(smooth(), "JPEG", quality=95)
PNG = encoded(smooth(), "PNG")


@pytest.mark.parametrize("format_", ["PNG", "BMP", "PPM", "TIFF", "TGA", "QOI"])
def test_lossless_formats_are_exact(format_: str) -> None:
    image = noise_image(61, 83)
    if format_ == "QOI":
        pytest.importorskip("PIL.QoiImagePlugin")
    assert np.array_equal(decode(encoded(Image.fromarray(image), format_)), image)


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_formats_are_close(format_: str) -> None:
    Image.init()
    if format_ not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {format_}")
    picture = smooth()
    image = decode(encoded(picture, format_))
    assert image.dtype == np.uint8
    # Lossy at default quality: a mean of 4 levels is far from any mix-up of channels (tens of levels).
    assert np.abs(image.astype(int) - np.asarray(picture).astype(int)).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation: int, format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(40, 70), format_, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(decode(data), np.asarray(upright))


def test_damaged_exif_is_ignored() -> None:
    data = encoded(smooth(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9)
    assert decode(data).shape == (60, 80, 3)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(4, 256)
    for format_ in ("PNG", "TIFF", "PPM"):
        image = decode(encoded(Image.fromarray(ramp), format_))
        assert np.array_equal(image[:, :, 0], ramp >> 8)
        assert (image[:, :, 0] == image[:, :, 2]).all()


def test_16_bit_grey_and_colour_agree() -> None:
    """PPM has both; Pillow reads 16-bit colour into 8 bits itself, and 16-bit grey into mode I."""
    levels = np.arange(0, 65536, 257, dtype=">u2")  # v * 257: the 16-bit form of 8-bit v
    grey = b"P5 256 1 65535\n" + levels.tobytes()
    colour = b"P6 256 1 65535\n" + np.repeat(levels, 3).tobytes()
    assert np.array_equal(decode(grey)[0, :, 0], np.arange(256))
    assert np.array_equal(decode(grey), decode(colour))


def test_16_bit_grey_tiff_where_zero_is_white() -> None:
    """Pillow inverts such a file of 8 bits, and hands on one of 16 as a negative."""
    levels = np.arange(0, 65536, 257, dtype="<u2")
    data = tiff(256, levels.tobytes(), bits=16, sample_format=1, photometric=0)
    assert np.array_equal(decode(data)[0, :, 0], 255 - np.arange(256))


def test_the_colour_key_of_a_16_bit_png() -> None:
    grey = np.array([0, 1000, 1001, 65535], ">u2")  # 1001 is the same level in 8 bits, and not transparent
    assert decode(png(4, grey, colour_type=0, key=[1000]))[0, :, 0].tolist() == [0, 255, 3, 255]
    colour = np.array([[0, 0, 0], [256, 512, 768], [256, 512, 1024]], ">u2")
    pixels = decode(png(3, colour, colour_type=2, key=[256, 512, 768]))[0].tolist()
    assert pixels == [[0, 0, 0], [255, 255, 255], [1, 2, 4]]


def test_12_bit_grey_is_scaled_by_its_own_range() -> None:
    """Pillow leaves the samples of such a TIFF at 0..4095, which as 16-bit ones would be nearly black."""
    levels = np.arange(256) * 4095 // 255
    bits = np.unpackbits(levels.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 4:]
    image = decode(tiff(256, np.packbits(bits).tobytes(), bits=12, sample_format=1))
    assert np.array_equal(image[0, :, 0], levels >> 4)
    assert image[0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("pixels", [np.arange(256), np.arange(256) * 257, np.arange(-128, 128)])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_samples_without_a_defined_white_are_refused(pixels: npt.NDArray[Any], dtype: type) -> None:
    """Whatever the numbers are: 0..255 in one file does not make 255 the white of the next."""
    data = encoded(Image.fromarray(pixels.astype(dtype).reshape(16, 16)), "TIFF")
    with pytest.raises(ImageError, match="no defined white; save it with 8 or 16 unsigned bits"):
        decode(data)


@pytest.mark.parametrize(("dtype", "sample_format"), [("<u4", 1), ("<i4", 2), ("<i2", 2)])
def test_integers_that_pillow_does_not_write_are_refused(dtype: str, sample_format: int) -> None:
    samples = np.arange(100, dtype=dtype)
    data = tiff(100, samples.tobytes(), bits=samples.itemsize * 8, sample_format=sample_format)
    with pytest.raises(ImageError, match="no defined white; save it with 8 or 16 unsigned bits"):
        decode(data)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "PA"])
def test_other_modes(mode: str) -> None:
    format_ = {"CMYK": "TIFF", "YCbCr": "TIFF", "PA": "TIFF"}.get(mode, "PNG")
    if mode == "PA":
        mode, format_ = "P", "GIF"
    picture = smooth().convert(mode)
    assert np.array_equal(decode(encoded(picture, format_)), np.asarray(picture.convert("RGB")))


def test_cmyk_jpeg_is_not_inverted() -> None:
    image = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    # Full magenta and yellow is red; JPEG keeps a flat colour to within a few levels.
    assert np.abs(image.reshape(-1, 3).astype(int) - (255, 0, 0)).max() <= 4


def test_lab_is_refused_or_converted() -> None:
    picture = Image.new("LAB", (4, 4))
    try:
        image = decode(encoded(picture, "TIFF"))
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert image.shape == (4, 4, 3)


def test_alpha_is_composited_on_white() -> None:
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)
    image = decode(encoded(Image.fromarray(pixels), "PNG"))
    # alpha 51 is one fifth: 0.2 * colour + 0.8 * 255, to within a rounding of one level
    expected = np.array([[[200, 100, 0], [255, 255, 255], [244, 224, 204]]])
    assert np.abs(image.astype(int) - expected).max() <= 1
    assert np.array_equal(image[:, :2], expected[:, :2])


def test_transparent_palette_and_colour_key() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    for data in (encoded(palette, "PNG", transparency=0), encoded(palette, "GIF", transparency=0)):
        assert decode(data).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert decode(encoded(rgb, "PNG", transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame(format_: str) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:], lossless=True)
    assert (decode(data) == (255, 0, 0)).all()


def test_one_pixel_and_very_wide(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.new("RGB", (1, 1), (9, 8, 7)).save(path)
    assert decode(path).tolist() == [[[9, 8, 7]]]
    wide = decode(encoded(Image.new("RGB", (20000, 8), (9, 8, 7)), "PNG"))
    assert wide.shape == (8, 20000, 3)
    semantic, detail = sample_views(wide)  # enlarged to 224 x 560000 in between
    assert (semantic == (9, 8, 7)).all()
    assert (detail == (9, 8, 7)).all()


def test_the_array_is_the_callers_own() -> None:
    image = decode(PNG)
    assert image.flags.writeable
    assert image.flags.c_contiguous


def failing_files(folder: Path) -> dict[str, tuple[Path | bytes, str]]:
    files: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", "the file is empty"),
        "text.jpg": (b"this is no picture\n" * 50, "not a picture glia can read"),
        "html.png": (b"<!DOCTYPE html><html></html>", "not a picture glia can read"),
        "half.jpg": (JPEG[: len(JPEG) // 2], "truncated or damaged"),
        "half.png": (PNG[: len(PNG) // 2], "truncated or damaged"),
        "half.webp": (encoded(smooth(), "WEBP")[:200], "not a picture|truncated"),
        "half.tiff": (encoded(smooth(), "TIFF")[:5000], "truncated or damaged"),
        "half.gif": (encoded(smooth(), "GIF")[:2000], "truncated or damaged"),
        "header.png": (PNG[:20], "not a picture|truncated"),
        "zero.png": (png_with_header(0, 10), "not a picture|truncated|header says"),
        "bomb.png": (png_with_header(2**31 - 1, 2**31 - 1), "more than 178,956,970 pixels"),
        "large.png": (png_with_header(13378, 13378), "more than 178,956,970 pixels"),
        "warned.png": (png_with_header(10000, 10000), "truncated or damaged"),
        "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
        "new\nline.jpg": (b"text", r"new\\nline.jpg: not a picture"),
    }
    paths: dict[str, tuple[Path | bytes, str]] = {}
    for name, (data, reason) in files.items():
        (folder / name).write_bytes(data)
        paths[name] = (folder / name, reason)
    os.mkfifo(folder / "pipe.jpg")
    paths["pipe.jpg"] = (folder / "pipe.jpg", "is a pipe, socket or device")
    paths["device"] = (Path("/dev/zero"), "is a pipe, socket or device")
    paths["folder"] = (folder, r"is a directory; name the pictures in it, for example .*/\*")
    paths["missing"] = (folder / "missing.jpg", "no such file; check the path")
    paths["under a file"] = (folder / "text.jpg" / "x.jpg", "cannot be opened .Not a directory.")
    paths["nul"] = (Path("a\0b.jpg"), r"a\\x00b.jpg: cannot be opened")
    paths["long"] = (Path("x" * 5000), "cannot be opened .File name too long.")
    (folder / "loop").symlink_to(folder / "loop")
    paths["loop"] = (folder / "loop", "cannot be opened")
    paths["no bytes"] = (b"", "no data")
    return paths


def test_each_failure_is_one_line_naming_the_file(tmp_path: Path) -> None:
    # pytest turns warnings into errors here, so Pillow's warning about "warned.png" would show as another
    # message.
    for name, (source, reason) in failing_files(tmp_path).items():
        with pytest.raises(ImageError, match=reason) as caught:
            decode(source)
        line = str(caught.value)
        assert "\n" not in line, name
        assert "; " in line, f"{name}: no remedy in {line}"
        if isinstance(source, Path) and "\n" not in str(source) and "\0" not in str(source):
            assert line.startswith(f"{source}: "), name


def test_an_unreadable_file() -> None:
    code = """
import os, sys
from glia_runtime.decode import decode
from glia_runtime import ImageError
if os.geteuid() == 0:  # root may read anything: become nobody
    os.setgid(65534); os.setuid(65534)
try:
    decode(sys.argv[1])
except ImageError as error:
    print(error)
"""
    # Not tmp_path, whose parents only this user may enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "secret.png"
        path.write_bytes(PNG)
        path.chmod(0)
        command = [sys.executable, "-c", code, str(path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == f"{path}: permission denied; make it readable (chmod +r)\n", result.stderr


def test_between_pillows_two_limits_a_picture_is_read_quietly() -> None:
    """Pillow warns from 89,478,485 pixels on and refuses at twice that."""
    data = encoded(Image.new("1", (10000, 9000)), "PNG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(data).shape == (9000, 10000, 3)
    assert caught == []


def test_warnings_of_others_still_show_and_filters_are_restored() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(PNG) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_nothing_leaks_on_stderr(tmp_path: Path) -> None:
    """A plain interpreter, Python's default warning filters, damaged metadata of many kinds."""
    failing_files(tmp_path)
    palette = smooth().convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    (tmp_path / "exif.jpg").write_bytes(
        encoded(smooth(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0e\x01\x02\0\xff\xff\0\0\0\0\0\0")
    )
    code = f"""
import os
from pathlib import Path
from glia_runtime.decode import decode
from glia_runtime import ImageError
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    try:
        decode(path)
    except ImageError:
        pass
"""
    result = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, check=False)
    assert result.stderr == b""
    assert result.returncode == 0


@settings(max_examples=60)
@given(st.integers(1, len(JPEG) - 200))
def test_a_jpeg_cut_anywhere_is_refused(size: int) -> None:
    with pytest.raises(ImageError):
        decode(JPEG[:size])
