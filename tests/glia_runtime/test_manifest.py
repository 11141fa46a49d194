"""Manifests round-trip, and no mutation of one gets through or ends in anything but one line."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glia_runtime import (
    ArtifactError,
    EngineInfo,
    Limits,
    Manifest,
    ManifestError,
    OutputError,
    ParityRow,
    Probe,
    ScoreScale,
    read_manifest,
    verify_artifact,
    write_manifest,
)
from glia_runtime.manifest import _digest, manifest_path
from glia_runtime.view_spec import CropViews, FragmentViews

MANIFEST = Manifest(
    architecture="glianet",
    config={"backbone": "vit_tiny_patch16_224", "depth": 12, "both": True, "rate": 0.5, "none": None},
    checkpoint_sha256="a" * 64,
    artifact_sha256="b" * 64,
    target="onnx",
    input="image",
    precision="fp16",
    score_scale=ScoreScale(1, 5, True, "synthetic"),
    parity=(ParityRow("onnxruntime", "fp16", 64, 1e-3, 1e-4, 0.9999, 0.9999, 0.04, 0.999, True),),
    probe=Probe((1.5, 2.25), 0.01),
    limits=Limits(max_batch=32, max_height=4096, max_width=4096),
    opset=20,
    glia_version="0.1.0",
    created="2026-11-21T08:00:00+00:00",
)


def signed(fields: dict[str, Any]) -> str:
    """JSON of `fields` with a digest that fits: what a careful forger, or another writer, would leave."""
    fields = {key: value for key, value in fields.items() if key != "manifest_sha256"}
    return json.dumps({**fields, "manifest_sha256": _digest(fields)})


def fields_of(manifest: Manifest = MANIFEST) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(manifest.to_json())
    return fields


@pytest.mark.parametrize(
    "manifest",
    [
        MANIFEST,
        replace(MANIFEST, engine=EngineInfo("rtx", "1.7", ("8.9", "12.0")), parity=(), opset=None),
        replace(MANIFEST, config={}, probe=Probe((), 0)),
        replace(MANIFEST, created="\udcff é \n"),
    ],
)
def test_round_trip(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_manifest_of_version_1_0_still_reads() -> None:
    """Its rows had neither a device nor a bound of the mean."""
    fields = {**fields_of(), "manifest_version": "1.0"}
    fields["parity"] = [{**fields["parity"][0]}]
    del fields["parity"][0]["device"], fields["parity"][0]["bound_mean_abs"]
    (row,) = Manifest.from_json(signed(fields)).parity
    assert row == MANIFEST.parity[0] and (row.device, row.bound_mean_abs) == ("cpu", None)
    del fields["parity"][0]["passed"]
    with pytest.raises(ManifestError, match=r"parity\[0\].passed is missing"):
        Manifest.from_json(signed(fields))


def test_the_row_of_one_way_to_run_it() -> None:
    assert MANIFEST.parity_row("onnxruntime", "fp16", "cpu") is MANIFEST.parity[0]
    for way in (("openvino", "fp16", "cpu"), ("onnxruntime", "bf16", "cpu"), ("onnxruntime", "fp16", "cuda")):
        assert MANIFEST.parity_row(*way) is None


def test_lists_become_tuples() -> None:
    """So that a manifest equals what is read back."""
    assert Probe([1, 2], 0).scores == (1.0, 2.0)  # type: ignore[arg-type]
    assert replace(MANIFEST, parity=list(MANIFEST.parity)) == MANIFEST  # type: ignore[arg-type]
    assert EngineInfo("rtx", "1.7", ["8.9"]).compute_capabilities == ("8.9",)  # type: ignore[arg-type]


def test_files(tmp_path: Path) -> None:
    artifact = tmp_path / "model.onnx"
    artifact.write_bytes(b"graph")
    assert write_manifest(MANIFEST, artifact) == tmp_path / "model.onnx.json" == manifest_path(artifact)
    assert read_manifest(artifact) == MANIFEST
    with pytest.raises(ArtifactError, match=r"model.onnx: its SHA-256 [0-9a-f]{12}... is not its manifest's bbbb"):
        verify_artifact(artifact, MANIFEST)
    # SHA-256 of b"graph", computed by coreutils' sha256sum.
    known = "eef93e1d14482804277fca0172464032d1a4fdbcc338524059fa1e861454ad4d"
    verify_artifact(artifact, replace(MANIFEST, artifact_sha256=known))
    verify_artifact(artifact, replace(MANIFEST, artifact_sha256=known, artifact_bytes=5))
    with pytest.raises(ArtifactError, match="holds 5 bytes of the 6 that its manifest says, so it was copied in part"):
        verify_artifact(artifact, replace(MANIFEST, artifact_sha256=known, artifact_bytes=6))
    with pytest.raises(ArtifactError, match=r"holds 5 bytes and its manifest describes a file of 4, so .* of another"):
        verify_artifact(artifact, replace(MANIFEST, artifact_sha256=known, artifact_bytes=4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"manifest_version": "2.0"}, "manifest version 2.0, but this glia reads 1.x; install the glia"),
        ({"manifest_version": "0.9"}, "manifest version 0.9"),
        ({"manifest_version": 1}, "no manifest_version"),
        ({"manifest_version": "one"}, "not major.minor"),
        ({"manifest_version": "1.²"}, "not major.minor"),
        ({"surprise": 1}, "unknown field surprise"),
        ({"target": "coreml"}, "target is 'coreml', not one of onnx, torchscript"),
        ({"target": ["onnx"]}, "target is .'onnx'., not one of"),
        ({"opset": 20.5}, "opset is a number, not a whole number"),
        ({"opset": True}, "opset is true or false, not a whole number"),
        ({"config": []}, "config is a list, not an object"),
        ({"parity": {}}, "parity is an object, not a list"),
        ({"parity": [1]}, r"parity\[0\] is a whole number, not an object"),
        ({"architecture": None}, "architecture is null, not text"),
        ({"artifact_sha256": "B" * 64}, "artifact_sha256 is not a SHA-256"),
        ({"artifact_bytes": -1}, "artifact_bytes is negative"),
        ({"checkpoint_sha256": "abc"}, "checkpoint_sha256 is not a SHA-256"),
        ({"probe": {"scores": [1], "tolerance": -1}}, "probe.tolerance is negative"),
        ({"probe": {"scores": ["1"], "tolerance": 1}}, r"probe.scores\[0\] is text, not a number"),
        ({"probe": {"scores": [10**400], "tolerance": 1}}, r"probe.scores\[0\] is too large"),
        ({"probe": {"scores": []}}, "field probe.tolerance is missing"),
        ({"fragment_spec": {"grid": 0, "fragment": 32}}, "fragment_spec.grid is 0"),
        ({"fragment_spec": {"grid": 8, "fragment": 32}}, "views of 256 pixels a side; this glia makes them of 224"),
        ({"crop_views": {"grid": 0, "crop": 224}}, "crop_views.grid is 0"),
        ({"crop_views": {"grid": 5, "crop": 384}}, "views of 384 pixels a side; this glia makes them of 224"),
        ({"crop_views": {"grid": 5}}, "field crop_views.crop is missing"),
        (
            {"score_scale": {"minimum": 1, "maximum": 1, "higher_is_better": True, "dataset": ""}},
            "maximum is not above",
        ),
        (
            {"limits": {"max_batch": 0, "min_side": 224, "max_height": None, "max_width": None}},
            "limits.max_batch is 0",
        ),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ManifestError, match=f"^here.json: .*{reason}"):
        Manifest.from_json(signed({**fields_of(), **change}), "here.json")


@pytest.mark.parametrize("name", list(fields_of()))
def test_every_field_is_required(name: str) -> None:
    fields = fields_of()
    del fields[name]
    text = json.dumps(fields) if name == "manifest_sha256" else signed(fields)
    with pytest.raises(ManifestError, match=name):
        Manifest.from_json(text)


def test_an_edit_without_the_digest_shows() -> None:
    text = MANIFEST.to_json().replace('"maximum": 5', '"maximum": 9')
    assert text != MANIFEST.to_json()
    with pytest.raises(ManifestError, match="edited after export"):
        Manifest.from_json(text)


def test_an_older_minor_version_lacks_what_was_added_since() -> None:
    fields = {**fields_of(), "manifest_version": "1.0"}
    del fields["artifact_bytes"], fields["map_view"]
    assert Manifest.from_json(signed(fields)) == replace(MANIFEST, manifest_version="1.0")
    fields = {**fields_of(), "manifest_version": "1.1"}
    del fields["crop_views"]
    assert Manifest.from_json(signed(fields)).view_spec == FragmentViews()


def test_what_the_model_is_shown_comes_back() -> None:
    manifest = replace(MANIFEST, input="views", crop_views=CropViews(grid=3))
    read = Manifest.from_json(manifest.to_json())
    assert read.view_spec == CropViews(grid=3)
    assert read.input_names == ("crops",)
    assert replace(read, input="image").input_names == ("images", "sizes")
    assert replace(read, crop_views=None).input_names == ("semantic", "detail")


def test_a_newer_minor_version_may_add_fields() -> None:
    fields = {**fields_of(), "manifest_version": "1.9", "later": {"x": 1}}
    fields["limits"] = {**fields["limits"], "later": 1}
    assert Manifest.from_json(signed(fields)) == replace(MANIFEST, manifest_version="1.9")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": 1, "a": 2}', "appears twice"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "1" * 5000 + "}", "not valid JSON"),
    ],
)
def test_text_that_is_no_manifest(text: str, reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        Manifest.from_json(text)


def paths_into(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    return [path, *(inner for key, child in children for inner in paths_into(child, (*path, key)))]


SHORT_TEXT = st.text(max_size=5)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | SHORT_TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(SHORT_TEXT, children, max_size=3),
    max_leaves=6,
)


@given(path=st.sampled_from(paths_into(fields_of())[1:]), value=JSON_VALUES, sign=st.booleans())
def test_any_field_replaced_by_any_value(path: tuple[Any, ...], value: Any, sign: bool) -> None:
    fields = fields_of()
    inner: Any = fields
    for key in path[:-1]:
        inner = inner[key]
    unchanged = inner[path[-1]] == value and type(inner[path[-1]]) is type(value)
    inner[path[-1]] = value
    text = signed(fields) if sign else json.dumps(fields)
    try:
        manifest = Manifest.from_json(text)
    except ManifestError as error:
        assert "\n" not in str(error)
    else:
        # What gets through is what it says it is: it writes itself out again, and without a fitting digest
        # only the unchanged content does.
        assert Manifest.from_json(manifest.to_json()) == manifest
        assert sign or unchanged


@given(st.data())
def test_any_bytes_changed(data: st.DataObject) -> None:
    text = MANIFEST.to_json().encode()
    at = data.draw(st.integers(0, len(text) - 1))
    replacement = data.draw(st.binary(max_size=3))
    changed = text[:at] + replacement + text[at + 1 :]
    try:
        manifest = Manifest.from_json(changed.decode("utf-8", "surrogateescape"))
    except ManifestError as error:
        assert "\n" not in str(error)
    else:
        assert manifest == MANIFEST  # white space


def test_missing_files(tmp_path: Path) -> None:
    artifact = tmp_path / "model.onnx"
    with pytest.raises(ArtifactError, match=r"model.onnx: no such artifact"):
        read_manifest(artifact)
    with pytest.raises(ArtifactError, match="not a file"):
        read_manifest(tmp_path)
    artifact.write_bytes(b"graph")
    with pytest.raises(ManifestError, match=r"its manifest model.onnx.json is missing"):
        read_manifest(artifact)
    manifest_path(artifact).write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(artifact)
    manifest_path(artifact).unlink()
    manifest_path(artifact).mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(artifact)
    with pytest.raises(OutputError, match="is a directory"):
        write_manifest(MANIFEST, artifact)


def test_scale_range() -> None:
    assert ScoreScale(1, 5, True, "x").range == 4


@pytest.mark.parametrize(
    ("scale", "score", "quality"),
    [
        (ScoreScale(1.0, 5.0, True, "none"), 1.0, 0.0),
        (ScoreScale(1.0, 5.0, True, "none"), 4.0, 75.0),
        (ScoreScale(0.0, 10.0, False, "none"), 0.0, 100.0),
        (ScoreScale(0.0, 10.0, False, "none"), 9.0, 10.0),
        (ScoreScale(0.0, 10.0, False, "none"), 11.0, -10.0),  # beyond its scale: not clipped
    ],
)
def test_quality_runs_from_worst_to_best(scale: ScoreScale, score: float, quality: float) -> None:
    assert scale.quality(score) == pytest.approx(quality)


def test_a_pipe_in_the_place_of_the_manifest_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"graph")
    os.mkfifo(manifest_path(path))
    with pytest.raises(ManifestError, match="not a file"):
        read_manifest(path)
