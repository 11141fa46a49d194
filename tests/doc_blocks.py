"""Find the commands that the documentation shows, and run them as it shows them.

In the Markdown files, fenced blocks of three languages are run, in order, in one folder:

- ``sh``: the block goes to ``bash -e``; a non-zero exit status fails it;
- ``console``: each line after ``$ `` is one command (with its continuation lines); the lines up to the next
  command are what it must print (standard output and error together; ``...`` stands for anything);
- ``python``: the block goes to this interpreter.

A block that cannot run here has ``<!-- not run: the reason -->`` on the line before its fence.
"""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

RUNNABLE = ("sh", "console", "python")

# Far above what any shown command takes (training for 20 steps: under a minute on two cores), so that only a
# command that hangs meets it.
TIMEOUT_SECONDS = 900

_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S.*) -->")
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<language>\w*)\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block; `not_run` is the reason why it is not run, or None."""

    document: Path
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        """Say where the block stands, as an editor takes it."""
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """Return every Markdown file of the project in reading order: README first, then the rest by path."""
    found = set(ROOT.glob("*.md"))
    for folder in ("docs", "images", "runtime", "export", "benchmarks"):
        found |= set((ROOT / folder).rglob("*.md"))
    # docs/training.md goes on from the README, export.md from what training left, runtime.md from an export.
    order = ["README.md", "docs/training.md", "docs/export.md", "docs/runtime.md"]
    first = [ROOT / name for name in order]
    assert set(first) <= found, f"one of {order} is missing"
    return first + sorted(found - set(first))


def blocks(document: Path, text: str | None = None) -> Iterator[Block]:
    """Yield the fenced blocks of `document` in order; `text` stands in for its content in tests."""
    lines = (document.read_text(encoding="utf-8") if text is None else text).splitlines()
    index = 0
    while index < len(lines):
        opening = _FENCE.match(lines[index])
        if not opening:
            index += 1
            continue
        start = index
        index += 1
        closing = opening["indent"] + opening["ticks"]
        while index < len(lines) and lines[index].rstrip() != closing:
            index += 1
        assert index < len(lines), f"{document}:{start + 1}: the block never ends"
        content = "\n".join(line.removeprefix(opening["indent"]) for line in lines[start + 1 : index])
        marker = _NOT_RUN.search(lines[start - 1]) if start else None
        reason = marker["reason"] if marker else None
        yield Block(document, start + 1, opening["language"], content + "\n", reason)
        index += 1


def _shell(command: str, folder: Path, options: str = "-e") -> tuple[int, str]:
    """Run `command` with this interpreter's commands first on PATH, and return (exit status, output)."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # A test run may have set these for itself; what a reader types runs without them.
        "PYTHONWARNINGS": "default",
        "COLUMNS": "100",
    }
    environment.pop("GLIA_MODEL", None)
    done = subprocess.run(
        ["bash", options, "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def _steps(block: Block) -> Iterator[tuple[str, str | None]]:
    """Yield (command, what it must print or None) for each step of a block."""
    if block.language != "console":
        yield block.text, None
        return
    # Split before each prompt; a command runs on while its lines end in a backslash.
    for part in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE):
        if not part.strip():
            continue
        command, _, expected = re.sub(r"\\\n>? *", "", part).removeprefix("$ ").partition("\n")
        yield command, expected or None


def run_block(block: Block, folder: Path) -> str | None:
    """Run a block in `folder`; return None when it did what it shows, else what went wrong."""
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for command, expected in _steps(block):
        if block.language == "python":
            script = folder / f".block-{block.line}.py"
            script.write_text(command, encoding="utf-8")
            status, printed = _shell(f"'{sys.executable}' '{script}'", folder)
        elif block.language == "console":  # a line typed at a prompt runs on after a failure: `false; echo $?`
            status, printed = _shell(command, folder, "+e")
        else:
            status, printed = _shell(command, folder)
        shown = f"{block}\n$ {command.rstrip()}\n{printed}"
        if status != 0:
            return f"{shown}exit status {status}"
        if "Traceback (most recent call last)" in printed:
            return f"{shown}a traceback reached the reader"
        if expected is not None and not checker.check_output(expected, printed, flags):
            return f"{shown}but the document shows:\n{expected}"
    return None
