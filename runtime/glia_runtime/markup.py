"""What self-contained pages share: a frame, text that cannot become markup, links, histograms, how scores look.

A page loads nothing: style and script stand inside it, and its content security policy names them.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from glia_runtime.errors import one_line
from glia_runtime.manifest import ScoreScale

BINS = 50

_FOLDER = Path(__file__).parent / "page"


def asset(name: str) -> str:
    """The text of a file in ``page/``."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def write_page(
    path: Path, title: str, main: Iterable[str], *, lead: str = "", style: str = "", script: str = ""
) -> None:
    """Write a page.

    Args:
        path: the file.
        title: text.
        main: HTML of the main part, in pieces, so that a long one need not be held in memory.
        lead: HTML below the title.
        style: CSS for what `page/page.css` does not know.
        script: JavaScript that runs at the end.
    """
    style = asset("page.css") + style
    pieces = {
        "policy": _policy(style, script),
        "title": as_text(title),
        "style": style,
        "lead": lead,
        "script": f"<script>{script}</script>\n" if script else "",
    }
    head, foot = asset("page.html").split("$main")
    with path.open("w", encoding="utf-8", newline="\n") as page:
        page.write(Template(head).substitute(pieces))
        page.writelines(main)
        page.write(Template(foot).substitute(pieces))


def _policy(style: str, script: str) -> str:
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


def inline(picture: bytes, kind: str = "jpeg") -> str:
    """The address of a picture that stands inside the page; its `kind` by MIME."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def terms(kind: str, facts: Mapping[str, str]) -> str:
    """A list of names and values, both text; its `kind` is "figures", side by side, or "card", line by line."""
    rows = [f"<div><dt>{as_text(name)}</dt><dd>{as_text(value)}</dd></div>" for name, value in facts.items()]
    return "\n".join([f'<dl class="{kind}">', *rows, "</dl>"])


def link(path: str, folder: Path) -> str:
    """A reference to the picture relative to the page's `folder`, so that page and pictures can move together."""
    absolute = os.path.abspath(path)  # noqa: PTH100 -- resolve() would follow links, which may lead elsewhere
    with suppress(ValueError):  # on another drive there is no relative path
        absolute = os.path.relpath(absolute, folder)
    return quote(os.fsencode(absolute))


def counted(number: int, noun: str) -> str:
    """A number of things in words: "1 picture", "2,000 pictures"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def histogram(values: Sequence[float], scale: ScoreScale, noun: str) -> str:
    """Bars over the whole scale, widened where values overshoot it; as an inline SVG of 50 x 100 units.

    Args:
        values: of the pictures, at least one.
        scale: that they are on.
        noun: what a value is: "score".
    """
    array = np.asarray(values)
    ends = min(scale.minimum, float(array.min())), max(scale.maximum, float(array.max()))
    counts, edges = np.histogram(array, BINS, ends)
    ticks = [f"{tick:.4g}" for tick in np.linspace(*ends, 5)]
    return "\n".join(
        [
            f'<svg viewBox="0 0 {BINS} 100" preserveAspectRatio="none" role="img" '
            f'aria-label="How many pictures have which {noun}: {counted(len(array), noun)} '
            f'from {in_thousandths(float(array.min()), scale)} to {in_thousandths(float(array.max()), scale)}">',
            *_bars(counts, edges, scale),
            "</svg>",
            '<p class="ticks" aria-hidden="true">' + "".join(f"<span>{tick}</span>" for tick in ticks) + "</p>",
        ]
    )


def _bars(counts: npt.NDArray[np.int64], edges: npt.NDArray[np.float64], scale: ScoreScale) -> Iterator[str]:
    for index, count in enumerate(counts):
        # A bar of one picture among thousands must still be seen.
        height = max(1.5, 100 * count / counts.max()) if count else 0
        low, high = float(edges[index]), float(edges[index + 1])
        label = f"{in_thousandths(low, scale)} to {in_thousandths(high, scale)}: {counted(int(count), 'picture')}"
        # The whole column takes the pointer, so that low bars can be hit as well.
        yield (
            f'<g data-from="{low!r}" data-to="{high!r}"><title>{label}</title>'
            f'<rect class="column" x="{index}" width="1" height="100"/>'
            f'<rect class="bar" x="{index + 0.08:.2f}" y="{100 - height:.2f}" width="0.84" height="{height:.2f}"/></g>'
        )
