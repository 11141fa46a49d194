"""The processes that share one run: a GPU each, started by `torchrun`. Alone, a run needs none of this."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from glia_runtime.errors import MissingExtraError

# The others wait while the first one looks at every picture or computes its tokens; PyTorch gives up after ten minutes.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """The place of one process among those of its run.

    Every process draws its part of each batch and computes the loss of the whole of it, since a correlation is not a
    mean over parts; the gradients of the parts are then summed.

    Attributes:
        rank: 0 writes the files and speaks.
        count: how many there are.
        device: this one's.
    """

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls) -> "Processes":
        """Take the place that torchrun names in the environment; without it, be the only one.

        Raises:
            MissingExtraError: there are several, and accelerate is not installed.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            from accelerate import PartialState
        except ModuleNotFoundError as error:
            raise MissingExtraError.for_package("accelerate", "train", "training in several processes") from error
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
        return cls(state.process_index, state.num_processes, state.device)

    @property
    def first(self) -> bool:
        """Whether this one writes the files."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values, in place: it alone may have reached timm's hub, for instance."""
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        for tensor in tensors:
            tensor.detach().copy_(broadcast(tensor.detach().to(self.device)))

    def gather(self, part: Tensor) -> Tensor:
        """[b, ...] of every process, joined in the order of their ranks: [B, ...].

        The rows of this process keep their gradient; the others' have none here, and theirs there.
        """
        if self.count == 1:
            return part
        from accelerate.utils import gather

        # Parts may differ by a group; what is exchanged must have one shape.
        lengths: list[int] = gather(torch.tensor([len(part)], device=self.device)).tolist()
        if not any(lengths):
            return part
        padded = part.new_zeros(max(lengths), *part.shape[1:])
        padded[: len(part)] = part.detach()
        pieces = [rows[:length] for rows, length in zip(gather(padded).split(max(lengths)), lengths, strict=True)]
        pieces[self.rank] = part
        return torch.cat(pieces)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradient of each parameter by its sum over the processes.

        One exchange after the backward pass, in place of DistributedDataParallel's overlapped ones: what is trained
        are some 8 M parameters, 32 MB a step.
        """
        if self.count == 1:
            return
        from accelerate.utils import reduce

        gradients = [p.grad for p in parameters if p.grad is not None]
        summed: Tensor = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for gradient, total in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))
