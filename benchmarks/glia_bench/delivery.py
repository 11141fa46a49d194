"""Where a result goes: a table on standard output; JSON, CSV and HTML where asked for."""

from __future__ import annotations

import sys
from pathlib import Path

from glia_bench.results import Run, write_csv, write_run
from glia_bench.tables import plain, run_table


def deliver(run: Run, output: Path | None, csv: Path | None, html: Path | None) -> None:
    """Print `run` and write the files that were asked for; raise `OutputError` where one cannot be written."""
    if sys.stdout is not None:
        print(f"{run.command} on {run.machine.about()}")
        print(plain(run_table(run)))
    if output is not None:
        write_run(run, output)
    if csv is not None:
        write_csv(run, csv)
    if html is not None:
        from glia_bench.page import write_results

        write_results([run], html)
