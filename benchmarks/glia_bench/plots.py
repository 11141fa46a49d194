"""One picture for each kind of result, as SVG text, by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from glia_bench.results import Measurement, Run
from glia_bench.tables import scaled

# Without a date and with a fixed salt the same result makes the same file, so that a commit shows real changes only.
_SETTINGS: Any = {
    "svg.hashsalt": "glia",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

_WIDE = 20  # between two bars: from here on the shorter would not be seen on a linear axis


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, io.StringIO]]:
    """A matplotlib figure in inches and where its SVG text will be."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    sink = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, sink
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})


def _svg(sink: io.StringIO) -> str:
    """The element alone, without the XML prologue; it stands alone in an image."""
    text = sink.getvalue()
    return text[text.index("<svg") :]


def _grid(axes: Any, which: str) -> None:
    axes.grid(True, axis=which, linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)


def latency_plot(run: Run) -> str:
    """Share of queries done within a time, one line for each latency."""
    with _figure(7, 4) as (figure, sink):
        axes = figure.add_subplot()
        for item in run.measurements:
            if item.unit == "s" and len(item.samples) > 1:
                milliseconds = np.sort(item.samples) * 1000
                axes.step(milliseconds, np.arange(1, len(milliseconds) + 1) / len(milliseconds), label=_label(item))
        axes.set(xlabel="ms", ylabel="share of queries done", xscale="log", ylim=(0, 1.02))
        for level in (0.5, 0.9, 0.99):
            axes.axhline(level, color="grey", linewidth=0.4)
        _grid(axes, "x")
        _legend(axes)
    return _svg(sink)


def throughput_plot(run: Run) -> str:
    """Pictures a second over the batch size, one line for each subject, number of cores and kind of input."""
    lines: dict[str, list[Measurement]] = {}
    for item in run.measurements:
        if item.unit == "images/s":
            lines.setdefault(f"{item.subject}, {item.facts['cores']} cores", []).append(item)
    with _figure(7, 4) as (figure, sink):
        axes = figure.add_subplot()
        for name, items in lines.items():
            batches = [item.facts["batch"] for item in items]
            low, high = ([np.percentile(item.samples, edge) for item in items] for edge in (10, 90))
            axes.plot(batches, [item.median for item in items], marker="o", markersize=3, label=name)
            axes.fill_between(batches, low, high, alpha=0.2)
        axes.set(xlabel="pictures in a batch", ylabel="images/s", ylim=(0, None))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        _grid(axes, "both")
        _legend(axes)
    return _svg(sink)


def parity_plot(run: Run) -> str:
    """Scores against the reference's, and their differences below, which a diagonal would hide."""
    with _figure(7, 5) as (figure, sink):
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for item in run.measurements:
            # A score that is not finite is None in the file, NaN here, and no dot.
            reference, scores = (np.array(item.facts[name], dtype=float) for name in ("reference_scores", "scores"))
            upper.scatter(reference, scores, s=8, label=item.subject, alpha=0.7)
            lower.scatter(reference, scores - reference, s=8, alpha=0.7)
        ends = [min(upper.get_xlim()[0], upper.get_ylim()[0]), max(upper.get_xlim()[1], upper.get_ylim()[1])]
        upper.plot(ends, ends, color="grey", linewidth=0.6)
        lower.axhline(0, color="grey", linewidth=0.6)
        upper.set(ylabel="score")
        lower.set(xlabel="score of PyTorch fp32", ylabel="difference")
        lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        _legend(upper)
    return _svg(sink)


def stages_plot(run: Run) -> str:
    """What a file costs, its stages side by side and the stream's wall time as a mark; below, how long it waits.

    Waiting is no cost: pictures wait while others are computed, so that it adds up with nothing.
    """
    subjects = run.subjects()
    means = {(item.subject, item.metric): np.mean(item.samples) * 1000 for item in run.measurements}
    stages = list(dict.fromkeys(item.metric for item in run.measurements if item.facts.get("stage")))
    if not stages:  # interrupted before the first was measured
        return bars_plot(run)
    labels = [subject.replace(" (", "\n(") for subject in subjects]

    def widths(metric: str) -> Any:
        return np.array([means.get((name, metric), np.nan) for name in subjects])

    with _figure(7, 2.2 + 1.2 * len(subjects)) as (figure, sink):
        upper, lower = figure.subplots(2, 1)
        begins = np.zeros(len(subjects))
        for stage in stages:
            if stage != "queue":
                upper.barh(labels, widths(stage), left=begins, label=stage, height=0.6)
                begins += np.nan_to_num(widths(stage))
        wall = widths("stream, wall time a picture")
        if np.isfinite(wall).any():  # an interrupted run has none
            upper.scatter(wall, labels, marker="D", s=25, color="black", zorder=3, label="wall time of the stream")
        upper.set(xlabel="ms a picture, mean; each stage alone, files in a hot cache, fastest of three")
        lower.barh(labels, widths("queue"), color="grey", height=0.6)
        lower.set(xlabel="ms that a picture waits in the stream for a core and its batch, mean")
        for axes in (upper, lower):
            axes.invert_yaxis()
            axes.set(xlim=(0, None))
            _grid(axes, "x")
        figure.legend(ncols=len(stages), fontsize=7, frameon=False, loc="outside upper center", columnspacing=1)
    return _svg(sink)


def roofline_plot(run: Run) -> str:
    """Work a second over work a byte, both measured, below the machine's own two limits."""
    peaks = {item.metric: item.median for item in run.measurements if item.facts.get("ceiling")}
    if (copy := peaks.pop("copy bandwidth", None)) is None:  # interrupted before it was measured
        return bars_plot(run)
    points = [item for item in run.measurements if "flops_a_byte" in item.facts]
    intensities = [item.facts["flops_a_byte"] for item in points] or [100.0]
    with _figure(7, 4) as (figure, sink):
        axes = figure.add_subplot()
        x = np.geomspace(min(1.0, *intensities) / 2, max(1000.0, *intensities) * 2, 200)
        for name, peak in peaks.items():
            axes.plot(x, np.minimum(peak, x * copy) / 1e9, label=name, linewidth=1)
        for item in points:
            axes.scatter(item.facts["flops_a_byte"], item.median * item.facts["flops"] / 1e9, s=18, label=_label(item))
        axes.set(xscale="log", yscale="log", xlabel="FLOP a byte", ylabel="GFLOP/s")
        _grid(axes, "both")
        _legend(axes)
    return _svg(sink)


def bars_plot(run: Run) -> str:
    """Every figure in the first one's unit as a bar, where no other picture says more."""
    if not run.measurements:  # all that was asked for is a remark
        with _figure(7, 1) as (_, empty):
            pass
        return _svg(empty)
    # What the machine allows at most is no result, but where there is no other.
    measured = [item for item in run.measurements if not item.facts.get("ceiling")] or run.measurements
    scale, unit = scaled(measured[0].unit)
    items = [item for item in measured if item.unit == measured[0].unit]
    figures = [item.median * scale for item in items]
    # What is the same for all is said once, below.
    subjects, metrics = {item.subject for item in items}, {item.metric for item in items}
    if len(metrics) == 1:
        labels, common = [item.subject for item in items], [*metrics]
    elif len(subjects) == 1:
        labels, common = [item.metric for item in items], [*subjects]
    else:
        labels, common = [_label(item) for item in items], []
    with _figure(7, 1.0 + 0.35 * len(items)) as (figure, sink):
        axes = figure.add_subplot()
        axes.barh(labels, figures, height=0.6)
        axes.invert_yaxis()
        axes.set(xlabel=", ".join([*common, unit]))
        if max(figures) > _WIDE * min(figures):
            axes.set(xscale="log", xlim=(min(figures) / 2, None))
        _grid(axes, "x")
    return _svg(sink)


def _label(item: Measurement) -> str:
    return f"{item.subject}: {item.metric}"


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


_PLOTS: dict[str, Callable[[Run], str]] = {
    "latency": latency_plot,
    "throughput": throughput_plot,
    "parity": parity_plot,
    "stages": stages_plot,
    "roofline": roofline_plot,
}


def run_plot(run: Run) -> str:
    """The SVG element that fits the command of `run`."""
    return _PLOTS.get(run.command, bars_plot)(run)
