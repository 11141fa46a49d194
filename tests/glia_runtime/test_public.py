"""The public surface, and that no heavy library is needed to reach it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import glia_runtime

MODULES = sorted(module.name for module in pkgutil.walk_packages(glia_runtime.__path__, prefix="glia_runtime."))


def test_exported_names() -> None:
    assert glia_runtime.__all__ == [
        "MANIFEST_VERSION",
        "ArtifactError",
        "BackendError",
        "CheckpointError",
        "EngineInfo",
        "FragmentSpec",
        "GliaError",
        "ImageError",
        "Limits",
        "Manifest",
        "ManifestError",
        "MissingExtraError",
        "OutputError",
        "ParityRow",
        "Probe",
        "Result",
        "ScoreScale",
        "Scorer",
        "UsageError",
        "atomic_write",
        "detail_view",
        "enlarge",
        "fragment_sample",
        "probe_images",
        "read_manifest",
        "sample_views",
        "semantic_view",
        "verify_artifact",
        "write_manifest",
    ]


@pytest.mark.parametrize("name", glia_runtime.__all__)
def test_every_exported_name_resolves(name: str) -> None:
    assert getattr(glia_runtime, name) is not None
    assert name in dir(glia_runtime)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = glia_runtime.nothing


def test_the_package_itself_imports_nothing() -> None:
    code = "import sys, glia_runtime; print(sorted({'numpy', 'PIL', 'typer', 'rich'} & set(sys.modules)))"
    assert _python(code).stdout.strip() == "[]"


def test_library_modules_need_numpy_and_pillow_only() -> None:
    library = [name for name in MODULES if not name.endswith((".cli", ".command"))]
    code = f"""
import importlib, sys
for name in {library!r}:
    importlib.import_module(name)
heavy = ["torch", "timm", "onnx", "onnxruntime", "typer", "rich", "scipy", "glia", "glia_export"]
print([name for name in heavy if name in sys.modules])
"""
    assert _python(code).stdout.strip() == "[]"


def test_scoring_without_torch(views_artifact: Path, pictures: list[Path]) -> None:
    """Import every module and run the command where torch and timm cannot be imported."""
    code = f"""
import importlib, sys
for name in ("torch", "timm", "torchvision", "onnx", "onnxscript"):
    sys.modules[name] = None
for name in {MODULES!r}:
    importlib.import_module(name)
from glia_runtime.cli import app
app({["--model", str(views_artifact), "--self-test", "--format", "jsonl", str(pictures[0])]!r})
"""
    result = _python(code)
    assert result.returncode == 0, result.stderr
    assert '"error": null' in result.stdout


def test_a_command_line_is_read_without_pydantic() -> None:
    """Which some versions of typer import for it: a fifth of a cold start."""
    code = """
import sys
from glia_runtime.cli import app
app(["--top", "1", "missing.jpg"], standalone_mode=False)
"""
    result = _python(code + "print('pydantic' in sys.modules)")
    assert result.returncode == 0 and "False" in result.stdout, (result.stdout, result.stderr)


def test_torchscript_without_torch_names_the_extra(tmp_path: Path, views_artifact: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from tests.glia_runtime import artifacts
from glia_runtime import Scorer, MissingExtraError, write_manifest
path = Path({str(tmp_path / "model.ts")!r})
path.write_bytes(b"any bytes: the package is looked for first")
write_manifest(artifacts.manifest_for(path, "views", "torchscript"), path)
try:
    Scorer.open(path)
except MissingExtraError as error:
    print(error)
"""
    result = _python(code)
    assert "pip install 'glia[train]'" in result.stdout, result.stderr


def _python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
