"""What the pages of ``glia-eval`` share: one file that loads nothing, in the style of ``glia-infer --report``."""

from pathlib import Path
from string import Template

from PIL import Image as PillowImage

from glia_runtime.fragments import Image
from glia_runtime.markup import as_text, asset, inline, policy
from glia_runtime.thumbnails import thumbnail

_FOLDER = Path(__file__).parent / "page"
_SIDE = 640  # of a picture in pixels; about 60 kB


def write_page(path: Path, kind: str, title: str, lead: str, main: str) -> None:
    """Write a page.

    Args:
        path: the file.
        kind: the class of its main part, which the style knows.
        title: text.
        lead: HTML below the title.
        main: HTML of the main part.
    """
    style = asset("report.css") + (_FOLDER / "page.css").read_text(encoding="utf-8")
    template = Template((_FOLDER / "page.html").read_text(encoding="utf-8"))
    pieces = {"policy": policy(style), "style": style, "kind": kind, "title": as_text(title), "lead": lead}
    path.write_text(template.substitute(pieces, main=main), encoding="utf-8", newline="\n")


def inline_image(picture: Image | PillowImage.Image, text: str) -> str:
    """An ``img`` that holds a small copy of a picture, with `text` for who cannot see it."""
    return f'<img src="{inline(thumbnail(picture, _SIDE))}" alt="{as_text(text)}">'
