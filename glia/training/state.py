"""The state that a stopped run goes on from: one file, replaced in one piece."""

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from glia_runtime.atomic import atomic_write
from glia_runtime.errors import CheckpointError

RESUME_FILE = "resume.pt"


@dataclass
class State:
    """What changes while a run goes on.

    Attributes:
        module: what is trained.
        optimizer: of its parameters.
        scaler: of the loss, for float16; it does nothing in other precisions.
        step: steps done.
        last: the last evaluation: step and, where there is something to evaluate on, srcc and plcc.
        best: that with the highest SRCC so far.
        seconds: spent on the steps and evaluations done.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int
    last: dict[str, float]
    best: dict[str, float]
    seconds: float

    @classmethod
    def begin(cls, module: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> "State":
        """Before the first step."""
        return cls(module, optimizer, scaler, 0, {}, {}, 0.0)

    def store(self, path: Path) -> None:
        """Write it.

        Raises:
            OutputError: the disk is full, say; the state before it stays.
        """
        content = {
            "step": self.step,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "last": self.last,
            "best": self.best,
            "seconds": self.seconds,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        with atomic_write(path) as temporary:
            temporary.write_bytes(buffer.getvalue())  # where a full disk is an OSError, which becomes one line

    def restore(self, path: Path) -> None:
        """Go on from a file, if it is there.

        Raises:
            CheckpointError: it is broken, or another model's.
        """
        if not path.exists():
            return
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            self.module.load_state_dict(content["module"])
            self.optimizer.load_state_dict(content["optimizer"])
            if content["scaler"]:
                self.scaler.load_state_dict(content["scaler"])
            self.step, self.last, self.best = int(content["step"]), dict(content["last"]), dict(content["best"])
            self.seconds = float(content.get("seconds", 0.0))  # earlier states go on without
        except Exception as error:  # whatever a broken file or another model's state makes torch raise
            reason = str(error).replace("\n", " ")[:160]
            raise CheckpointError(
                f"{path}: cannot be resumed from ({reason}); start anew with another --out"
            ) from error
