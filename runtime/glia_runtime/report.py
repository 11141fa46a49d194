"""``glia-infer --report``: one HTML file to look through, the worst pictures first.

The page needs nothing but itself: style, script and thumbnails stand inside, and its content security policy
lets a browser load nothing else. Whatever a file name holds reaches it as escaped text only.
"""

from __future__ import annotations

import base64
import heapq
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np

from glia_runtime.atomic import atomic_write
from glia_runtime.errors import one_line
from glia_runtime.manifest import Manifest, ParityRow, ScoreScale
from glia_runtime.markup import (
    as_text,
    asset,
    common_folder,
    counted,
    histogram,
    in_thousandths,
    link,
    scale_line,
    terms,
    write_page,
)
from glia_runtime.pipeline import Result

WORST, BEST, BETWEEN = 5000, 2000, 3000
"""How many pictures get a thumbnail: all of up to 10,000; of more, the worst, the best, and a fair sample of the
others. Measured with 10,000 photographs: 45 MB of memory while scoring, a page of 55 MB."""

MAX_FAILURES = 1000
"""Failures that are listed; all are counted."""


class Tile(NamedTuple):
    """A picture to show. Tiles compare by badness, the worst being the largest, and of equal ones the first."""

    badness: float
    minus_order: int
    path: str
    score: float
    size: tuple[int, int] | None
    thumbnail: bytes


class Report:
    """Collects results as they come, in bounded memory, and writes the page.

    It keeps the thumbnails that will be shown, four bytes for each score and `MAX_FAILURES` failures.
    """

    _manifest: Manifest
    _artifact: Path

    def __init__(self) -> None:
        """Start with no results."""
        self._worst: list[Tile] = []
        self._best: list[tuple[float, int, Tile]] = []
        self._between: list[Tile] = []
        self._passed = 0  # how many were neither among the worst nor among the best
        self._draw = random.Random(0)
        self._scores = array("d")
        self._failures: list[tuple[str, str]] = []
        self._failed = 0

    def begin(self, manifest: Manifest, artifact: Path) -> None:
        """Say whose scores these will be."""
        self._manifest = manifest
        self._artifact = artifact

    def watch(self, results: Iterable[Result]) -> Iterator[Result]:
        """Add each of `results` and pass it on without its thumbnail, since whoever keeps it would keep that, too."""
        for result in results:
            self.add(result)
            yield replace(result, thumbnail=None)

    def add(self, result: Result) -> None:
        """Take one result into the page; without a thumbnail its tile is blank."""
        if result.score is None:
            self._failed += 1
            if len(self._failures) < MAX_FAILURES:
                self._failures.append((result.path, result.error or ""))
            return
        sign = -1 if self._manifest.score_scale.higher_is_better else 1
        size = None if result.width is None or result.height is None else (result.width, result.height)
        order = len(self._scores) + self._failed
        tile = Tile(sign * result.score, -order, result.path, result.score, size, result.thumbnail or b"")
        self._scores.append(result.score)
        # What falls out of the worst is offered to the best, and what falls out of these to the sample.
        if len(self._worst) < WORST:
            heapq.heappush(self._worst, tile)
            return
        tile = heapq.heappushpop(self._worst, tile)
        entry = (-tile.badness, -tile.minus_order, tile)
        if len(self._best) < BEST:
            heapq.heappush(self._best, entry)
            return
        tile = heapq.heappushpop(self._best, entry)[2]
        self._passed += 1
        if len(self._between) < BETWEEN:
            self._between.append(tile)
        elif (place := self._draw.randrange(self._passed)) < BETWEEN:
            self._between[place] = tile

    def write(self, path: Path) -> None:
        """Write the page to `path`; links to the pictures are relative to its folder."""
        tiles = sorted([*self._worst, *(entry[2] for entry in self._best), *self._between], reverse=True)
        pieces = {
            "histogram": histogram(self._scores, self._manifest.score_scale, "score")
            if self._scores
            else "<p>No picture was scored.</p>",
            "failures": _failures(self._failures, self._failed),
            "card": _card(self._manifest, self._artifact),
        }
        head, rest = asset("report.html").split("$tiles")
        middle, foot = rest.split("$thumbnails")
        main = chain(
            [Template(head).substitute(pieces)],
            _tiles(tiles, self._manifest.score_scale, path.resolve().parent),
            [Template(middle).substitute(pieces)],
            (base64.b64encode(tile.thumbnail).decode("ascii") + "\n" for tile in tiles),
            [foot],
        )
        summary = _summary(self._manifest.score_scale, self._artifact, self._scores, self._failed, len(tiles))
        style, script = asset("report.css"), asset("report.js")
        write_page(path, "Picture quality", main, lead=summary, style=style, script=script)


@contextmanager
def open_report(path: Path) -> Iterator[Report]:
    """Yield a report, which is written to `path` when the block ends without an error.

    Where the reader of standard output leaves (BrokenPipeError), the page shows what was scored until then.

    Raises:
        OutputError: the page cannot be written; where that shows beforehand, the block is not entered.
    """
    left: BrokenPipeError | None = None
    with atomic_write(path) as temporary:
        report = Report()
        try:
            yield report
        except BrokenPipeError as error:
            left = error
        report.write(temporary)
    if left is not None:
        raise left


def _summary(scale: ScoreScale, artifact: Path, scores: Sequence[float], failed: int, shown: int) -> str:
    now = datetime.now(timezone.utc)
    values = np.asarray(scores)
    figures = {"scored": f"{len(scores):,}", "failed": f"{failed:,}"}
    if len(scores):
        low, high = (values.min(), values.max()) if scale.higher_is_better else (values.max(), values.min())
        for name, value in {"worst": low, "median": np.median(values), "mean": values.mean(), "best": high}.items():
            figures[name] = in_thousandths(float(value), scale)
    lines = [
        f"<p>Scores by <b>{as_text(artifact.name)}</b>, {as_text(scale_line(scale))}, on "
        f'<time datetime="{now:%Y-%m-%dT%H:%M:%SZ}">{now:%d %B %Y, %H:%M} UTC</time>.</p>',
        terms("figures", figures),
    ]
    if shown < len(scores):
        lines.append(
            f"<p>The page shows {shown:,} of them: the {WORST:,} worst, the {BEST:,} best, and {BETWEEN:,} drawn "
            "at random from the others. The figures and the histogram count all.</p>"
        )
    return "\n".join(lines)


def _tiles(tiles: Sequence[Tile], scale: ScoreScale, folder: Path) -> Iterator[str]:
    common = common_folder([tile.path for tile in tiles])
    for tile in tiles:
        name = as_text(tile.path.removeprefix(common))
        size = "" if tile.size is None else f"<span>{tile.size[0]}&times;{tile.size[1]}</span>"
        yield (
            f'<li data-score="{tile.score!r}" data-order="{-tile.minus_order}">'
            f'<a href="{link(tile.path, folder)}" title="{as_text(tile.path)}"><span class="frame"><img alt=""></span>'
            f'<span class="line"><b>{in_thousandths(tile.score, scale)}</b>{size}</span>'
            f'<span class="name">{name}</span></a></li>\n'
        )


def _failures(failures: Sequence[tuple[str, str]], failed: int) -> str:
    if not failed:
        return ""
    rows = [
        f"<li><b>{as_text(path)}</b> {as_text(error.removeprefix(f'{one_line(path)}: '))}</li>"
        for path, error in failures
    ]
    more = f"<p>And {failed - len(failures):,} more.</p>" if failed > len(failures) else ""
    return (
        f'<section aria-labelledby="failed"><h2 id="failed">{counted(failed, "picture")} not scored</h2>\n'
        f'<ul class="failures" tabindex="0" aria-labelledby="failed">\n' + "\n".join(rows) + f"\n</ul>{more}</section>"
    )


def _card(manifest: Manifest, artifact: Path) -> str:
    scale, engine = manifest.score_scale, manifest.engine
    facts = {
        "file": artifact.name,
        "architecture": ", ".join(
            [manifest.architecture, *(str(manifest.config[key]) for key in ("backbone",) if key in manifest.config)]
        ),
        "trained on": scale.dataset,
        "scale": scale_line(scale),
        "form": f"{manifest.target}, input {manifest.input}, {manifest.precision}",
        "engine": engine and f"{engine.flavour} {engine.version} for {', '.join(engine.compute_capabilities)}",
        "made": f"{manifest.created} by glia {manifest.glia_version}",
        "artifact SHA-256": manifest.artifact_sha256,
        "checkpoint SHA-256": manifest.checkpoint_sha256,
    }
    columns = ("backend", "precision", "device", "pictures", "largest", "mean", "bound", "SRCC", "PLCC", "")
    heads = "".join(f"<th>{column}</th>" for column in columns)
    parity = "\n".join(_parity_row(row) for row in manifest.parity)
    return (
        f"{terms('card', {name: value for name, value in facts.items() if value})}\n"
        f"<h3>How close it is to the PyTorch model in fp32</h3>\n"
        "<p>Differences in units of the score, "
        f"measured on {as_text(manifest.parity_graph)} when it was exported.</p>\n"
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>\n{parity}\n</tbody></table></div>'
    )


def _parity_row(row: ParityRow) -> str:
    correlations = ["" if value is None else f"{value:.4f}" for value in (row.srcc, row.plcc)]
    numbers = [f"{row.images}", *(f"{value:.2g}" for value in (row.max_abs, row.mean_abs, row.bound_max_abs))]
    cells = [row.backend, row.precision, row.device, *numbers, *correlations, "passed" if row.passed else "failed"]
    return "<tr>" + "".join(f"<td>{as_text(cell)}</td>" for cell in cells) + "</tr>"
