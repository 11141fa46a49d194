"""``glia-infer --info``: what an artifact's manifest says, for people."""

from __future__ import annotations

import io
from pathlib import Path

from glia_runtime.errors import one_line
from glia_runtime.manifest import Manifest, ParityRow, read_manifest, verify_artifact


def describe(artifact: Path) -> list[tuple[str, str]]:
    """Check an artifact against its manifest, without loading it, and return (what, words) for each thing said there.

    Raises:
        ManifestError, ArtifactError: as `read_manifest` and `verify_artifact` do.
    """
    manifest = read_manifest(artifact)
    verify_artifact(artifact, manifest)
    rows = [
        ("artifact", str(artifact)),
        ("size", f"{artifact.stat().st_size / 1e6:,.1f} MB"),
        ("SHA-256", f"{manifest.artifact_sha256} (verified)"),
        ("target", manifest.target + (f", opset {manifest.opset}" if manifest.opset else "")),
        ("precision", manifest.precision),
        ("architecture", manifest.architecture),
        *((f"  {name}", str(value)) for name, value in manifest.config.items()),
        ("input", _input(manifest)),
        ("limits", _limits(manifest)),
        ("scores", _scale(manifest)),
    ]
    if manifest.map_view:
        rows.append(("maps", f"of the {manifest.map_view} view"))
    if manifest.engine:
        gpus = ", ".join(manifest.engine.compute_capabilities)  # none for a CPU
        made_for = f", compute capability {gpus}" if gpus else ""
        rows.append(("engine", f"{manifest.engine.flavour} {manifest.engine.version}{made_for}"))
    rows += [
        ("parity of", manifest.parity_graph),
        *(
            (
                "  " + f"{row.backend} {row.precision}" + (f" on {row.device}" if row.device != "cpu" else ""),
                _parity(row),
            )
            for row in manifest.parity
        ),
        ("probe", f"{len(manifest.probe.scores)} pictures, tolerance {manifest.probe.tolerance:.3g}"),
        ("checkpoint", manifest.checkpoint_sha256),
        ("made by", f"glia {manifest.glia_version or '(unknown)'}, {manifest.created or 'date unknown'}"),
        ("manifest", f"version {manifest.manifest_version}"),
    ]
    return [(name, one_line(words)) for name, words in rows]


def info_text(artifact: Path, terminal: bool) -> str:
    """`describe` as text: a table as wide as the terminal, or ``name: words`` lines."""
    rows = describe(artifact)
    if not terminal:
        return "".join(f"{name.strip()}: {words}\n" for name, words in rows)
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in rows:
        table.add_row(Text(name), Text(words))
    text = io.StringIO()
    Console(file=text, force_terminal=True).print(table)
    return text.getvalue()


def _input(manifest: Manifest) -> str:
    views = manifest.view_spec
    shape = "x".join(map(str, views.shape[:-1]))
    kind = "image: pictures of any size" if manifest.input == "image" else f"views: {', '.join(views.names)} of {shape}"
    return f"{kind}; {views.about}"


def _limits(manifest: Manifest) -> str:
    limits = manifest.limits
    batch = f"{limits.max_batch} pictures a batch" if limits.max_batch else "any batch"
    if not (limits.max_width or limits.max_height):
        return f"{batch}, pictures of any size"
    return f"{batch}, pictures up to {limits.max_width or 'any'}x{limits.max_height or 'any'}"


def _scale(manifest: Manifest) -> str:
    scale = manifest.score_scale
    direction = "higher is better" if scale.higher_is_better else "lower is better"
    return f"{scale.minimum:g} to {scale.maximum:g}, {direction} ({scale.dataset})"


def _parity(row: ParityRow) -> str:
    srcc = "undefined" if row.srcc is None else f"{row.srcc:.6f}"
    verdict = "passed" if row.passed else "FAILED"
    return (
        f"{verdict}: over {row.images} pictures largest difference {row.max_abs:.3g} (bound {row.bound_max_abs:.3g}), "
        f"mean {row.mean_abs:.3g}, SRCC {srcc}"
    )
