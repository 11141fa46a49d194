"""What the pages of ``glia-eval`` share beside `glia_runtime.markup`: their style, and large pictures."""

from pathlib import Path

from PIL import Image as PillowImage

from glia_runtime.fragments import Image
from glia_runtime.markup import as_text, inline
from glia_runtime.thumbnails import thumbnail

_SIDE = 640  # of a picture in pixels; about 60 kB


def style() -> str:
    """The CSS of columns of pairs and of rows of maps."""
    return (Path(__file__).parent / "page" / "evaluation.css").read_text(encoding="utf-8")


def inline_image(picture: Image | PillowImage.Image, text: str) -> str:
    """An ``img`` that holds a small copy of a picture, with `text` for who cannot see it."""
    return f'<img src="{inline(thumbnail(picture, _SIDE))}" alt="{as_text(text)}">'
