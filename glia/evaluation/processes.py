"""Work done by other processes, a little ahead of whoever wants the results.

Nothing heavy is imported here: a new process reads this module first, and must not be interrupted before it has.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from glia_runtime.errors import UsageError

Result = TypeVar("Result")


def in_processes(
    function: Callable[..., Result], tasks: Iterable[tuple[object, ...]], processes: int
) -> Generator[Result, None, None]:
    """Yield `function(*task)` for each task, in order.

    Tasks are taken, and results kept, ahead of the caller by at most two for each process, so that large results
    do not pile up behind a slow caller. Close the generator to end early; that waits for the tasks in hand.

    Args:
        function: a module's own function, which the processes import. What it raises is raised here.
        tasks: its arguments.
        processes: how many; with one, the work is done in this process, when it is asked for.

    Raises:
        UsageError: a process was killed.
    """
    if processes < 2:
        for task in tasks:
            yield function(*task)
        return
    # spawn: this process has started threads by now, and a fork would inherit their locks
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _obey_the_parent)
    pending: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(function, *task))
            if len(pending) > 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UsageError(
            f"one of {processes} processes was killed, perhaps for lack of memory; give fewer --processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _obey_the_parent() -> None:
    """In a new process: leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
