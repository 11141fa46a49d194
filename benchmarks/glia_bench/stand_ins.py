"""Eager PyTorch beside an artifact whose checkpoint is not at hand: the same architecture with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glia_bench.measure import Say
from glia_bench.subjects import EAGER, Spec, tell_apart
from glia_runtime.backends.base import first_line
from glia_runtime.errors import GliaError, is_interrupt
from glia_runtime.manifest import read_manifest, sha256_file

WEIGHTS = "random (speed only)"
"""What a table says of a stand-in's."""


def stand_ins(specs: Sequence[Spec], folder: Path, note: Say) -> dict[Spec, str]:
    """A checkpoint with random weights for each artifact of `specs` whose own is not among them.

    What a model computes does not depend on its weights, so neither does its speed.

    Args:
        specs: what is measured anyway.
        folder: where the checkpoints are written.
        note: told of an architecture that cannot be made here.

    Returns:
        Each stand-in, and the digest of the checkpoint that it stands for.
    """
    # PyTorch, which must not be in the memory of the processes that import this module with `glia_bench.peers`.
    from glia.models import create_model, save_checkpoint

    known = {sha256_file(spec.path) for spec in specs if spec.is_checkpoint and spec.path.is_file()}
    found: dict[Spec, str] = {}
    for spec in specs:
        if spec.is_checkpoint:
            continue
        try:
            manifest = read_manifest(spec.path)
        except GliaError:  # said when it is opened
            continue
        digest = manifest.checkpoint_sha256
        if digest in known:
            continue
        known.add(digest)
        try:
            model = create_model(manifest.architecture, **manifest.config)
        # An architecture or a config of another glia, a library that is not here, sizes that do not fit: timm and
        # PyTorch raise what they like, and one artifact must not end all of peers.
        except Exception as error:
            if is_interrupt(error):
                raise
            reason = f"{manifest.architecture!r} cannot be made here: {first_line(error)}"
            note(f"{spec.path.name}: not in eager PyTorch ({reason})")
            continue
        path = folder / digest[:16] / f"{spec.path.stem}.pt"
        path.parent.mkdir()
        save_checkpoint(model, path)
        found[Spec(str(path), spec.device if spec.device in ("cpu", "cuda") else "auto", EAGER[0])] = digest
    return dict(zip(tell_apart(found, beside=specs), found.values(), strict=True))
