"""A self-contained HTML page of one or more results: tables, plots, the machine, the remarks. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from glia_bench.plots import run_plot
from glia_bench.results import Run
from glia_bench.tables import Table, run_table
from glia_runtime.atomic import atomic_write

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { padding: .15rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
svg { max-width: 100%; height: auto }
.note { color: #8a4b00 } dt { float: left; width: 8rem; color: #666 } dd { margin-left: 8rem }
"""


def page(runs: Sequence[Run]) -> str:
    """The page as text."""
    sections = "\n".join(map(_section, runs))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>glia-bench</title>\n<style>{_STYLE}</style>\n{sections}\n</html>\n"
    )


def write_page(runs: Sequence[Run], path: Path) -> None:
    """Write the page; raise `OutputError` where that cannot be done."""
    text = page(runs)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _section(run: Run) -> str:
    machine = run.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    clocks = ", ".join(f"{mhz:.0f}" for mhz in machine.clocks_mhz)
    facts = {
        "machine": machine.about(),
        "system": f"{machine.system}, Python {machine.python}, load {machine.load} when the run began",
        "clocks": f"{machine.governor or 'governor unknown'}, {clocks} MHz",
        "versions": versions,
        "commit": machine.commit or "not a checkout",
        "settings": ", ".join(f"{name} {value}" for name, value in run.settings.items()),
        "measured": run.created,
    }
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in run.notes)
    return f"<h2>{escape(run.command)}</h2>\n{_table(run_table(run))}\n{run_plot(run)}\n{notes}<dl>{terms}</dl>"


def _table(table: Table) -> str:
    header, *rows = table
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"
