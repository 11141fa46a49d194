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
"""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from glia_runtime.errors import ImageError
from glia_runtime.fragments import Image
from glia_runtime.views import MAX_PIXELS

Source = str | bytes | os.PathLike[str]

_COMMON = ("JPEG", "PNG", "BMP", "GIF", "PPM")
"""Formats whose Pillow plugins `Image.open` loads first; the others cost some 20 ms of imports."""

_FORMATS = (*_COMMON, "AVIF", "DIB", "ICO", "JPEG2000", "QOI", "TGA", "TIFF", "WEBP")
"""All formats glia reads. A closed list, because some of Pillow's others (EPS) start programs to render a
file.
"""

_EXIF_ORIENTATION = 0x0112
_TIFF_BITS_PER_SAMPLE = 0x0102
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
    if isinstance(source, bytes):
        if not source:
            raise ImageError("<bytes>: no data; pass the contents of an image file")
        return _decode_file(io.BytesIO(source), "<bytes>")
    with _open_regular_file(source) as file:
        return _decode_file(file, os.fspath(source))


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


def _decode_file(file: BinaryIO, name: str) -> Image:
    with _quiet_pillow():
        try:
            return _to_rgb(_open(file, name), name)
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


def _open(file: BinaryIO, name: str) -> PillowImage.Image:
    picture: PillowImage.Image
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


def _to_rgb(picture: PillowImage.Image, name: str) -> Image:
    picture.load()
    orientation = _orientation(picture)
    # Mode "I" holds 32-bit integers: those of a TIFF file itself; those of other formats Pillow has scaled to 16 bits.
    if picture.mode == "F" or (picture.mode == "I" and picture.format == "TIFF"):
        raise ImageError(
            f"{name}: 32-bit, signed and floating-point pixels have no defined white; "
            "save it with 8 or 16 unsigned bits"
        )
    if picture.mode.startswith("I"):
        picture = _scale_to_8_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = PillowImage.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = PillowImage.alpha_composite(white, picture)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if orientation in _TRANSPOSE:
        picture = picture.transpose(_TRANSPOSE[orientation])
    # np.array copies: np.asarray would give a read-only view, which torch.from_numpy warns about.
    return np.array(picture)


def _scale_to_8_bits(picture: PillowImage.Image) -> PillowImage.Image:
    # A TIFF file of 12 bits is the one kind that Pillow leaves unscaled.
    bits: int = getattr(picture, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (16,))[0]
    return PillowImage.fromarray((np.asarray(picture) >> (bits - 8)).astype(np.uint8))


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
