"""Rewrite the table of scores in README.md from what `glia-infer images/*.jpg` really says, best first.

    python docs/make_demo.py

tests/test_docs.py scores the photographs again and compares.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

from glia_runtime.manifest import read_manifest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BUNDLED = ROOT / "runtime" / "glia_runtime" / "bundled"
BEGIN, END = "<!-- demo -->", "<!-- /demo -->"


def scores() -> dict[str, float]:
    """Score every photograph in images/ with the bundled model; return {file name: score}."""
    photographs = sorted(ROOT.glob("images/*.jpg"))
    command = [str(Path(sys.executable).with_name("glia-infer")), *map(str, photographs), "--format", "jsonl"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [json.loads(line) for line in printed.splitlines()]
    return {Path(row["path"]).name: row["score"] for row in rows}


def table(by_name: dict[str, float], score_range: float) -> str:
    """Return the Markdown table, best first, with as many digits as show a thousandth of `score_range`."""
    digits = max(0, 3 - math.ceil(math.log10(score_range)))
    lines = ["| | `glia-infer images/*.jpg` | score |", "|---|---|---:|"]
    for name, score in sorted(by_name.items(), key=lambda item: -item[1]):
        picture = f'<img src="images/{name}" height="72" alt="">'
        lines.append(f"| {picture} | {name} | {score:.{digits}f} |")
    return "\n".join(lines)


def main() -> None:
    """Replace what stands between the two markers in README.md."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    (model,) = BUNDLED.glob("*.onnx")
    fresh = table(scores(), read_manifest(model).score_scale.range)
    README.write_text(f"{before}{BEGIN}\n{fresh}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
