"""Results in rows of text, the same on the terminal, in HTML and in the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glia_bench.compare import MARGIN, Comparison, ratio_interval
from glia_bench.results import Measurement, Run, drift, unsteadiness

Table = list[list[str]]
"""The header, then the rows."""


def scaled(unit: str) -> tuple[float, str]:
    """What to multiply a figure by for people, and its unit then: seconds as ms, bytes as MB."""
    return {
        "s": (1e3, "ms"),
        "bytes": (1e-6, "MB"),
        "FLOP/s": (1e-9, "GFLOP/s"),
        "bytes/s": (1e-9, "GB/s"),
    }.get(unit, (1.0, unit))


def quantity(value: float | None, unit: str) -> str:
    """A figure for people, in three significant digits."""
    if value is None:
        return ""
    scale, shown = scaled(unit)
    return f"{_three(value * scale)} {shown}".rstrip()


def _three(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = next((count for count, limit in ((0, 100), (1, 10), (2, 1)) if abs(value) >= limit), 3)
        return f"{value:.{digits}f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{value:.2e}"


def percent(part: float | None) -> str:
    """A part of 1 in per cent."""
    return "" if part is None else f"{part:.0%}" if part >= 0.095 else f"{part:.1%}"


def measurements_table(run: Run) -> Table:
    """Every measurement: median, percentiles where samples suffice, unsteadiness, part of its limit, times eager."""
    from glia_bench.latency import measured_percentiles

    limited = any("limit" in item.facts for item in run.measurements)
    faster = times_eager(run)
    header = ["", "", "median", "p90", "p99", "samples", "variation"]
    rows = [header + ["of its limit"] * limited + ["times eager"] * bool(faster)]
    for item in run.measurements:
        many = len(item.samples) > 1
        # Of a rate the slow end is the low one; percentiles of rates would mislead.
        tail = measured_percentiles(item) if many and item.unit == "s" else {}
        row = [item.subject, item.metric, quantity(item.median, item.unit)]
        row += [quantity(tail.get(key), item.unit) for key in ("90", "99")]
        row += [str(len(item.samples)), percent(unsteadiness(item.samples)) if not item.facts.get("mixed") else "mixed"]
        row += [of_limit(item)] * limited
        rows.append(row + [faster.get((item.subject, item.metric), "")] * bool(faster))
    return rows


def times_eager(run: Run) -> dict[tuple[str, str], str]:
    """By (subject, metric): how many times as fast as its own checkpoint in eager PyTorch fp32 on the same device.

    With the 95 % interval of `ratio_interval` where there are samples enough for one, and no drift that would make it
    too narrow: "4.53 (4.41 to 4.60)".
    """
    timed = [item for item in run.measurements if item.unit in ("s", "images/s") and "target" in item.facts]
    plain = [item for item in timed if item.facts["target"] == "checkpoint" and item.facts["computes_in"] == "fp32"]

    def same_work(item: Measurement) -> tuple[object, ...]:
        return item.facts.get("checkpoint"), item.facts.get("device"), item.metric

    eager = {same_work(item): item for item in plain}
    found = {}
    for item in timed:
        base = eager.get(same_work(item), item)
        slow, fast = (base, item) if item.better == "higher" else (item, base)
        if base is not item and slow.median > 0:
            # Files of many sizes differ from half to half on the quietest machine.
            steady = all(each.facts.get("mixed") or drift(each.samples) <= MARGIN for each in (slow, fast))
            interval = ratio_interval(slow.samples, fast.samples) if steady else None
            spread = f" ({_three(interval[0])} to {_three(interval[1])})" if interval else ""
            found[item.subject, item.metric] = f"{_three(fast.median / slow.median)}{spread}"
    return found


def of_limit(item: Measurement) -> str:
    """The median as a part of the limit that the measurement names."""
    limit = item.facts.get("limit")
    if not limit:
        return ""
    return percent(item.median / limit if item.better == "higher" else limit / item.median)


def parity_table(run: Run) -> Table:
    """Agreement of each subject with the reference."""
    rows = [["", "pictures", "largest", "bound", "mean", "bound", "SRCC", "PLCC", "KRCC", "", "worst picture"]]
    for item in run.measurements:
        facts = item.facts
        bounded = (facts["largest"], facts["bound"], facts["mean"], facts.get("bound_mean"))  # older results lack it
        figures = ["" if value is None else f"{value:.3g}" for value in bounded]
        ranks = ["undefined" if facts[name] is None else f"{facts[name]:.5f}" for name in ("srcc", "plcc", "krcc")]
        verdict = "passed" if facts["passed"] else "MISSED"
        rows.append([item.subject, str(len(item.samples)), *figures, *ranks, verdict, facts["worst"][0]["picture"]])
    return rows


def peers_table(run: Run) -> Table:
    """One row for each subject, its quantities in columns; of a pass that was cut short, how many files it was."""
    metrics = list(dict.fromkeys(item.metric for item in run.measurements))
    faster = times_eager(run)
    rows = [["", *metrics, "weights"] + ["from files, times eager"] * bool(faster)]
    for subject in run.subjects():
        found = {item.metric: item for item in run.measurements if item.subject == subject}
        cells = [_peers_cell(found[name]) if name in found else "" for name in metrics]
        cells.append(next(iter(found.values())).facts.get("weights", ""))
        rows.append([subject, *cells] + [faster.get((subject, "from files"), "")] * bool(faster))
    return rows


def _peers_cell(item: Measurement) -> str:
    scored, given = item.facts.get("pictures", 0), item.facts.get("pictures_given", 0)  # older results lack them
    return quantity(item.median, item.unit) + (f" ({scored} of {given} files)" if scored < given else "")


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Ratios B / A with their intervals."""
    rows = [["", "", "A", "B", "B / A", "95 % interval", ""]]
    for item in comparisons:
        interval = "none" if item.low is None else f"{item.low:.3f} to {item.high:.3f}"
        medians = [quantity(value, item.unit) for value in (item.before, item.after)]
        ratio = "" if item.ratio is None else f"{item.ratio:.3f}"
        rows.append([item.subject, item.metric, *medians, ratio, interval, item.verdict])
    return rows


_TABLES: dict[str, Callable[[Run], Table]] = {"parity": parity_table, "peers": peers_table}


def run_table(run: Run) -> Table:
    """The table that fits the command of `run`."""
    return _TABLES.get(run.command, measurements_table)(run)


def markdown(table: Table) -> str:
    """A Markdown table; figures to the right."""
    header, *rows = ([cell.replace("|", "\\|") for cell in row] for row in table)
    rule = ["---" if index < 1 else "---:" for index in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows]).replace("|  |", "| |")


def plain(table: Table) -> str:
    """Columns padded with spaces, for a terminal or a pipe."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(line for line in lines if line)
