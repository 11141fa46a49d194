"""What `glia-eval` says while it works, on standard error."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import track


def steps(count: int, label: str, progress: Console) -> Callable[[], object]:
    """Draw a bar for `count` steps, where there is a terminal; the function that is returned takes one."""
    bar = iter(track(range(count), label, console=progress, disable=not progress.is_terminal))
    next(bar, None)
    return lambda: next(bar, None)


def say_failures(lines: Sequence[str], progress: Console) -> None:
    """Print what is wrong with pictures, a line each."""
    for line in lines:
        progress.print(line, highlight=False, markup=False, soft_wrap=True)
