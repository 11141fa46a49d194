"""The real MLPerf LoadGen around one function: a scenario in, LoadGen's report and the latency of every sample out.

LoadGen decides when queries come and when a run is long enough; it times them and judges the result. What is here
hands its queries on and reads its logs: https://github.com/mlcommons/inference/tree/master/loadgen.
"""

from __future__ import annotations

import json
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from glia_bench.measure import quiet_stdout
from glia_bench.options import say
from glia_runtime.errors import BackendError, MissingExtraError

Scenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
Work = Callable[[list[int]], object]
"""Process the pictures of these indices as one batch."""

MULTI_STREAM_SAMPLES = 8  # inference_rules.adoc: a multi-stream query holds 8 samples
_DETAIL, _TRACE, _LINE = "mlperf_log_detail.txt", "mlperf_log_trace.json", ":::MLLOG "


@dataclass(frozen=True)
class Load:
    """What LoadGen is asked for.

    Attributes:
        scenario: one of the four.
        min_queries: fewest queries.
        min_seconds: shortest run.
        max_batch: most pictures in one call of the work (Offline and Server).
        expected_rate: samples a second: Offline's query is made that large, and Server's queries come that often.
        target_seconds: Server's bound on the 99th percentile.
    """

    scenario: Scenario
    min_queries: int
    min_seconds: float
    max_batch: int = 1
    expected_rate: float = 1.0
    target_seconds: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What LoadGen says.

    Attributes:
        latencies: of every query, seconds from when it was due to when its last sample was done, in order; Offline's
            one query is split into its samples.
        report: LoadGen's ``result_*``, ``early_stopping_*`` and ``effective_*`` entries, unchanged.
    """

    latencies: tuple[float, ...]
    report: dict[str, Any]

    @property
    def valid(self) -> bool:
        """LoadGen's verdict, which asks for enough queries as well as for the bound."""
        return bool(self.report["result_validity"] == "VALID")

    @property
    def reason(self) -> str:
        """Why the run is not VALID, in LoadGen's words."""
        said = self.report.get("result_invalid_reason") or self.report.get("early_stopping_result", "")
        return " ".join(said.replace(" * ", " ").split())

    @property
    def meets_target(self) -> bool:
        """Server: whether the percentile asked for was within the bound on the queries that there were."""
        return bool(self.report.get("result_perf_constraints_met", False))


def run_scenario(work: Work, pictures: int, load: Load) -> Outcome:
    """Let LoadGen put `load` on `work`, over `pictures` samples that are in memory.

    Raises:
        MissingExtraError: LoadGen is not installed.
        GliaError: as `work` raised it.
    """
    lg = _library()
    sut = _SystemUnderTest(lg, work, load)
    with tempfile.TemporaryDirectory(prefix="glia-loadgen-") as folder:
        handle = lg.ConstructSUT(sut.issue, sut.flush)
        library = lg.ConstructQSL(pictures, pictures, lambda indices: None, lambda indices: None)
        try:
            with sut, _interrupt_kept_by(sut), quiet_stdout():
                lg.StartTestWithLogSettings(handle, library, _settings(lg, load), _logs(lg, folder))
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(handle)
        if sut.failure is not None:
            raise sut.failure
        return Outcome(_latencies(Path(folder) / _TRACE, load.scenario), _report(Path(folder) / _DETAIL))


def _library() -> Any:
    try:
        return import_module("mlperf_loadgen")  # it ships no types
    except ImportError as error:
        raise MissingExtraError.for_package("mlcommons-loadgen", "bench", "glia-bench latency") from error


class _SystemUnderTest:
    """Takes LoadGen's queries. Server's come while others are worked on: a thread takes what waits, as one batch."""

    def __init__(self, lg: Any, work: Work, load: Load) -> None:
        self._lg, self._work = lg, work
        self._max_batch = MULTI_STREAM_SAMPLES if load.scenario == "MultiStream" else load.max_batch
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve) if load.scenario == "Server" else None
        self.failure: BaseException | None = None

    def __enter__(self) -> None:
        if self._thread is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen's callback: a query."""
        if self._thread is not None:
            for sample in samples:
                self._waiting.put(sample)
            return
        for start in range(0, len(samples), self._max_batch):
            self._process(samples[start : start + self._max_batch])

    def flush(self) -> None:
        """LoadGen's callback: no more queries in this run."""

    def _serve(self) -> None:
        while (sample := self._waiting.get()) is not None:
            batch = [sample]
            while len(batch) < self._max_batch and not self._waiting.empty():
                if (other := self._waiting.get()) is None:
                    self._waiting.put(None)
                    break
                batch.append(other)
            self._process(batch)

    def _process(self, batch: Sequence[Any]) -> None:
        # LoadGen waits for every answer, also after a failure, and cannot carry an exception: kept, and raised later.
        if self.failure is None:
            try:
                self._work([sample.index for sample in batch])
            except BaseException as error:
                self.failure = error
        self._lg.QuerySamplesComplete([self._lg.QuerySampleResponse(sample.id, 0, 0) for sample in batch])


@contextmanager
def _interrupt_kept_by(sut: _SystemUnderTest) -> Iterator[None]:
    """Let Ctrl-C be a failure of the work: as an exception in one of LoadGen's callbacks it would abort the process.

    A second one ends the process by the system's own handling: Python's would wait for LoadGen to call back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def keep(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sut.failure = sut.failure or KeyboardInterrupt()
        say("finishing LoadGen's current run, to keep what was measured; a second Ctrl-C ends the command at once")

    before = signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _settings(lg: Any, load: Load) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, load.scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_query_count = 1 if load.scenario == "Offline" else load.min_queries
    settings.min_duration_ms = round(load.min_seconds * 1000)
    settings.multi_stream_samples_per_query = MULTI_STREAM_SAMPLES
    settings.offline_expected_qps = load.expected_rate
    settings.server_target_qps = load.expected_rate
    settings.server_target_latency_ns = round(load.target_seconds * 1e9)
    settings.server_target_latency_percentile = 0.99
    return settings


def _logs(lg: Any, folder: str) -> Any:
    output = lg.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = False
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = True  # where the latency of every single sample is
    return logs


def _report(path: Path) -> dict[str, Any]:
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(_LINE):
            entry = json.loads(line.removeprefix(_LINE))
            if entry["key"].startswith(("result_", "early_stopping_", "effective_", "loadgen_version")):
                entries[entry["key"]] = entry["value"]
    if "result_validity" not in entries:
        raise BackendError("LoadGen ended without a result; measure again")
    return entries


def _latencies(path: Path, scenario: Scenario) -> tuple[float, ...]:
    """From the trace, whose lines are one event each; the file as a whole is not quite JSON."""
    done: dict[int, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith('{"name":"Sample"') and '"complete_ns"' in line:
            event = json.loads(line.rstrip().rstrip(","))["args"]
            key = event["sample_seq" if scenario == "Offline" else "query_seq"]
            done[key] = max(done.get(key, 0), event["complete_ns"])
    return tuple(done[key] / 1e9 for key in sorted(done))
