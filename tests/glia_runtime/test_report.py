"""The page of ``glia-infer --report``: whole, closed to the outside, and faithful to the results."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from glia_runtime import Manifest, Result, ScoreScale, read_manifest
from glia_runtime import report as report_module
from glia_runtime.report import Report
from glia_runtime.thumbnails import thumbnail
from tests.glia_runtime.chromium import CHROMIUM, Page
from tests.glia_runtime.test_cli import COMMAND, HEADER, csv_rows, infer, lines
from tests.shapes import noise_image

VOID = {"meta", "img", "input"}

HOSTILE = [
    "<script>alert(1)</script>.png",
    "</script><script>alert(2)</script>.png",
    '"><img src=x onerror=alert(3)>.png',
    "' onmouseover='alert(4).png",
    "javascript:alert(5).png",
    "http:example.org?remote.png",
    "$style ${script} $$.png",
    "--><!-- &lt;b&gt; &amp;.png",
    "new\nline\r\t\x1b[31m.png",
    os.fsdecode(b"byte\xff\xfe.png"),
    "turn\u202ednuora.png",
    "schön 100% #1?x=y.png",
]


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def manifest(views_artifact: Path) -> Manifest:
    return read_manifest(views_artifact)


def result(path: str, score: float) -> Result:
    return Result(path, score, None, 100 * score, 40, 30, thumbnail(noise_image(30, 40)))


def write(path: Path, manifest: Manifest, results: Iterable[Result]) -> Reader:
    report = Report()
    report.begin(manifest, Path("model.onnx"))
    for item in results:
        report.add(item)
    report.write(path)
    return Reader(path.read_text(encoding="utf-8"))


def scores(page: Reader) -> list[float]:
    return [float(item["data-score"] or "") for item in page.all("li") if "data-score" in item]


def displayed(path: str) -> str:
    """A path as the page may show it: what is printable as it is, all else written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def hostile_page(path: Path, manifest: Manifest) -> Reader:
    good = [result(name, index / 20) for index, name in enumerate(HOSTILE)]
    bad = [Result(name, None, f"{name}: no such file; check the path") for name in HOSTILE]
    return write(path, replace(manifest, architecture="<b>", parity_graph="</table>"), [*good, *bad])


# The page


def test_names_are_text_whatever_they_hold(manifest: Manifest, tmp_path: Path) -> None:
    page = hostile_page(tmp_path / "report.html", manifest)
    assert [link["title"] for link in page.all("a")] == [displayed(name) for name in HOSTILE]
    links = [link["href"] or "" for link in page.all("a")]
    assert not any("://" in link or link.startswith("/") or ":" in link for link in links)
    # From the page's folder each link leads to the file itself, byte for byte.
    for name, link in zip(HOSTILE, links, strict=True):
        target = os.path.normpath(os.fsencode(tmp_path) + b"/" + unquote_to_bytes(link))
        assert target == os.fsencode(os.path.abspath(name))  # noqa: PTH100
    failures = "".join(page.texts["li"])
    assert failures.count("no such file; check the path") == len(HOSTILE)
    for text in (displayed(name) for name in HOSTILE):
        assert text in page.texts["b"]


def test_the_page_is_closed_to_the_outside(manifest: Manifest, tmp_path: Path) -> None:
    page = hostile_page(tmp_path / "report.html", manifest)
    assert "link" not in {tag for tag, _ in page.elements}
    assert len(page.all("script")) == 2
    for tag, attributes in page.elements:
        assert not any(name == "style" or name.startswith("on") or name == "src" for name in attributes), tag
    (policy,) = (meta["content"] or "" for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:; ")
    # The policy allows this very style and script.
    for text in ("".join(page.texts["style"]), page.texts["script"][-1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "://" not in text
    assert "url(" not in text


def test_the_worst_come_first(manifest: Manifest, tmp_path: Path) -> None:
    values = [0.5, 0.1, 0.9, 0.1, 0.3]
    items = [result(f"{index}.png", value) for index, value in enumerate(values)]
    assert scores(write(tmp_path / "higher.html", manifest, items)) == sorted(values)
    lower = replace(manifest, score_scale=ScoreScale(0, 1, False, "none"))
    page = write(tmp_path / "lower.html", lower, items)
    assert scores(page) == sorted(values, reverse=True)
    # Of equal scores the first comes first.
    assert [link["title"] for link in page.all("a")][-2:] == ["1.png", "3.png"]


def test_thumbnails_stand_in_the_order_of_the_tiles(manifest: Manifest, tmp_path: Path) -> None:
    thumbnails = [thumbnail(noise_image(20 + index, 30)) for index in range(3)]
    items = [Result(f"{i}.png", 1 - i / 10, None, None, 30, 20, data) for i, data in enumerate(thumbnails)]
    page = write(tmp_path / "report.html", manifest, [*items, Result("blank.png", 0.95, None)])
    rows = page.texts["script"][0].lstrip().split("\n")
    expected = [*reversed(thumbnails[1:]), b"", thumbnails[0], b""]  # nothing follows the last line's end
    assert [base64.b64decode(row) for row in rows] == expected


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 9, 10, 200])
def test_of_many_the_worst_the_best_and_a_sample_are_shown(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, higher: bool, count: int
) -> None:
    for name, number in (("WORST", 5), ("BEST", 2), ("BETWEEN", 3)):
        monkeypatch.setattr(report_module, name, number)
    manifest = replace(manifest, score_scale=ScoreScale(0, 1, higher, "none"))
    values = np.random.default_rng(count).permutation(np.linspace(0.1, 0.9, count)).tolist()
    page = write(tmp_path / "report.html", manifest, (result(f"{value}.png", value) for value in values))
    ranked = sorted(values, reverse=not higher)
    shown = scores(page)
    assert len(shown) == min(count, 10)
    assert shown[:5] == ranked[:5]
    assert shown[-2:] == ranked[-2:]
    assert set(shown) <= set(values)
    assert shown == sorted(set(shown), reverse=not higher)
    assert ("at random from the others" in "".join(page.texts["p"])) == (count > 10)
    assert f"{count:,}" in page.texts["dd"]


def test_the_sample_is_fair(manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Early and late pictures are drawn alike, though none but the last is known when one is seen."""
    for name, number in (("WORST", 0), ("BEST", 0), ("BETWEEN", 400)):
        monkeypatch.setattr(report_module, name, number)
    items = (Result(f"{i}.png", i / 4000, None) for i in range(4000))
    shown = scores(write(tmp_path / "report.html", manifest, items))
    # The number from the first half is hypergeometric: mean 200, standard deviation 9.5.
    assert abs(sum(score < 0.5 for score in shown) - 200) < 5 * 9.5


def test_the_histogram_counts_every_picture(manifest: Manifest, tmp_path: Path) -> None:
    values = [*np.random.default_rng(1).beta(2, 5, 500).tolist(), -0.2, 1.3]  # models overshoot both ends
    page = write(tmp_path / "report.html", manifest, (result(f"{value}.png", value) for value in values))
    counts = [int(re.findall(r": ([\d,]+) picture", title)[0]) for title in page.texts["title"][1:]]
    columns = page.all("g")
    edges = [float(column["data-from"] or "") for column in columns] + [float(columns[-1]["data-to"] or "")]
    assert (edges[0], edges[-1]) == (-0.2, 1.3)
    assert counts == np.histogram(values, edges)[0].tolist()
    assert sum(counts) == len(values)


def test_nothing_was_scored(manifest: Manifest, tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", manifest, [Result("a.png", None, "a.png: no such file; check the path")])
    assert "No picture was scored." in page.texts["p"]
    assert page.all("svg") == []


def test_failures_are_listed_up_to_a_limit(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "MAX_FAILURES", 3)
    failures = [Result(f"{index}.png", None, f"{index}.png: broken") for index in range(1234)]
    page = write(tmp_path / "report.html", manifest, failures)
    assert "1,234 pictures not scored" in page.texts["h2"]
    assert "And 1,231 more." in page.texts["p"]
    assert [text for text in page.texts["b"] if text.endswith(".png")] == ["0.png", "1.png", "2.png"]


def test_the_card_says_what_scored(manifest: Manifest, tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", manifest, [])
    text = "\n".join(page.texts["dd"])
    for fact in ("model.onnx", manifest.architecture, manifest.artifact_sha256, "0 to 1, higher is better"):
        assert fact in text
    assert page.texts["td"][:5] == ["onnxruntime", "fp32", "cpu", "5", "1e-07"]


# The command


def test_the_command_writes_both(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = infer("--model", views_artifact, *pictures, "missing.png", "--report", report)
    assert done.returncode == 1
    rows = csv_rows(done.stdout)
    assert len(rows) == len(pictures) + 1
    page = Reader(report.read_text(encoding="utf-8"))
    assert scores(page) == pytest.approx(sorted(float(row["score"]) for row in rows if row["score"]))
    assert "1 picture not scored" in page.texts["h2"]
    assert list(tmp_path.iterdir()) == [report]


@pytest.mark.parametrize(
    ("report", "reason"), [("missing/r.html", "does not exist; create it first"), (".", "is a directory")]
)
def test_a_page_that_cannot_be_written_stops_before_scoring(
    views_artifact: Path, pictures: list[Path], tmp_path: Path, report: str, reason: str
) -> None:
    done = infer("--model", views_artifact, pictures[0], "--report", tmp_path / report)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(lines(done)) == 1
    assert reason in lines(done)[0]


def test_a_page_needs_pictures(views_artifact: Path, tmp_path: Path) -> None:
    done = infer("--model", views_artifact, "--self-test", "--report", tmp_path / "r.html")
    assert done.returncode == 2
    assert lines(done) == ["glia-infer: --report and --maps show pictures, and none were given; name some files"]


def test_a_page_does_not_go_on_with_a_run(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    scores = tmp_path / "scores.csv"
    done = infer("--model", views_artifact, *pictures, "-o", scores, "--resume", "--report", tmp_path / "r.html")
    assert done.returncode == 2
    assert lines(done) == [
        "glia-infer: --report shows thumbnails, which rows of an earlier run lack; leave out --resume"
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_page_shows_all_whatever_rows_are_chosen(
    views_artifact: Path, pictures: list[Path], tmp_path: Path
) -> None:
    report, output = tmp_path / "r.html", tmp_path / "scores.csv"
    done = infer("--model", views_artifact, *pictures, "--top", "1", "-o", output, "--report", report)
    assert done.returncode == 0
    assert len(csv_rows(output.read_bytes())) == 1
    assert len(scores(Reader(report.read_text(encoding="utf-8")))) == len(pictures)
    assert sorted(tmp_path.iterdir()) == [report, output]


def test_fail_fast_leaves_no_page(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    done = infer("--model", views_artifact, pictures[0], "missing.png", "--fail-fast", "--report", report)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_thumbnails_go_into_the_page_and_no_further(manifest: Manifest) -> None:
    report = Report()
    report.begin(manifest, Path("model.onnx"))
    first = result("a.png", 0.5)
    assert list(report.watch([first])) == [replace(first, thumbnail=None)]
    assert report._worst[0].thumbnail == first.thumbnail


def test_when_the_reader_of_a_pipe_leaves_the_page_shows_what_was_scored(
    views_artifact: Path, pictures: list[Path], tmp_path: Path
) -> None:
    report = tmp_path / "r.html"
    arguments = ["--model", str(views_artifact), "-", "--report", str(report)]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(os.fsencode(path) + b"\n" for path in pictures * 20))
        process.stdin.flush()
        assert process.stdout.readline() == HEADER
        process.stdout.close()
        process.stdin.close()
        assert process.wait(timeout=600) == 141
    assert 1 <= len(scores(Reader(report.read_text(encoding="utf-8")))) < 20 * len(pictures)


def test_ctrl_c_leaves_no_page(views_artifact: Path, pictures: list[Path], tmp_path: Path) -> None:
    arguments = ["--model", str(views_artifact), "-", "--report", str(tmp_path / "report.html")]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"".join(os.fsencode(path) + b"\n" for path in pictures * 20))
        process.stdin.flush()
        assert process.stdout.readline() == HEADER
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=600) == 130
    assert list(tmp_path.iterdir()) == []


# In a browser


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_in_a_browser(manifest: Manifest, tmp_path: Path, width: int, dark: bool) -> None:
    path = tmp_path / "report.html"
    hostile_page(path, manifest)
    with Page(tmp_path / "profile", width=width, dark=dark) as page:
        page.open(path)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.settle()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # Every thumbnail near the window is drawn.
        page.evaluate("document.querySelector('.tiles li:last-child').scrollIntoView()")
        page.settle()
        widths = page.evaluate(
            "Promise.all([...document.images].filter(i => i.src).map(i => i.decode().then(() => i.naturalWidth)))"
        )
        assert widths
        assert set(widths) == {40}

        names = "[...document.querySelectorAll('#tiles a')].map(a => a.title)"
        assert page.evaluate(names) == [displayed(name) for name in HOSTILE]
        change = "e.dispatchEvent(new Event('input', {bubbles: true}))"
        page.evaluate(f"{{ const e = document.getElementById('order'); e.value = 'best'; {change} }}")
        assert page.evaluate(names) == [displayed(name) for name in reversed(HOSTILE)]
        page.evaluate(f"{{ const e = document.getElementById('name'); e.value = 'SCHÖN'; {change} }}")
        assert page.evaluate(names) == [HOSTILE[-1]]
        assert page.evaluate("document.getElementById('count').value") == f"1 of {len(HOSTILE)} shown"
        page.evaluate("document.querySelector('button').click()")
        page.settle()
        assert len(page.evaluate(names)) == len(HOSTILE)
        page.evaluate("document.querySelector('svg g .column').dispatchEvent(new Event('click', {bubbles: true}))")
        assert page.evaluate(names) == [displayed(HOSTILE[0])]  # the one with score 0

        methods = {event["method"] for event in page.seen}
        assert not methods & {"Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"}
        requested = [
            event["params"]["request"]["url"] for event in page.seen if event["method"] == "Network.requestWillBeSent"
        ]
        assert all(url == path.as_uri() or url.startswith("data:image/jpeg;base64,") for url in requested)
