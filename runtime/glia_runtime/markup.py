"""What self-contained pages share: their files, text that cannot become markup, links, and how a score is written.

A page loads nothing: style and script stand inside it, and its content security policy names them.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import quote

from glia_runtime.errors import one_line
from glia_runtime.manifest import ScoreScale

_FOLDER = Path(__file__).parent / "page"


def asset(name: str) -> str:
    """The text of a file in ``page/``."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def policy(style: str, script: str = "") -> str:
    """The content security policy of a page that loads nothing and runs this inline style and script and no other."""
    scripts = f"; script-src {_source(script)}" if script else ""
    return f"default-src 'none'; img-src data:; style-src {_source(style)}{scripts}"


def _source(text: str) -> str:
    """The source expression of an inline text (CSP level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_text(text: str) -> str:
    """`text` for any place in a page: control characters and undecodable bytes written out, HTML escaped."""
    return escape(one_line(text).encode("utf-8", "backslashreplace").decode("utf-8"))


def in_thousandths(score: float, scale: ScoreScale) -> str:
    """`score` to a thousandth of the scale."""
    return f"{score:.{max(0, 3 - math.ceil(math.log10(scale.range)))}f}"


def scale_line(scale: ScoreScale) -> str:
    """A scale in words: "0 to 100, higher is better"."""
    direction = "higher is better" if scale.higher_is_better else "lower is better"
    return f"{scale.minimum:g} to {scale.maximum:g}, {direction}"


def common_folder(paths: Sequence[str]) -> str:
    """The folder that all paths begin with, and a separator; beside every picture it would leave no room for names."""
    try:
        common = os.path.commonpath([Path(path).parent for path in paths])
    except ValueError:  # no paths, or relative and absolute ones
        return ""
    return f"{common}{os.sep}" if common.strip(os.sep) else ""


def link(path: str, folder: Path) -> str:
    """A reference to the picture relative to the page's `folder`, so that page and pictures can move together."""
    absolute = os.path.abspath(path)  # noqa: PTH100 -- resolve() would follow links, which may lead elsewhere
    with suppress(ValueError):  # on another drive there is no relative path
        absolute = os.path.relpath(absolute, folder)
    return quote(os.fsencode(absolute))
