"""The state that a stopped run goes on from: one file, replaced in one piece."""

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

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
        predicted: late predictions, the newest last, from which the scale is learnt that a loss leaves open; float [N].
        target: their standardised labels.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int
    last: dict[str, float]
    best: dict[str, float]
    seconds: float
    predicted: Tensor
    target: Tensor

    @classmethod
    def begin(cls, module: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> "State":
        """Before the first step."""
        return cls(module, optimizer, scaler, 0, {}, {}, 0.0, torch.empty(0), torch.empty(0))

    def see(self, predicted: Tensor, target: Tensor, most: int) -> None:
        """Add a batch's predictions and labels, [B] each, and forget all but the last `most`."""
        self.predicted = torch.cat([self.predicted.to(predicted), predicted.detach()])[-most:]
        self.target = torch.cat([self.target.to(target), target])[-most:]

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
            "seen": torch.stack([self.predicted.cpu().double(), self.target.cpu().double()]),
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
            self.predicted, self.target = content.get("seen", torch.empty(2, 0))
        except Exception as error:  # whatever a broken file or another model's state makes torch raise
            reason = str(error).replace("\n", " ")[:160]
            raise CheckpointError(
                f"{path}: cannot be resumed from ({reason}); start anew with another --out"
            ) from error
