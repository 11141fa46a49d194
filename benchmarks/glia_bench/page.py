"""A self-contained HTML page of one or more results: tables, plots, the machine, the remarks. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glia_bench.plots import run_plot
from glia_bench.results import Run
from glia_bench.tables import Table, run_table
from glia_runtime.markup import as_text, inline, terms, write_page

_STYLE = """
th, td { text-align: right; }
th:first-child, td:first-child { text-align: left; }
.plot { display: block; max-width: 100%; margin: 1.5rem 0; }
"""


def write_results(runs: Sequence[Run], path: Path) -> None:
    """Write the page."""
    write_page(path, "glia-bench", map(_section, runs), style=_STYLE)


def _section(run: Run) -> str:
    machine = run.machine
    clocks = ", ".join(f"{mhz:.0f}" for mhz in machine.clocks_mhz)
    facts = {
        "machine": machine.about(),
        "system": f"{machine.system}, Python {machine.python}, load {machine.load} when the run began",
        "clocks": f"{machine.governor or 'governor unknown'}, {clocks} MHz",
        "versions": ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        "commit": machine.commit or "not a checkout",
        "settings": ", ".join(f"{name} {value}" for name, value in run.settings.items()),
        "measured": run.created,
    }
    notes = "\n".join(f"<p>{as_text(note)}</p>" for note in run.notes)
    # As an image the drawing keeps its styles and identifiers to itself, and needs no leave of the page's policy.
    plot = f'<img class="plot" src="{inline(run_plot(run).encode(), "svg+xml")}" alt="The table as a plot.">'
    return (
        f"<section>\n<h2>{as_text(run.command)}</h2>\n{_table(run_table(run))}\n{plot}\n{notes}\n"
        f"{terms('card', facts)}\n</section>\n"
    )


def _table(table: Table) -> str:
    header, *rows = table
    lines = ["<tr>" + "".join(f"<th>{as_text(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{as_text(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"
