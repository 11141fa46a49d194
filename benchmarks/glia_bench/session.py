"""What a command works with while it measures: its models, its pictures, its progress, and the result in the making."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from glia_bench.measure import MOST_PHOTOGRAPHS, photographs, progress
from glia_bench.options import say
from glia_bench.recording import Recorder
from glia_bench.results import Run, write_csv, write_run
from glia_bench.subjects import Spec, Subject, expand, open_subjects
from glia_bench.tables import plain, run_table


@dataclass(frozen=True)
class Session:
    """One command at work.

    Attributes:
        recorder: takes what it measures; models and pictures enter its settings as they are opened.
        stack: closed when all is measured: temporary files, the progress bar.
    """

    recorder: Recorder
    stack: ExitStack

    def specs(self, models: Sequence[str] | None, backends: Sequence[str] | None, device: str) -> list[Spec]:
        """What --model, --backend and --device ask for, see `expand`."""
        specs = expand(models, backends, device)
        self.recorder.settings["models"] = [str(spec) for spec in specs]
        return specs

    def open(self, specs: Sequence[Spec]) -> dict[Spec, Subject]:
        """Those that can run here; the others are remarks.

        Raises:
            GliaError: none of them can; the first one's reason.
        """
        return open_subjects(specs, self.recorder.note)

    def photographs(self, folder: Path | None, most: int = MOST_PHOTOGRAPHS) -> list[Path]:
        """The files that --images asks for, `most` at most.

        Raises:
            UsageError: no folder, or no picture in it.
        """
        paths = self.stack.enter_context(photographs(folder, say, most))
        self.recorder.settings["images"] = f"{len(paths)} {f'of {folder.name}' if folder else 'built-in'}"
        return paths

    def progress(self, total: int | None = None) -> Callable[[str], None]:
        """A bar of so many steps; what is called at the begin of each."""
        return self.stack.enter_context(progress(total))


def deliver(run: Run, output: Path | None, csv: Path | None, html: Path | None) -> None:
    """Print `run` and write the files that were asked for."""
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
