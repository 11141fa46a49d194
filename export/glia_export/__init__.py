"""A checkpoint becomes a verified artifact.

    from glia_export import export_checkpoint

    manifest = export_checkpoint("model.pt", "onnx", "model.onnx", precision="fp16")

The name is imported on first use, so that ``glia-export --help`` need not wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glia_export.exporter import export_checkpoint

__all__ = ["export_checkpoint"]


def __getattr__(name: str) -> Any:
    if name != "export_checkpoint":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from glia_export.exporter import export_checkpoint

    return export_checkpoint
