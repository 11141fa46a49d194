"""The page of a transfer: pictures beside the references whose labels they were given, the least similar first."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np

from glia.transfer.folder import Row, Transfer, picture_path
from glia.transfer.labelled import Labelled
from glia.transfer.rendering import PER_PICTURE, read_bounded
from glia_runtime.atomic import atomic_write
from glia_runtime.errors import ImageError
from glia_runtime.manifest import ScoreScale
from glia_runtime.markup import as_text, counted, histogram, inline, link, scale_line, terms, write_page
from glia_runtime.thumbnails import thumbnail

SHOWN = 400
"""Pairs on the page. Two thumbnails each: a page of 5 MB (measured)."""

MAX_FAILURES = 1000
"""Failures that are listed; all are counted."""

_PAGE = Path(__file__).parent / "page"


def write_report(path: Path, rows: Sequence[Row], transfer: Transfer, labelled: Labelled) -> None:
    """Write the page to `path`; links to the pictures are relative to its folder.

    Args:
        path: beside the transfer's other files.
        rows: all of the transfer; at least one has a similarity.
        transfer: what was carried over.
        labelled: shows the references.

    Raises:
        OutputError: the page cannot be written.
    """
    read = sorted((row for row in rows if not row.error), key=lambda row: row.similarities[0])
    similarities = [row.similarities[0] for row in read]
    lowest = min(0.9, math.floor(10 * similarities[0]) / 10)
    places = np.unique(np.linspace(0, len(read) - 1, min(SHOWN, len(read))).round().astype(int))
    shown = [read[place] for place in places]
    pictures = {name: inline(thumbnail(labelled.picture(name))) for name in _shown_references(shown, transfer)}
    main = Template((_PAGE / "transfer.html").read_text(encoding="utf-8")).substitute(
        histogram=histogram(similarities, ScoreScale(lowest, 1.0, True, "cosine"), "similarity"),
        failures=_failures([row for row in rows if row.error]),
        shown=_shown(len(shown), len(read)),
        pairs="".join(_pair(row, transfer, path.parent, pictures) for row in shown),
        references=_references(read, transfer, pictures),
    )
    summary = _summary(rows, similarities, transfer)
    style = (_PAGE / "transfer.css").read_text(encoding="utf-8")
    with atomic_write(path) as temporary:
        write_page(temporary, "Transferred labels", [main], lead=summary, style=style)


def _shown_references(shown: Sequence[Row], transfer: Transfer) -> list[str]:
    return list(dict.fromkeys([row.references[0] for row in shown] + list(transfer.labels)))


def _summary(rows: Sequence[Row], similarities: Sequence[float], transfer: Transfer) -> str:
    carried = sum(transfer.carries(row) for row in rows)
    figures = {
        "pictures": f"{len(rows):,}",
        "given labels": f"{carried:,}",
        "below the threshold": f"{len(similarities) - carried:,}",
        "not read": f"{len(rows) - len(similarities):,}",
        "labels": f"{carried * PER_PICTURE:,}",
        "median similarity": f"{np.median(similarities):.3f}",
    }
    facts = transfer.facts
    return "\n".join(
        [
            f"<p>Labels of <b>{as_text(str(facts['labelled']))}</b>, {as_text(scale_line(transfer.scale))}. "
            f"Compared by the cosine of features: {as_text(str(facts['backbone']))}.</p>",
            terms("figures", figures),
        ]
    )


def _failures(failed: Sequence[Row]) -> str:
    if not failed:
        return ""
    rows = "\n".join(f"<li>{as_text(row.error)}</li>" for row in failed[:MAX_FAILURES])
    more = f"<p>And {len(failed) - MAX_FAILURES:,} more.</p>" if len(failed) > MAX_FAILURES else ""
    return (
        f'<section aria-labelledby="failed"><h2 id="failed">{counted(len(failed), "picture")} not read</h2>\n'
        f'<ul class="failures" tabindex="0" aria-labelledby="failed">\n{rows}\n</ul>{more}</section>'
    )


def _shown(shown: int, read: int) -> str:
    if shown == read:
        return "<p>From the least similar to the most. Pairs below the threshold are pale.</p>"
    return (
        f"<p>{shown:,} of {read:,}, at even steps from the least similar to the most. "
        "Pairs below the threshold are pale.</p>"
    )


def _pair(row: Row, transfer: Transfer, folder: Path, pictures: dict[str, str]) -> str:
    name = row.references[0]
    path = picture_path(folder, row.path)
    try:
        data = inline(thumbnail(read_bounded(path, transfer.side)))
    except ImageError:  # gone since it was compared: its frame stays empty
        data = "data:,"
    out = "" if transfer.carries(row) else ' class="out"'
    return (
        f'<li{out}><a href="{link(str(path), folder.resolve())}" title="{as_text(row.path)}"><span class="pair">'
        f'<span class="frame"><img alt="{as_text(Path(row.path).name)}" src="{data}"></span>'
        f'<span class="frame"><img alt="{as_text(name)}" src="{pictures[name]}"></span></span>'
        f'<span class="line"><b>{row.similarities[0]:.3f}</b><span>{as_text(name)}</span></span>'
        f'<span class="name">{as_text(Path(row.path).name)}</span></a></li>\n'
    )


def _references(read: Sequence[Row], transfer: Transfer, pictures: dict[str, str]) -> str:
    """Each reference with the number of pictures that are most like it: a few may give most of the labels."""
    times = Counter(row.references[0] for row in read if transfer.carries(row))
    tiles = [
        f'<li><span class="frame"><img alt="" src="{pictures[name]}"></span>'
        f'<span class="line"><b>{times[name]:,}</b><span>{as_text(name)}</span></span></li>'
        for name in sorted(transfer.labels, key=lambda name: -times[name])
    ]
    return (
        f"<p>{len(transfer.labels)} of {transfer.facts['references']} give labels; "
        "the number is how many pictures are most like each.</p>\n"
        '<ul class="counts">\n' + "\n".join(tiles) + "\n</ul>"
    )
