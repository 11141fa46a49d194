"""Work in other processes: in order, never far ahead, and nobody hangs or stays behind."""

import multiprocessing
import operator
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from glia.evaluation.processes import in_processes
from glia_runtime.errors import UsageError


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_order(processes: int) -> None:
    assert list(in_processes(operator.sub, ((i, 1) for i in range(20)), processes)) == list(range(-1, 19))
    assert list(in_processes(abs, [], processes)) == []


def test_results_do_not_pile_up_behind_a_slow_caller() -> None:
    taken = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal taken
        for taken in range(1, 31):
            yield (taken,)

    for result in in_processes(operator.neg, tasks(), 2):
        assert taken == min(-result + 2 * 2, 30)


def test_what_the_function_raises_is_raised_here() -> None:
    results = in_processes(operator.truediv, [(1, 1), (1, 0)], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert multiprocessing.active_children() == []


def test_closing_ends_the_processes() -> None:
    with closing(in_processes(abs, ((i,) for i in range(10**9)), 2)) as results:
        assert next(results) == 0
        assert multiprocessing.active_children()
    assert multiprocessing.active_children() == []


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(UsageError, match="one of 2 processes was killed, perhaps for lack of memory; give fewer"):
        list(in_processes(signal.raise_signal, [(signal.SIGKILL,)], 2))
    assert multiprocessing.active_children() == []


_SLOW_CALLER = """
import time
from contextlib import closing
from glia.evaluation.processes import in_processes

with closing(in_processes(time.sleep, ((0.01,) for _ in range(10**9)), 2)) as results:
    try:
        for index, _ in enumerate(results):
            if index == 50:  # both processes have long started
                print("started", flush=True)
                time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted")
"""


@contextmanager
def _started() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW_CALLER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("group", [True, False], ids=["Ctrl-C", "kill -INT"])
def test_an_interrupt_ends_all_processes_quietly(group: bool) -> None:
    """A terminal sends Ctrl-C to the whole group; the processes leave it to their parent."""
    with _started() as process:
        if group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


def test_a_killed_parent_leaves_no_processes() -> None:
    with _started() as process:
        process.kill()
        # They hold its pipes, which are at their end when the last process is.
        process.communicate(timeout=300)
