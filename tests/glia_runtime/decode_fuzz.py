"""Decode damaged files, and compare each verdict with Pillow's own: ``python -m tests.glia_runtime.decode_fuzz 10000``.

The files are small pictures of every format, mutated by a seeded generator, so file number N is the same in every
run with the same Pillow. It prints a count of the outcomes; a file that Pillow refuses and glia does not, a JPEG with
other pixels, an error that is not one clear line, a crash or more than `SECONDS` of computing end it with an error.
"""

from __future__ import annotations

import faulthandler
import io
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from glia_runtime import ImageError
from glia_runtime.decode import decode

SECONDS = 10
PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "images").glob("*.jpg"))


def seeds() -> list[bytes]:
    """Small files: each photograph of the project, in turn, in every format and flavour that Pillow can write."""
    turned = Image.Exif()
    turned[0x0112] = 6
    flavours: list[tuple[str, str, dict[str, Any]]] = [
        ("JPEG", "RGB", {}),
        (
            "JPEG",
            "RGB",
            {"progressive": True, "exif": turned},
        ),
        ("JPEG", "RGB", {"subsampling": "4:2:2", "restart_marker_blocks": 3}),
        ("JPEG", "RGB", {"subsampling": "4:4:4", "optimize": True}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "I;16", {}),
        ("PNG", "1", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("AVIF", "RGB", {"speed": 10}),
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "L", {"compression": "tiff_lzw"}),
        ("TIFF", "CMYK", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "I;16", {"compression": "packbits"}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("GIF", "P", {}),
        ("PPM", "RGB", {}),
        ("TGA", "RGB", {"compression": "tga_rle"}),
        ("ICO", "RGBA", {}),
        ("JPEG2000", "RGB", {}),
    ]
    files = []
    Image.init()
    for index, (format_, mode, options) in enumerate(flavours):
        if format_ not in Image.SAVE:  # a build may lack AVIF
            continue
        with Image.open(PHOTOGRAPHS[index % len(PHOTOGRAPHS)]) as photograph:
            small = photograph.convert("L" if mode == "I;16" else "RGB").resize((37 + index, 31))
        small = Image.fromarray(np.asarray(small).astype(np.uint16) * 257) if mode == "I;16" else small.convert(mode)
        file = io.BytesIO()
        small.save(file, format_, **options)
        files.append(file.getvalue())
    return files


def mutated(files: list[bytes], number: int) -> bytes:
    """File `number`: one of `files` with one to four bytes or stretches changed, moved, added or cut off."""
    rng = np.random.default_rng(number)
    data = bytearray(files[number % len(files)])
    for _ in range(rng.integers(1, 5)):
        # Half of the damage goes to the first 256 bytes, where the headers are.
        at = int(rng.integers(0, min(len(data), 256) if rng.random() < 0.5 else len(data)))
        end = min(len(data), at + int(rng.integers(1, 33)))
        match int(rng.integers(0, 7)):
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at] = int(rng.choice([0x00, 0x01, 0x7F, 0x80, 0xFF]))
            case 2:
                data[at:end] = rng.bytes(end - at)
            case 3:
                data[at:end] = b""
            case 4:
                data[at:at] = data[at:end] * 2
            case 5:
                data[at:end] = bytes(end - at)
            case _:
                if rng.random() < 0.3:  # not too often: little else is seen of a file that was cut
                    del data[max(at, 8) :]
        if len(data) < 2:
            break
    return bytes(data)


def pillow_says(data: bytes) -> Image.Image | None:
    """Pillow's picture, loaded and turned, or None where Pillow refuses the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                try:
                    return ImageOps.exif_transpose(picture)
                except Exception:  # damaged EXIF
                    return picture.copy()
        except Exception:
            return None


def check(data: bytes) -> str:
    """Decode `data` and return the outcome; raise AssertionError when it is not one that is promised."""
    picture = pillow_says(data)
    try:
        image = decode(data)
    except ImageError as error:
        assert str(error).startswith("<bytes>: ") and "\n" not in str(error), repr(str(error))
        return "refused by both" if picture is None else "refused by glia"
    assert picture is not None, "glia made pixels of a file that Pillow refuses"
    assert image.dtype == np.uint8 and image.shape == (picture.height, picture.width, 3)
    if picture.mode in ("RGB", "L") and not picture.has_transparency_data:
        assert np.array_equal(image, np.asarray(picture.convert("RGB"))), "other pixels than Pillow's"
    return "decoded by both"


def main(count: int, first: int = 0) -> None:
    """Check `count` files from number `first` on."""
    files, outcomes, slowest = seeds(), Counter[str](), 0.0
    # Computing time, because a busy machine is not a hang. The traceback is printed, then the signal ends the process.
    faulthandler.register(signal.SIGPROF, chain=True)
    for number in range(first, first + count):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        begun = time.process_time()
        try:
            outcomes[check(mutated(files, number))] += 1
        except BaseException:
            print(f"file {number}:", file=sys.stderr)
            raise
        slowest = max(slowest, time.process_time() - begun)
    signal.setitimer(signal.ITIMER_PROF, 0)
    print(dict(sorted(outcomes.items())), f"slowest {slowest:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
