"""The environment of IQA-PyTorch, in the user's cache directory: installed once, and again when it is of no use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from glia_bench.measure import Say
from glia_runtime.backends.base import first_line
from glia_runtime.errors import BackendError

REQUIREMENTS = ("pyiqa>=0.1.15", "setuptools<81")
"""LIQE and CLIP-IQA+ import pkg_resources, which setuptools 81 took out."""

_CONTENT = "\n".join(REQUIREMENTS) + "\n"
"""Of the file that is written last, so that half an environment has none and one of another glia has another."""


def environment_folder() -> Path:
    """Where the peers' environment lies, in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "glia-bench" / "pyiqa"


def is_installed() -> bool:
    """Whether the environment is whole, of these requirements, and its interpreter still there."""
    folder = environment_folder()
    try:
        content = (folder / "complete").read_bytes()
    except OSError:
        return False
    # The interpreter is a link to the one that made it, and dangles once that is gone.
    return content == _CONTENT.encode() and _python(folder).exists()


def prepare_environment(say: Say) -> Path:
    """The interpreter of IQA-PyTorch's environment, made unless it `is_installed`; half an environment never stays.

    Args:
        say: told before something is installed.

    Raises:
        BackendError: it cannot be made (no network, no space).
    """
    folder = environment_folder()
    python = _python(folder)
    if is_installed():
        return python
    say(f"installing IQA-PyTorch into {folder}, for this command alone (some 6 GB and several minutes, once)")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
        (folder / "complete").write_text(_CONTENT, encoding="utf-8")
    except (OSError, subprocess.CalledProcessError, KeyboardInterrupt) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, KeyboardInterrupt):
            raise
        lines = [line for line in (getattr(error, "stderr", None) or str(error)).splitlines() if line.strip()]
        raise BackendError(
            f"{folder}: IQA-PyTorch cannot be installed ({first_line(lines[-1])}); check the network and the space, or "
            "leave the peers out with --no-peers"
        ) from error
    return python


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"
