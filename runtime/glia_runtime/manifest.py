"""The manifest: a sidecar ``<artifact>.json`` that says what an artifact is and proves that it still computes
the same.

A typed, versioned dataclass and its strict JSON form. Whoever opens an artifact reads the manifest first,
checks its version and its own digest, then the artifact's hash, and only then hands the file to a backend.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from glia_runtime.atomic import atomic_write
from glia_runtime.errors import ArtifactError, ManifestError
from glia_runtime.fragments import FragmentSpec
from glia_runtime.strict_json import JsonError, from_jsonable, parse_object, to_jsonable
from glia_runtime.view_spec import CropViews, FragmentViews, ViewSpec
from glia_runtime.views import VIEW_SIZE

MANIFEST_VERSION = "1.2"
"""Major.minor. Another major is refused; a newer minor may add fields, which this reader then ignores, and an older one
may lack fields, which then have their defaults.

1.1 added `artifact_bytes`, `map_view`, and `device` and `bound_mean_abs` to the rows of the parity report; 1.2
`crop_views`.
"""

InputKind = Literal["image", "views"]
View = Literal["semantic", "detail"]
Precision = Literal["fp32", "fp16", "fp16-weights", "bf16", "int8"]
"""Of weights and arithmetic; "fp16-weights" are stored as fp16 and computed with in fp32."""
Target = Literal["onnx", "torchscript", "trt", "trt-rtx", "pt2"]

_DIGEST_KEY = "manifest_sha256"


@dataclass(frozen=True)
class ScoreScale:
    """The opinion scale that scores are on: its ends, its direction, and the data set it comes from."""

    minimum: float
    maximum: float
    higher_is_better: bool
    dataset: str

    @property
    def range(self) -> float:
        """Width of the scale, maximum - minimum: the unit of every relative parity bound."""
        return self.maximum - self.minimum

    def quality(self, score: float) -> float:
        """`score` on a scale from 0, its worst end, to 100, its best; not clipped, as models overshoot both ends."""
        share = (score - self.minimum) / self.range
        return 100 * (share if self.higher_is_better else 1 - share)


@dataclass(frozen=True)
class Limits:
    """What the graph accepts: pictures a batch, and (for the "image" input) the sides of a picture in pixels.

    None means unlimited. `min_side` is met by enlarging a picture, never by refusing it.
    """

    max_batch: int | None = None
    min_side: int = 224
    max_height: int | None = None
    max_width: int | None = None


@dataclass(frozen=True)
class EngineInfo:
    """What a compiled engine is bound to: flavour, version of its library, compute capabilities ("8.9")."""

    flavour: str
    version: str
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Accept any sequence."""
        object.__setattr__(self, "compute_capabilities", tuple(self.compute_capabilities))


@dataclass(frozen=True)
class ParityRow:
    """Scores of one backend, computing in `precision` on `device`, compared with the PyTorch fp32 model's on the same
    `images` pictures.

    Differences and their bounds are in score units; a bound is None where none is set. A correlation is None where it
    is not defined (fewer than two pictures, or constant scores).
    """

    backend: str
    precision: Precision
    images: int
    max_abs: float
    mean_abs: float
    srcc: float | None
    plcc: float | None
    bound_max_abs: float
    bound_srcc: float | None
    passed: bool
    bound_mean_abs: float | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Probe:
    """Scores of `glia_runtime.probe.probe_images()` by the PyTorch fp32 model, and how far (score units) one
    may be off.
    """

    scores: tuple[float, ...]
    tolerance: float

    def __post_init__(self) -> None:
        """Accept any sequence of numbers."""
        object.__setattr__(self, "scores", tuple(float(score) for score in self.scores))


@dataclass(frozen=True)
class Manifest:
    """Everything a reader must know about an artifact before running it."""

    architecture: str
    """Name in the model registry ("glianet")."""
    config: dict[str, Any]
    """The architecture's own configuration, JSON values only."""
    checkpoint_sha256: str
    """SHA-256 of the source checkpoint file, lower-case hex."""
    artifact_sha256: str
    """SHA-256 of the artifact file, lower-case hex; empty only in the copy inside an ONNX file, which cannot
    know its own.
    """
    target: Target
    input: InputKind
    precision: Precision
    score_scale: ScoreScale
    parity: tuple[ParityRow, ...]
    probe: Probe
    parity_graph: str = "this artifact"
    """What the parity rows measured: "this artifact", or for an engine "onnx:<sha256>" of the graph it was
    compiled from.
    """
    fragment_spec: FragmentSpec = field(default_factory=FragmentSpec)
    """Of the detail view; says nothing where `crop_views` are there."""
    limits: Limits = field(default_factory=Limits)
    opset: int | None = None
    engine: EngineInfo | None = None
    artifact_bytes: int | None = None
    """Size of the artifact file; None where its SHA-256 is empty, and in manifests of version 1.0."""
    map_view: View | None = None
    """The view that the second output lies on, ``map`` float32 [B, G, G]: the share of its attention that the model
    gives to each patch (`glia_runtime.maps`). None: the graph has the output ``score`` alone.
    """
    crop_views: CropViews | None = None
    """What the model is shown, see `view_spec`. None: a semantic and a detail view."""
    glia_version: str = ""
    created: str = ""
    """UTC, ISO 8601."""
    manifest_version: str = MANIFEST_VERSION

    def __post_init__(self) -> None:
        """Accept any sequence of rows."""
        object.__setattr__(self, "parity", tuple(self.parity))

    @property
    def view_spec(self) -> ViewSpec:
        """What the model is shown of a picture."""
        return self.crop_views or FragmentViews(self.fragment_spec)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph's inputs, in its order."""
        return input_names(self.input, self.view_spec)

    def to_json(self) -> str:
        """JSON text, indented, with a digest of its own content so that a later edit shows."""
        fields = to_jsonable(self)
        fields[_DIGEST_KEY] = _digest(fields)
        return json.dumps(fields, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "manifest") -> Manifest:
        """Read what `to_json` wrote; `source` names the file in errors.

        Raises:
            ManifestError: not JSON, another major version, an unknown, missing or ill-typed field, impossible
                values, or content that does not match its digest.
        """
        try:
            fields = parse_object(text)
            minor, known_minor = _check_version(fields)
            digest = fields.pop(_DIGEST_KEY, None)
            expected = _digest(fields)
            manifest = from_jsonable(cls, fields, ignore_unknown=minor > known_minor, fill_defaults=minor < known_minor)
            _check_values(manifest)
            if digest != expected:
                raise JsonError(f"it was edited after export ({_DIGEST_KEY} does not match)")
        except JsonError as error:
            raise ManifestError(f"{source}: {error}; export the artifact again") from error
        return manifest

    def parity_row(self, backend: str, precision: Precision, device: str) -> ParityRow | None:
        """What the report says about one way to run the artifact, or None."""
        return next(
            (r for r in self.parity if (r.backend, r.precision, r.device) == (backend, precision, device)), None
        )


def input_names(kind: InputKind, views: ViewSpec) -> tuple[str, ...]:
    """The inputs of a graph of `kind`, in its order; see `glia_runtime.inputs`."""
    return ("images", "sizes") if kind == "image" else views.names


def manifest_path(artifact: str | Path) -> Path:
    """Where an artifact's manifest lies: ``<artifact>.json``."""
    artifact = Path(artifact)
    return artifact.with_name(artifact.name + ".json")


def read_manifest(artifact: str | Path) -> Manifest:
    """Read the sidecar of `artifact`.

    Raises:
        ArtifactError: there is no such artifact.
        ManifestError: the sidecar is missing, unreadable, or refused by `Manifest.from_json`.
    """
    artifact = Path(artifact)
    path = manifest_path(artifact)
    if not artifact.exists():
        raise ArtifactError(f"{artifact}: no such artifact; check the path, or make one with glia-export")
    if not artifact.is_file():
        raise ArtifactError(f"{artifact}: not a file; name the exported file itself")
    if path.is_fifo():  # it would be waited for
        raise ManifestError(f"{path}: is a pipe, not a file; export the artifact again")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(
            f"{artifact}: no artifact of glia-export, or its manifest {path.name} is missing; keep both together"
        ) from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a manifest (not UTF-8 text); export the artifact again") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return Manifest.from_json(text, source=str(path))


def write_manifest(manifest: Manifest, artifact: str | Path) -> Path:
    """Write `manifest` beside `artifact` and return the path.

    Raises:
        OutputError: the file cannot be written.
    """
    path = manifest_path(artifact)
    text = manifest.to_json()
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, lower-case hex, read in pieces."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def verify_artifact(path: str | Path, manifest: Manifest) -> None:
    """Raise `ArtifactError` unless the file's size and SHA-256 are those in its manifest."""
    try:
        size = Path(path).stat().st_size
        expected = size if manifest.artifact_bytes is None else manifest.artifact_bytes
        actual = sha256_file(path) if size == expected else ""
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if size < expected:
        raise ArtifactError(
            f"{path}: holds {size} bytes of the {expected} that its manifest says, so it was copied in part, or has "
            "another artifact's manifest: copy both again, or export again"
        )
    if size > expected:
        raise ArtifactError(
            f"{path}: holds {size} bytes and its manifest describes a file of {expected}, so that is the manifest of "
            "another artifact: copy both again, or export again"
        )
    if actual != manifest.artifact_sha256:
        raise ArtifactError(
            f"{path}: its SHA-256 {actual[:12]}... is not its manifest's {manifest.artifact_sha256[:12]}...; "
            "the file was changed, or is another one: copy both again, or export again"
        )


def _digest(fields: dict[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _check_version(fields: dict[str, Any]) -> tuple[int, int]:
    """Refuse another major version; return the minor one, and this reader's."""
    version = fields.get("manifest_version")
    if not isinstance(version, str):
        raise JsonError("not a glia manifest (no manifest_version)")
    parts = version.split(".")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise JsonError(f"manifest_version is {version!r}, not major.minor")
    major, minor = (int(part) for part in parts)
    known_major, known_minor = (int(part) for part in MANIFEST_VERSION.split("."))
    if major != known_major:
        raise JsonError(
            f"manifest version {version}, but this glia reads {known_major}.x; install the glia that wrote it"
        )
    return minor, known_minor


def _check_values(manifest: Manifest) -> None:
    for name in ("checkpoint_sha256", "artifact_sha256"):
        value: str = getattr(manifest, name)
        if value and (len(value) != 64 or set(value) - set("0123456789abcdef")):
            raise JsonError(f"{name} is not a SHA-256 in lower-case hex")
    if manifest.artifact_bytes is not None and manifest.artifact_bytes < 0:
        raise JsonError("artifact_bytes is negative")
    if manifest.score_scale.range <= 0:
        raise JsonError("score_scale.maximum is not above score_scale.minimum")
    if manifest.probe.tolerance < 0:
        raise JsonError("probe.tolerance is negative")
    parts = {"fragment_spec": manifest.fragment_spec, "crop_views": manifest.crop_views, "limits": manifest.limits}
    positive = {
        f"{name}.{item.name}": getattr(part, item.name)
        for name, part in parts.items()
        if part is not None
        for item in dataclasses.fields(part)
    }
    for name, number in positive.items():
        if number is not None and number < 1:
            raise JsonError(f"{name} is {number}, not a positive number")
    if manifest.view_spec.size != VIEW_SIZE:
        raise JsonError(f"views of {manifest.view_spec.size} pixels a side; this glia makes them of {VIEW_SIZE}")
