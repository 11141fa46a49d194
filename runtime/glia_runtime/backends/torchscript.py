"""TorchScript on the CPU or a CUDA GPU; torch is imported when an artifact is loaded, never before."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import numpy.typing as npt

from glia_runtime.backends.base import Backend
from glia_runtime.inputs import Inputs
from glia_runtime.manifest import Precision


class TorchScriptBackend(Backend):
    """A ``.ts`` file through `torch.jit.load`, which runs no Python and unpickles nothing of Python's.

    The file is a program all the same: TorchScript can write files, for instance, when it runs. See "Whom to trust" in
    docs/runtime.md.

    On the CPU `threads` is set for all of torch in this process: torch knows no other way.
    """

    name = "torchscript"

    @classmethod
    def obstacle(cls, device: str, precision: Precision) -> str | None:
        """Without a GPU, device "cuda"."""
        if device == "cpu":
            return None
        torch: Any = import_module("torch")
        return (
            None if torch.cuda.is_available() else f"torch {torch.__version__} finds no CUDA GPU here; use device cpu"
        )

    def _load(self) -> None:
        # By name, because torch may be missing, also where the types of this file are checked.
        torch: Any = import_module("torch")
        if self.device == "cpu":
            torch.set_num_threads(self.threads)
        else:
            self._bind(f"torch {torch.__version__}")
        try:
            with warnings.catch_warnings():
                # torch warns that torch.jit is deprecated (from Python 3.14 on: not supported), in favour of
                # torch.export; but the user asked for this file.
                warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is ")
                self._module: Any = torch.jit.load(str(self.artifact), map_location=self.device).eval()
        except Exception as error:  # RuntimeError, ValueError and others, by what in the file is wrong
            raise self._refuse(error) from error

    def _run(self, inputs: Inputs) -> npt.NDArray[Any]:
        torch: Any = import_module("torch")
        names = self.manifest.input_names
        # Left alone, the patch embedding, a convolution, takes TF32, which keeps 10 bits in a float32 product.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            scores = self._module(*(torch.from_numpy(inputs[name]).to(self.device) for name in names))
        return scores.cpu().numpy()  # type: ignore[no-any-return]
