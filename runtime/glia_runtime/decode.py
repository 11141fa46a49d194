"""A picture file becomes uint8 RGB pixels, or one clear line says why not.

What happens to the uncommon kinds:

- EXIF orientation is applied. Animated pictures give their first frame. Palette, greyscale, CMYK, YCbCr
  become RGB by Pillow's plain conversion; embedded ICC profiles are ignored, as the data sets of the field
  ignore them.
- Transparency is composited on **white**, the page that most transparent pictures are drawn for.
- Samples of 12 and 16 bits are scaled to 8 by dropping the low ones, which is what Pillow does to 16-bit
  colour; grey and colour of the same picture therefore agree. Nothing is clipped. 32-bit, signed and
  floating-point samples are refused: nothing in such a file says which number is white.
- A truncated file is refused: half a picture has no score.

Pillow decides what a picture is and which files are refused. The pixels of an ordinary JPEG come from simplejpeg
where that is installed (`pip install 'glia[jpeg]'`): the same ones, as both run libjpeg-turbo, in two thirds of the
time.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError, features
from PIL.ImageFile import ImageFile

from glia_runtime.errors import ImageError
from glia_runtime.fragments import Image
from glia_runtime.views import MAX_PIXELS, pixels

Source = str | bytes | os.PathLike[str]

_COMMON = ("JPEG", "PNG", "BMP", "GIF", "PPM")
"""Formats whose Pillow plugins `Image.open` loads first; the others cost some 20 ms of imports."""

_FORMATS = (*_COMMON, "AVIF", "DIB", "ICO", "JPEG2000", "QOI", "TGA", "TIFF", "WEBP")
"""All formats glia reads. A closed list, because some of Pillow's others (EPS) start programs to render a
file.
"""

_EXIF_ORIENTATION = 0x0112
_TIFF_BITS_PER_SAMPLE = 0x0102
_TIFF_PHOTOMETRIC = 0x0106
_TIFF_WHITE_IS_ZERO = 0
_TRANSPOSE = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}

# Pillow logs oddities of damaged files; without a handler Python would print them on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(source: Source) -> Image:
    """Decode a picture, given as a path or as the bytes of a file, to RGB: uint8 [H, W, 3], EXIF-oriented,
    contiguous.

    Safe to call from several threads. See the module for the uncommon kinds of picture.

    Raises:
        ImageError: the file is missing, a directory, not a regular file (a pipe or device would block),
            unreadable, empty, not a picture, truncated or damaged, of a kind without defined 8-bit values, or
            larger than `glia_runtime.views.MAX_PIXELS`.
    """
    return pixels(decode_picture(source))


def decode_picture(source: Source, name: str | None = None) -> PillowImage.Image:
    """As `decode`, to a Pillow picture of mode RGB or RGBX, its fourth channel without meaning.

    Args:
        source: a path, or the bytes of a file.
        name: what errors call it; None is the path, or "<bytes>".
    """
    if isinstance(source, bytes):
        name = name or "<bytes>"
        if not source:
            raise ImageError(f"{name}: no data; pass the contents of an image file")
        return _decode_file(io.BytesIO(source), name)
    with _open_regular_file(source) as file:
        return _decode_file(file, name or os.fspath(source))


def _open_regular_file(path: str | os.PathLike[str]) -> BinaryIO:
    name = os.fspath(path)
    try:
        # stat before open: opening a device can already have effects, opening a pipe waits for a writer.
        _check_regular(os.stat(name), name)  # noqa: PTH116 -- Path() would cost more than the call
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            _check_regular(os.fstat(descriptor), name)
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise ImageError(f"{name}: permission denied; make it readable (chmod +r)") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise ImageError(f"{name}: cannot be opened ({_reason(error)}); check the path") from error
    return os.fdopen(descriptor, "rb")


def _check_regular(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        pattern = Path(name) / "*"
        raise ImageError(f"{name}: is a directory; name the pictures in it, for example {pattern}")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name}: is a pipe, socket or device; save the picture to a file first")
    if status.st_size == 0:
        raise ImageError(f"{name}: the file is empty; copy it again from its source")


def _decode_file(file: BinaryIO, name: str) -> PillowImage.Image:
    with _quiet_pillow():
        try:
            opened = _open(file, name)
            picture = _fast_jpeg(opened, file) or _to_rgb(opened, name)
            orientation = _orientation(opened)
            return picture.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else picture
        except ImageError:
            raise
        except PillowImage.DecompressionBombError as error:
            raise _too_large(name) from error
        except MemoryError as error:
            raise ImageError(f"{name}: not enough memory to decode it; make the picture smaller") from error
        # Pillow's plugins raise whatever their parsing trips over on damaged files (SyntaxError,
        # struct.error, zlib.error, KeyError, ...), so no shorter list is safe.
        except Exception as error:
            raise ImageError(
                f"{name}: truncated or damaged ({_reason(error)}); copy it again from its source"
            ) from error


def _open(file: BinaryIO, name: str) -> ImageFile:
    try:
        picture = PillowImage.open(file, formats=_COMMON)
    except UnidentifiedImageError:
        file.seek(0)
        PillowImage.init()
        formats = [name for name in _FORMATS if name in PillowImage.OPEN]  # a build may lack some (AVIF)
        try:
            picture = PillowImage.open(file, formats=formats)
        except UnidentifiedImageError as error:
            raise ImageError(
                f"{name}: not a picture glia can read, or its header is damaged; "
                "convert it to JPEG or PNG, or leave it out"
            ) from error
    width, height = picture.size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: the header says {width}x{height} pixels; copy it again from its source")
    if width * height > MAX_PIXELS:  # in case the caller has raised Pillow's own limit
        raise _too_large(name)
    return picture


def _fast_jpeg(picture: ImageFile, file: BinaryIO) -> PillowImage.Image | None:
    """The pixels by simplejpeg, or None where Pillow's are not the same for certain."""
    # Only where Pillow uses libjpeg-turbo too: other libraries round otherwise. Not for CMYK, which differs by 1 or 2.
    if picture.format != "JPEG" or picture.mode not in ("RGB", "L") or (simplejpeg := _simplejpeg()) is None:
        return None
    file.seek(0)
    try:
        # Four channels, because Pillow can take those as they lie; strict, because a damaged file is Pillow's to judge.
        rgbx = simplejpeg.decode_jpeg(file.read(), "RGBX", strict=True)
    except ValueError:
        return None
    return PillowImage.frombuffer("RGBX", picture.size, rgbx, "raw", "RGBX", 0, 1)


@cache
def _simplejpeg() -> Any:
    """The module, which ships no types, or None where it is not installed or would give other pixels."""
    try:
        return import_module("simplejpeg") if features.check_feature("libjpeg_turbo") else None
    except ImportError:
        return None


def _to_rgb(picture: ImageFile, name: str) -> PillowImage.Image:
    # Asked before the pixels are read: afterwards nothing tells that colours had 16 bits.
    deep_png = picture.format == "PNG" and any("16" in str(tile.args) for tile in picture.tile)
    picture.load()
    # Mode "I" holds 32-bit integers: those of a TIFF file itself; those of other formats Pillow has scaled to 16 bits.
    if picture.mode == "F" or (picture.mode == "I" and picture.format == "TIFF"):
        raise ImageError(
            f"{name}: 32-bit, signed and floating-point pixels have no defined white; "
            "save it with 8 or 16 unsigned bits"
        )
    rgb: PillowImage.Image = picture
    if picture.mode.startswith("I"):
        rgb = _scale_to_8_bits(picture)
    elif deep_png and isinstance(key := picture.info.get("transparency"), tuple):
        # Pillow has dropped the low bytes of the colours, and compares the colour key whole.
        picture.info["transparency"] = tuple(sample >> 8 for sample in key)
    if rgb.has_transparency_data:
        rgb = rgb.convert("RGBA")
        white = PillowImage.new("RGBA", rgb.size, (255, 255, 255, 255))
        rgb = PillowImage.alpha_composite(white, rgb)
    return rgb if rgb.mode == "RGB" else rgb.convert("RGB")


def _scale_to_8_bits(picture: PillowImage.Image) -> PillowImage.Image:
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    # A TIFF file of 12 bits is the one kind that Pillow leaves unscaled.
    bits: int = tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
    samples = np.asarray(picture)
    grey = (samples >> (bits - 8)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:  # Pillow inverts such files of 8 bits only
        grey = 255 - grey
    if "transparency" in picture.info:  # the grey level of a PNG's transparent pixels
        grey[samples == picture.info["transparency"]] = 255
    return PillowImage.fromarray(grey)


def _orientation(picture: PillowImage.Image) -> int:
    try:
        value = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not damage the pixels; viewers show such a picture unrotated
        return 1
    return value if isinstance(value, int) else 1


def _too_large(name: str) -> ImageError:
    return ImageError(f"{name}: the header says more than {MAX_PIXELS:,} pixels; crop it or make it smaller")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


_quiet_lock = threading.Lock()
_quiet_depth = 0
_QUIET_FILTER: tuple[object, ...] = ()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore the warnings that Pillow raises about a file while at least one thread decodes.

    `warnings.catch_warnings` restores a global list and is not safe across threads; this counts its users
    under a lock and hides warnings of Pillow's own modules only.
    """
    global _quiet_depth, _QUIET_FILTER
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_depth == 1:
            warnings.filterwarnings("ignore", module=r"PIL\.|glia_runtime\.decode")
            _QUIET_FILTER = warnings.filters[0]
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0 and _QUIET_FILTER in warnings.filters:
                warnings.filters.remove(_QUIET_FILTER)  # type: ignore[attr-defined]
