"""What glia's HTML pages are made of: text that is safe wherever it stands, links, histograms, a closed policy.

A page needs nothing but itself: style, script and pictures stand inside, and its content security policy lets a
browser load nothing else. Whatever a file name holds reaches it as escaped text only.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from glia_runtime.errors import one_line

BINS = 50

STYLE = (Path(__file__).parent / "page" / "report.css").read_text(encoding="utf-8")
"""The style that the pages share."""


def policy(style: str, script: str | None = None) -> str:
    """The content security policy of a page with this inline style and script (CSP level 2)."""
    scripts = "" if script is None else f"; script-src {_hash(script)}"
    return f"default-src 'none'; img-src data:; style-src {_hash(style)}{scripts}"


def _hash(text: str) -> str:
    """The source expression that lets a browser run this inline text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def safe(text: str) -> str:
    """`text` for any place in the page: control characters and undecodable bytes written out, HTML escaped."""
    return escape(one_line(text).encode("utf-8", "backslashreplace").decode("utf-8"))


def link(path: str, folder: Path) -> str:
    """A relative reference from `folder` to a file, so that the page and its pictures can move together."""
    absolute = os.path.abspath(path)  # noqa: PTH100 -- resolve() would follow links, which may lead elsewhere
    with suppress(ValueError):  # on another drive there is no relative path
        absolute = os.path.relpath(absolute, folder)
    return quote(os.fsencode(absolute))


def counted(number: int, noun: str) -> str:
    """A number of things, in words that a reader takes: "1 picture", "2,000 pictures"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def histogram(values: Sequence[float], ends: tuple[float, float], digits: int, noun: str) -> str:
    """Bars over the whole scale, widened where values overshoot it; as an inline SVG of 50 x 100 units.

    Args:
        values: of the pictures, at least one.
        ends: of the scale.
        digits: decimal places that are shown.
        noun: what a value is: "score".
    """
    array = np.asarray(values)
    low, high = float(array.min()), float(array.max())
    counts, edges = np.histogram(array, BINS, (min(ends[0], low), max(ends[1], high)))
    ticks = [f"{tick:.4g}" for tick in np.linspace(edges[0], edges[-1], 5)]
    return "\n".join(
        [
            f'<svg viewBox="0 0 {BINS} 100" preserveAspectRatio="none" role="img" '
            f'aria-label="How many pictures have which {noun}: {counted(len(array), noun)} '
            f'from {low:.{digits}f} to {high:.{digits}f}">',
            *_bars(counts, edges, digits),
            "</svg>",
            '<p class="ticks" aria-hidden="true">' + "".join(f"<span>{tick}</span>" for tick in ticks) + "</p>",
        ]
    )


def _bars(counts: npt.NDArray[np.int64], edges: npt.NDArray[np.float64], digits: int) -> Iterator[str]:
    for index, count in enumerate(counts):
        # A bar of one picture among thousands must still be seen.
        height = max(1.5, 100 * count / counts.max()) if count else 0
        low, high = float(edges[index]), float(edges[index + 1])
        label = f"{low:.{digits}f} to {high:.{digits}f}: {counted(int(count), 'picture')}"
        # The whole column takes the pointer, so that low bars can be hit as well.
        yield (
            f'<g data-from="{low!r}" data-to="{high!r}"><title>{label}</title>'
            f'<rect class="column" x="{index}" width="1" height="100"/>'
            f'<rect class="bar" x="{index + 0.08:.2f}" y="{100 - height:.2f}" width="0.84" height="{height:.2f}"/></g>'
        )
