"""Remake the photographs in this folder from those that scikit-image packages.

    python images/make.py            write every photograph
    python images/make.py --check    compare with what lies here; exit status 1 when something differs

Needs Pillow, NumPy and scikit-image (the ``train`` extra). The sources are in the scikit-image wheel, so
nothing is downloaded. Sources, authors and licences: README.md beside this file.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFilter
from skimage import data

FOLDER = Path(__file__).resolve().parent

# High enough that the undamaged pictures show no blocks, low enough that all eight stay under 1 MB together.
QUALITY = 93

# Largest mean absolute difference, in grey levels, between a photograph here and the same one remade. Another
# release of the JPEG encoder may round differently (well under one level on average); a changed picture or a
# changed amount of damage moves the mean by several levels.
CHECK_TOLERANCE = 1.0


def chelsea() -> Image.Image:
    """Return the cat, RGB, 451x300."""
    return Image.fromarray(data.chelsea())


def coffee() -> Image.Image:
    """Return the cup, RGB, 600x400."""
    return Image.fromarray(data.coffee())


def camera() -> Image.Image:
    """Return the photographer, greyscale, 512x512."""
    return Image.fromarray(data.camera())


def rocket() -> Image.Image:
    """Return the launch, RGB, cropped around the rocket to an upright 300x427."""
    left = 172
    return Image.fromarray(data.rocket()).crop((left, 0, left + 300, 427))


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """Blur as a lens out of focus would; `radius` is the Gaussian's standard deviation in pixels."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def noisy(image: Image.Image, deviation: float, seed: int) -> Image.Image:
    """Add white Gaussian noise of `deviation` grey levels, independent in each channel, drawn from `seed`."""
    pixels = np.asarray(image, dtype=np.float64)
    noise = np.random.default_rng(seed).normal(0.0, deviation, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


def underexposed(image: Image.Image, stops: float) -> Image.Image:
    """Take away `stops` of light: undo the 2.2 gamma, scale, round to 8 bits. Crushes the shadows."""
    linear = (np.asarray(image, dtype=np.float64) / 255) ** 2.2 * 2.0**-stops
    return Image.fromarray(np.rint(255 * linear ** (1 / 2.2)).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = QUALITY) -> bytes:
    """Encode `image`; below the default quality also with halved chroma, as cameras and web services do."""
    stream = io.BytesIO()
    subsampling = "4:4:4" if quality >= QUALITY else "4:2:0"
    image.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()


def jpeg_sideways(image: Image.Image) -> bytes:
    """Encode `image` turned by 90 degrees, with the EXIF tag that turns it back, as phones store pictures."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the viewer has to turn the stored picture 90 degrees clockwise
    stream = io.BytesIO()
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(stream, "JPEG", quality=QUALITY, subsampling="4:4:4", exif=exif)
    return stream.getvalue()


# Each picture comes twice: as it is, and damaged in the way the second half of its file name says.
PHOTOGRAPHS: dict[str, Callable[[], bytes]] = {
    "camera.jpg": lambda: jpeg(camera()),
    "camera-underexposed.jpg": lambda: jpeg(underexposed(camera(), stops=4)),
    "chelsea.jpg": lambda: jpeg(chelsea()),
    "chelsea-blurred.jpg": lambda: jpeg(blurred(chelsea(), radius=3)),
    "coffee.jpg": lambda: jpeg_sideways(coffee()),
    "coffee-overcompressed.jpg": lambda: jpeg(coffee(), quality=8),
    "rocket.jpg": lambda: jpeg(rocket()),
    "rocket-noisy.jpg": lambda: jpeg(noisy(rocket(), deviation=35, seed=20)),
}


def differs(path: Path, remade: bytes) -> bool:
    """Whether the stored picture is missing or is not the remade one within `CHECK_TOLERANCE`."""
    if not path.exists():
        return True
    with Image.open(path) as stored, Image.open(io.BytesIO(remade)) as fresh:
        kinds = [(image.size, image.mode, dict(image.getexif())) for image in (stored, fresh)]
        if kinds[0] != kinds[1]:
            return True
        difference = np.asarray(stored, dtype=np.float64) - np.asarray(fresh, dtype=np.float64)
    return float(np.abs(difference).mean()) > CHECK_TOLERANCE


def main() -> int:
    """Write the photographs, or compare them with `--check`; return the exit status."""
    parser = argparse.ArgumentParser(description="Remake the photographs in this folder.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    changed = []
    for name, make in PHOTOGRAPHS.items():
        path, remade = FOLDER / name, make()
        if not differs(path, remade):
            continue
        changed.append(name)
        if not check:
            path.write_bytes(remade)
    if changed:
        print(("differs: " if check else "written: ") + ", ".join(changed))
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
