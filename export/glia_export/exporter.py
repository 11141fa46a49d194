"""From a checkpoint to a verified artifact with its manifest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from glia.models import QualityModel, load_checkpoint
from glia.ops.resize import PICTURE_LIMITS
from glia_export.artifact_pair import write_pair
from glia_export.engine_options import EngineOptions, Profile, profile_of
from glia_export.parity import (
    BOUNDS,
    ParitySet,
    Say,
    Scores,
    built_in_pictures,
    check_maps,
    compare,
    describe,
    pictures_in,
    reference_maps,
    reference_scores,
)
from glia_export.pt2_export import Device, PackageTarget, package_target, save_pt2
from glia_export.targets import TARGETS, TargetInfo, target_info
from glia_export.tensorrt_export import Compiler, Progress, build_engine, check_plugin, choose_compiler
from glia_runtime.backends import Choice, choices
from glia_runtime.backends.engines import ENGINE_TARGETS, check_engine, this_machine
from glia_runtime.errors import ArtifactError, BackendError, GliaError, UsageError
from glia_runtime.manifest import (
    InputKind,
    Limits,
    Manifest,
    ParityRow,
    Precision,
    Probe,
    Target,
    sha256_file,
    write_manifest,
)
from glia_runtime.probe import probe_images
from glia_runtime.scorer import Scorer
from glia_runtime.view_spec import FragmentViews


def export_checkpoint(
    checkpoint: str | Path,
    target: Target,
    output: str | Path | None = None,
    *,
    precision: Precision = "fp32",
    input: InputKind = "image",
    images: str | Path | None = None,
    engine: EngineOptions | None = None,
    maps: bool = False,
    device: Device = "cpu",
    say: Say = lambda line: None,
    progress: Progress = lambda phase, done, total: None,
) -> Manifest:
    """Export a checkpoint, compare the artifact with the model, and write both file and manifest.

    Args:
        checkpoint: made by glia-train or `glia.models.save_checkpoint`.
        target: "onnx", "torchscript", "trt", "trt-rtx" or "pt2".
        output: the artifact; by default the checkpoint's name with the target's suffix, in the working directory.
        precision: one of the target's `TargetInfo.precisions`, see docs/export.md.
        input: "image" or "views", see docs/export.md.
        images: a folder of pictures for the parity report, `parity.MOST_PICTURES` at most; else a built-in set.
        engine: what an engine is built for; for "trt" and "trt-rtx" only.
        maps: add a second output, ``map``, that says where the model looked; for "onnx" only.
        device: what a package is compiled for, "cpu" or "cuda"; for "pt2" only.
        say: told what is going on, one line a step.
        progress: told how far the compiler of an engine is.

    Returns:
        The manifest, as written beside the artifact.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        UsageError: a target or precision that this release does not make, engine options that make no sense, or no
            pictures in `images`.
        MissingExtraError: a package that the target needs is not installed.
        ArtifactError: the artifact misses a bound of its parity report, or TensorRT refuses the graph; nothing is
            left behind.
        OutputError: the artifact cannot be written.
    """
    info = _checked_target(target, precision)
    if engine is not None and engine.plugin and (target, input) != ("trt", "image"):
        raise UsageError("--plugin is for --to trt with --input image: leave it out")
    if engine is not None and not info.is_engine:
        raise UsageError(f"--to {target} makes no engine: leave out --compute-capability, the batches and --max-size")
    if maps and target != "onnx":
        raise UsageError(f"--to {target} gives scores only; for maps export --to onnx")
    if device != "cpu" and target != "pt2":
        raise UsageError(f"--to {target} compiles for no device: leave out --device")
    checkpoint = Path(checkpoint)
    output = Path(output or checkpoint.stem + info.suffix)
    with write_pair(output) as temporary:
        if output.exists() and checkpoint.exists() and output.samefile(checkpoint):
            raise UsageError(f"{output}: is the checkpoint itself; name another file with -o")
        options = engine or EngineOptions()
        compiler = choose_compiler(target, options.compute_capabilities, say) if info.is_engine else None
        if compiler and options.plugin:
            check_plugin(compiler)
        package = package_target(device, precision) if target == "pt2" else None
        say(f"reading {checkpoint}")
        model = load_checkpoint(checkpoint)
        if maps and model.map_view is None:
            raise UsageError(f"{checkpoint}: this {model.architecture} cannot say where it looked; leave out --maps")
        spec = model.view_spec
        if options.plugin and not isinstance(spec, FragmentViews):
            raise UsageError(f"{checkpoint}: this {model.architecture} sees no fragments; leave out --plugin")
        profile = profile_of(options, input, spec) if info.is_engine else None
        limits = _limits(input, profile)
        pictures = pictures_in(Path(images), spec, limits, say) if images is not None else built_in_pictures(spec)
        say(f"scoring {pictures.about} with the PyTorch model")
        reference = reference_scores(model, pictures.views)
        draft = Manifest(
            architecture=model.architecture,
            config=model.config.to_dict(),
            checkpoint_sha256=sha256_file(checkpoint),
            artifact_sha256="",
            target=target,
            input=input,
            precision=precision,
            score_scale=model.score_scale,
            parity=(),
            probe=_probe(model, precision),
            **spec.manifest_fields(),
            limits=limits,
            map_view=model.map_view if maps else None,
            glia_version=version("glia"),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        with _called(temporary, output):
            if profile and compiler:
                manifest = _write_engine(
                    model,
                    draft,
                    pictures,
                    reference,
                    temporary,
                    profile,
                    compiler,
                    plugin=options.plugin,
                    say=say,
                    progress=progress,
                )
            elif package:
                manifest = _write_pt2(model, draft, pictures, reference, temporary, package, say)
            elif target == "onnx":
                manifest = _write_onnx(model, draft, pictures, reference, temporary, say)
            else:
                manifest = _write_torchscript(model, draft, pictures, reference, temporary, say)
            digest = sha256_file(temporary)
            manifest = replace(manifest, artifact_sha256=digest, artifact_bytes=temporary.stat().st_size)
            write_manifest(manifest, temporary)
            if reason := cannot_run_here(output, manifest):
                say(f"compiled, and not run here: {reason}")
            else:
                say("opening the pair as a user will, and scoring the probe")
                scorer = Scorer.open(temporary)
                if not scorer.probed:
                    scorer.self_test()
    return manifest


def cannot_run_here(output: Path, manifest: Manifest) -> str | None:
    """Why an engine, which may be for another machine, cannot be run on this one; None when it can, or is no engine."""
    if manifest.target not in ENGINE_TARGETS:
        return None
    try:
        check_engine(output, manifest, this_machine())
    except BackendError as error:
        return str(error)
    return None


def _limits(kind: InputKind, profile: Profile | None) -> Limits:
    return profile.limits if profile else PICTURE_LIMITS if kind == "image" else Limits()


@contextmanager
def _called(temporary: Path, output: Path) -> Iterator[None]:
    """Give an error about the temporary file the name that the user gave."""
    try:
        yield
    except GliaError as error:
        raise type(error)(str(error).replace(str(temporary), str(output))) from error


def _checked_target(target: str, precision: str) -> TargetInfo:
    try:
        info = target_info(target)
    except KeyError:
        raise UsageError(f"no target is called {target!r}; see glia-export --list") from None
    info.check_installed()
    if precision not in BOUNDS:
        raise UsageError(f"precision {precision!r} is not one of {', '.join(BOUNDS)}")
    if precision not in info.precisions:
        others = [other.name for other in TARGETS if precision in other.precisions]
        raise UsageError(
            f"--to {target} makes {', '.join(info.precisions)} only; for {precision} export --to {others[0]}"
        )
    return info


def _probe(model: QualityModel, precision: Precision) -> Probe:
    scores = reference_scores(model, list(map(model.view_spec.sample, probe_images())))
    # The bound that the export itself keeps: another machine's order of summation stays far inside it (1e-6 of the
    # range in fp32), another graph, kernel bug or precision does not.
    return Probe(tuple(scores.tolist()), BOUNDS[precision].max_abs * model.score_scale.range)


def _write_onnx(
    model: QualityModel,
    draft: Manifest,
    pictures: ParitySet,
    reference: Scores,
    path: Path,
    say: Say,
) -> Manifest:
    from glia_export.onnx_export import OPSET, build_onnx, embed_manifest, save_onnx

    draft = replace(draft, opset=OPSET)
    say("exporting the graph to ONNX")
    proto = build_onnx(model, draft.input, draft.precision, maps=draft.map_view is not None)
    save_onnx(proto, path)
    manifest = _proven(draft, pictures, reference, path, say)
    if draft.map_view is not None:
        _prove_maps(model, draft, path, say)
    embed_manifest(proto, manifest)
    save_onnx(proto, path)
    return manifest


def _write_engine(
    model: QualityModel,
    draft: Manifest,
    pictures: ParitySet,
    reference: Scores,
    path: Path,
    profile: Profile,
    compiler: Compiler,
    *,
    plugin: bool,
    say: Say,
    progress: Progress,
) -> Manifest:
    """Compile the ONNX graph; compare that graph with the model, since the engine may be for another machine."""
    from glia_export.onnx_export import OPSET, build_onnx, rounding_twin, save_onnx

    say("exporting the graph to ONNX")
    proto = build_onnx(model, draft.input, draft.precision)
    with TemporaryDirectory(prefix="glia-") as folder:
        graph = compared = Path(folder, "graph.onnx")
        save_onnx(proto, graph)
        how = ""
        if draft.precision == "bf16":
            compared, how = Path(folder, "twin.onnx"), " (float32, each value rounded to bf16)"
            save_onnx(rounding_twin(proto), compared)
        draft = replace(draft, opset=OPSET, parity_graph=f"onnx:{sha256_file(graph)}", engine=compiler.info)
        as_graph = replace(draft, target="onnx")
        needed = _needed(as_graph, compared)
        row = _row(needed, as_graph, pictures, reference, compared, say)
        _demand(row)
        capabilities = ", ".join(compiler.compute_capabilities)
        say(f"compiling that graph with {compiler.title} for compute capability {capabilities}")
        shapes = profile.shapes
        if plugin:
            from glia_export.tensorrt_plugin import build_with_plugin
        if not (plugin and build_with_plugin(proto, path, compiler, shapes, progress, say)):
            build_engine(graph, path, compiler, shapes, progress)
    return replace(draft, parity=(replace(row, backend=row.backend + how),))


def _write_torchscript(
    model: QualityModel,
    draft: Manifest,
    pictures: ParitySet,
    reference: Scores,
    path: Path,
    say: Say,
) -> Manifest:
    from glia_export.torchscript_export import save_torchscript

    say("tracing the graph to TorchScript")
    save_torchscript(model, draft.input, draft.precision, path)
    if draft.precision == "fp16" and not torch.cuda.is_available():
        say("comparing float16 on the CPU, which has no fast products for it: this takes long")
    return _proven(draft, pictures, reference, path, say)


def _write_pt2(
    model: QualityModel,
    draft: Manifest,
    pictures: ParitySet,
    reference: Scores,
    path: Path,
    package: PackageTarget,
    say: Say,
) -> Manifest:
    say(f"compiling the graph with torch {package.info.version} for {package.title}")
    save_pt2(model, draft.input, draft.precision, package, path)
    return _proven(replace(draft, engine=package.info), pictures, reference, path, say)


def _proven(draft: Manifest, pictures: ParitySet, reference: Scores, path: Path, say: Say) -> Manifest:
    """The manifest with its parity report, a row for each way to run the file that can run here.

    Raises ArtifactError when a bound is missed in the backend that the target needs. Another that misses one has its
    row all the same, so that the runtime's `auto` knows.
    """
    rows = [_row(_needed(draft, path), draft, pictures, reference, path, say)]
    _demand(rows[0])
    for choice in _others(draft, path):
        try:
            row = _row(choice, draft, pictures, reference, path, say)
        except GliaError as error:
            say(f"{choice.title} cannot run it, and auto will not pick it: {str(error).removeprefix(f'{path}: ')}")
            continue
        if not row.passed:
            say(f"a bound is missed, so auto will not pick {choice.title}: {describe(row)}")
        rows.append(row)
    return replace(draft, parity=tuple(rows))


def _needed(draft: Manifest, path: Path) -> Choice:
    """The way that proves the artifact, in the package without which the target is not made: on the CPU where it can
    run there, save TorchScript in fp16, for which CPUs have no fast products.
    """
    packages = target_info(draft.target).packages
    ways = [way for way in choices(path, draft) if way.info.package in packages]
    device = "cuda" if (draft.target, draft.precision) == ("torchscript", "fp16") else "cpu"
    able = [way for way in ways if not way.obstacle(path)] or ways
    return next((way for way in able if way.device == device), able[0])


def _others(draft: Manifest, path: Path) -> list[Choice]:
    """Every other way that can run here; not the CPU for what a GPU is needed for: it has no fast float16 products."""
    needed = _needed(draft, path)
    able = [choice for choice in choices(path, draft) if choice != needed and not choice.obstacle(path)]
    return [choice for choice in able if needed.device == "cpu" or choice.device == "cuda"]


def _row(choice: Choice, draft: Manifest, pictures: ParitySet, reference: Scores, path: Path, say: Say) -> ParityRow:
    say(f"scoring {pictures.about} with the exported file in {choice.title}")
    scores = _scores(Scorer(choice.load(path, draft)), pictures)
    return compare(choice.info.name, choice.precision, scores, reference, draft.score_scale.range, device=choice.device)


def _demand(row: ParityRow) -> None:
    if not row.passed:
        raise ArtifactError(f"the exported file does not score as the model does, so none was written: {describe(row)}")


def _prove_maps(model: QualityModel, draft: Manifest, path: Path, say: Say) -> None:
    """Compare the maps of the probe's pictures with the model's, in each way to run the file that can run here.

    Raises ArtifactError when those of the backend that the target needs are others; of another it is said.
    """
    images, needed = probe_images(), _needed(draft, path)
    reference = reference_maps(model, images)
    say("comparing maps with the PyTorch model's")
    for choice in (needed, *_others(draft, path)):
        try:
            check_maps(np.stack(Scorer(choice.load(path, draft)).maps(images)), reference, choice.precision)
        except GliaError as error:
            if choice == needed:
                raise
            say(f"{choice.title} is not for maps, name another --backend: {error}")


def _scores(scorer: Scorer, pictures: ParitySet) -> Scores:
    try:
        return scorer.score(pictures.images())
    except ArtifactError:  # a score that is not finite; the report says so with the other figures
        return np.full(len(pictures.sources), np.nan, dtype=np.float32)
