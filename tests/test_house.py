"""How the project is built: what each package may import, how long a module may be, what a wheel holds."""

import os
import re
import subprocess
import sys
import textwrap
import zipfile
from functools import cache
from importlib.metadata import distribution, distributions, requires, version
from pathlib import Path

import pytest
import typer
from PIL import Image, ImageOps
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = {
    "glia": ROOT / "glia",
    "glia_export": ROOT / "export" / "glia_export",
    "glia_runtime": ROOT / "runtime" / "glia_runtime",
    "glia_bench": ROOT / "benchmarks" / "glia_bench",
}
# The styles this project follows keep a module readable in one sitting.
MAXIMUM_LINES = 400

SCRIPTS = {s.name: s for s in distribution("glia").entry_points.select(group="console_scripts")}
COMMANDS = sorted(SCRIPTS)


def modules() -> list[Path]:
    """Return every Python file of the packages, the tests and the two folders with scripts."""
    folders = [*PACKAGES.values(), ROOT / "tests", ROOT / "docs", ROOT / "images"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def canonical(name: str) -> str:
    """Return the one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def import_names() -> dict[str, set[str]]:
    """Return what can be imported here, {import name: the distributions that hold it}.

    From the wheels' RECORD files: `importlib.metadata.packages_distributions` leaves out, on Python 3.10, what wheels
    do not declare, and looks for each of torch's thousands of files on the disk.
    """
    owners: dict[str, set[str]] = {}
    for found in distributions():
        lines = (found.read_text("RECORD") or "").splitlines()
        tops = {line.partition(",")[0].partition("/")[0].partition(".")[0] for line in lines}
        for name in filter(str.isidentifier, tops):
            owners.setdefault(name, set()).add(canonical(found.name))
    return owners


def installed_for(*extras: str) -> set[str]:
    """Return the import names that `pip install 'glia[extras]'` brings, with all that these need in turn."""
    installed = {canonical(found.name) for found in distributions()}
    needed: set[str] = set()
    waiting = ["glia"]
    while waiting:
        name = waiting.pop()
        if name in needed or name not in installed:  # a dependency of another platform or Python is not here
            continue
        needed.add(name)
        for line in requires(name) or []:
            extra = re.search(r"extra *== *['\"]([\w-]+)['\"]", line)
            if extra is None or (name == "glia" and extra[1] in extras):
                waiting.append(canonical(re.split(r"[^\w.-]", line, maxsplit=1)[0]))
    return {name for name, owners in import_names().items() if needed & owners}


def run_with_only(allowed: set[str], code: str) -> "subprocess.CompletedProcess[str]":
    """Run `code` in a fresh interpreter where no installed package outside `allowed` can be imported."""
    blocked = set(import_names()) - allowed - set(sys.stdlib_module_names)
    preamble = f"""
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {blocked!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Absent())
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_runtime_imports_on_the_ground_floor() -> None:
    allowed = installed_for()
    assert {"numpy", "PIL", "typer", "rich"} <= allowed
    assert not {"torch", "timm", "onnx", "onnxruntime", "scipy"} & allowed
    done = run_with_only(
        allowed,
        """
        import importlib, pkgutil
        import glia_runtime
        names = [m.name for m in pkgutil.walk_packages(glia_runtime.__path__, "glia_runtime.")]
        for name in names:
            importlib.import_module(name)
        assert "torch" not in sys.modules
        print(len(names))
        """,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5  # the walk did find the modules


def test_the_block_on_imports_is_real() -> None:
    done = run_with_only(installed_for(), "import torch")
    assert done.returncode != 0
    assert "No module named 'torch'" in done.stderr


def test_the_bundled_model_scores_without_torch() -> None:
    done = run_with_only(
        installed_for("cpu"),
        f"""
        from glia_runtime.cli import app
        app([{str(ROOT / "images" / "chelsea.jpg")!r}, "--format", "csv"])
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "chelsea.jpg" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name(command), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    assert "\\b" not in done.stdout  # the mark for kept lines, which a raw docstring shows to the reader


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_says_in_words_what_is_taken(command: str) -> None:
    app = SCRIPTS[command].load()
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for part in getattr(typer.main.get_command(app), "commands", [None]):
        text = CliRunner().invoke(app, [part, "--help"] if part else ["--help"]).output
        assert "--debug  " in text
        assert not re.search(r"<\w", text), text  # <str>, <int range>, as typer has it
        usage = re.match(r"Usage: .*? (\[OPTIONS\].*)\n", text)
        assert usage is not None and f"\n{' '.join(filter(None, (command, part)))} {usage[1]}\n" in reference


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_its_version_and_what_is_wrong_on_one_line(command: str) -> None:
    path = Path(sys.executable).with_name(command)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"glia {version('glia')}\n")
    done = subprocess.run([path, "--qqq"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    # with glia-eval the option is its first command's: glia-eval MODEL
    page = {"glia-eval": "glia-eval model"}.get(command, command)
    assert line == f"{command}: No such option: --qqq (see {page} --help)"


def test_modules_are_short() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in modules()}
    assert len(lengths) > 20  # the search did find the modules
    assert {name: length for name, length in lengths.items() if length >= MAXIMUM_LINES} == {}


def test_no_module_is_called_utils() -> None:
    assert [path for path in modules() if path.stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_the_wheel_holds_the_four_packages_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package, folder in PACKAGES.items():
        expected = {f"{package}/{path.relative_to(folder)}" for path in folder.rglob("*.py")}
        assert expected | {f"{package}/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.startswith("glia_runtime/bundled/") and name.endswith(".onnx") for name in names)
    assert {f"glia_runtime/page/{name}" for name in ("page.html", "page.css", "report.html", "report.js")} <= set(names)
    assert {"glia/evaluation/page/evaluation.css", "glia/transfer/page/transfer.html"} <= set(names)


def test_the_photographs_are_what_their_readme_says() -> None:
    photographs = sorted(ROOT.glob("images/*.jpg"))
    described = (ROOT / "images" / "README.md").read_text(encoding="utf-8")
    seen, modes, turned = set(), set(), 0
    for path in photographs:
        with Image.open(path) as image:
            size = ImageOps.exif_transpose(image).size
            turned += image.size != size
            modes.add(image.mode)
        seen.add(size)
        assert f"`{path.name}` | {size[0]}x{size[1]}" in described
    assert 6 <= len(photographs) <= 10
    assert sum(path.stat().st_size for path in photographs) < 1_000_000
    assert turned >= 1
    assert modes == {"L", "RGB"}
    assert any(width < height for width, height in seen)
    assert len(seen) >= 4


def test_the_photographs_can_be_remade() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "images" / "make.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_the_whole_suite() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
