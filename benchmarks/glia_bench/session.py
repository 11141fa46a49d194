"""What a command works with while it measures: its models, its pictures, its progress, and the result in the making."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from glia_bench.measure import MOST_PHOTOGRAPHS, digest_of, photographs, progress
from glia_bench.options import say
from glia_bench.recording import Recorder
from glia_bench.results import Run, write_csv, write_run
from glia_bench.subjects import Spec, Subject, expand, open_subjects
from glia_bench.tables import plain, run_table
from glia_runtime.decode import decode
from glia_runtime.errors import ImageError, UsageError


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
        """Those that can run here; each of the others is a remark, and a part that failed.

        Raises:
            GliaError: none of them can; the first one's reason.
        """
        subjects = open_subjects(specs, self.recorder.note)
        self.recorder.has_failed |= len(subjects) < len(specs)
        return subjects

    def photographs(self, folder: Path | None, most: int = MOST_PHOTOGRAPHS) -> list[Path]:
        """The files that --images asks for, `most` at most, less those that cannot be read: these are a remark.

        A damaged file would take less time than a picture, or end what is measured. The settings name the folder and
        the digest of the files' bytes, one after the other.

        Raises:
            UsageError: no folder, or no picture in it that can be read.
        """
        found = self.stack.enter_context(photographs(folder, say, most))
        paths: list[Path] = []
        damaged: list[ImageError] = []
        for path in found:
            try:
                decode(path)
            except ImageError as error:
                damaged.append(error)
            else:
                paths.append(path)
        if not paths:
            raise UsageError(f"{folder}: none of its pictures can be read ({damaged[0]}); name another folder")
        if damaged:
            self.recorder.note(f"left out: {len(damaged)} of {len(found)} pictures cannot be read, first {damaged[0]}")
        self.recorder.settings["images"] = f"{len(paths)} {f'of {folder.name}' if folder else 'built-in'}"
        self.recorder.settings["images_sha256"] = digest_of(paths)
        return paths

    def progress(self, total: int | None = None) -> Callable[[str], None]:
        """A bar of so many steps; what is called at the begin of each."""
        return self.stack.enter_context(progress(total))


Target = tuple[ExitStack, Path]
"""Where to write, and what puts it in its place when it is closed without an error."""


def deliver(run: Run, output: Target | None, csv: Target | None, html: Target | None) -> None:
    """Write the files that were asked for, the one with every sample first and each for good, then print `run`.

    What fails, fails for itself: the others are written and printed all the same before the first error is raised;
    those after it are said.
    """
    targets = (output, write_run), (csv, write_csv), (html, _write_page)
    steps = [partial(_write, run, target, write) for target, write in targets if target is not None]
    errors: list[Exception] = []
    for step in (*steps, partial(_print, run)):
        try:
            step()
        except Exception as error:
            errors.append(error)
    for later in errors[1:]:
        say(str(later) or type(later).__name__)
    if errors:
        raise errors[0]


def _write(run: Run, target: Target, write: Callable[[Run, Path], None]) -> None:
    pending, path = target
    with pending:
        write(run, path)


def _write_page(run: Run, path: Path) -> None:
    from glia_bench.page import write_results  # brings matplotlib

    write_results([run], path)


def _print(run: Run) -> None:
    if sys.stdout is not None:
        print(f"{run.command} on {run.machine.about()}")
        print(plain(run_table(run)))
