# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures of benches as a page: results.json, a plain table (index.md), and a chart of the ratios beside their goals (ratios.svg, by
python3-pygal; without that package there is no chart, and the page says so). Ratios only: absolute times of two machines, or of two runs on
one, cannot be compared."""

import json
import re

try:
    import pygal
except ImportError:
    pygal = None

LINE = re.compile(r"(\S+) value=(\S+) baseline=(\S+) (.*)")
NUMBER = re.compile(r"(-?[0-9.]+(?:e[+-]?[0-9]+)?)(\D*)")


def number(text):
    """The number and the unit of "1.5ms"; None of "-"."""
    m = NUMBER.fullmatch(text)
    return (float(m[1]), m[2]) if m else (None, "")


def parse_line(text):
    """A figure from the line that every bench prints; None of any other line. What follows in NAME=VALUE form is kept as text."""
    m = LINE.fullmatch(text.strip())
    if not m:
        return None
    more = dict(word.split("=", 1) for word in m[4].split() if "=" in word)
    value, unit = number(m[2])
    if value is None:
        return None
    ratio, goal = (number(more.pop(key, "-"))[0] for key in ("ratio", "goal"))
    return {"name": m[1], "value": value, "baseline": number(m[3])[0], "ratio": ratio, "goal": goal, "unit": unit, **more}


def missed(figure):
    return figure["goal"] is not None and figure["ratio"] is not None and figure["ratio"] > figure["goal"]


def text(value):
    return "-" if value is None else f"{value:.4g}"


def table(figures):
    rows = [("bench", "value", "baseline", "ratio", "goal", "")]
    rows += [(f["name"], text(f["value"]) + f["unit"], "-" if f["baseline"] is None else text(f["baseline"]) + f["unit"], text(f["ratio"]), text(f["goal"]),
              "missed" if missed(f) else "") for f in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = ["| " + " | ".join(cell.ljust(width) if i in (0, 5) else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))) + " |" for row in rows]
    lines.insert(1, "|-" + "-|-".join("-" * width for width in widths) + "-|")
    return "\n".join(lines)


def chart(figures):
    """The chart as SVG, of what has a ratio; None where there is no pygal, or nothing to draw."""
    drawn = [f for f in figures if f["ratio"] is not None]
    if not pygal or not drawn:
        return None
    # No script: it would be fetched from somebody else's host.
    # Some are fifty times what others are.
    bars = pygal.HorizontalBar(js=(), logarithmic=True, disable_xml_declaration=True, title="Ratio to the baseline of the same run; shorter is better", height=90 + 45 * len(drawn),
                               print_values=True, truncate_label=-1, value_formatter=text)
    bars.x_labels = [f["name"] for f in reversed(drawn)]
    bars.add("goal", [f["goal"] for f in reversed(drawn)])
    bars.add("ratio", [f["ratio"] for f in reversed(drawn)])
    return bars.render(is_unicode=True)


def write(folder, figures):
    """Writes the page into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"schema": "tdid-bench/1", "figures": figures}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    svg = chart(figures)
    if svg:
        (folder / "ratios.svg").write_text(svg, encoding="utf-8")
    else:
        (folder / "ratios.svg").unlink(missing_ok=True)
    n = sum(missed(f) for f in figures)
    parts = ["# tdid: benches", f"{len(figures)} figures, {n} above their goal. A ratio is value by baseline, both of the same run on the same machine.",
             table(figures), "![ratios](ratios.svg)" if svg else "No chart: it takes the package python3-pygal, and a figure with a ratio."]
    (folder / "index.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
