"""From the JSON of the parts to Markdown tables."""

import json
from pathlib import Path
from typing import Any

COLUMNS = (
    "work",
    "B, T, I, H",
    "pass",
    "arm",
    "ms",
    "p20",
    "p80",
    "us / step",
    "peak MiB",
    "of torch.nn",
    "first ms",
    "error",
)


def rows(part: dict[str, Any]) -> list[list[str]]:
    """Return the rows of one part's table."""
    found = []
    for entry in part["rows"]:
        work = entry["work"]
        size = f"{work['B']}, {work['T']}, {work['I']}, {work['H']}"
        for kind, times in entry["times"].items():
            theirs = times.get("torch.nn", [None])[0]
            for arm, (median, low, high, peak) in times.items():
                ratio = "" if theirs is None else f"{median / theirs:.2f}"
                memory = "" if peak is None else f"{peak:.0f}"
                numbers = [f"{value:.3g}" for value in (median, low, high, 1e3 * median / work["T"])]
                first = f"{entry['first ms'][arm]:.0f}" if kind != "forward" else ""
                error = f"{entry['error'][arm]:.2f}" if kind != "forward" else ""
                found.append([entry["words"], size, kind, arm, *numbers, memory, ratio, first, error])
    return found


def markdown(folder: Path) -> str:
    """Return one table for each part in a folder, under what made it."""
    text = [
        "Median and percentiles over the rounds, arms in turn. First ms: making an arm and its first call, compiling",
        "included. Peak MiB: allocated during a call beyond what there was before; a CUDA graph shows none. Error: the",
        "largest of output and gradients against float64, as a multiple of torch's in the same dtype. An arm that is",
        "wrong has no times and is told of below its table.",
        "",
    ]
    for file in sorted(folder.glob("*.json")):
        part = json.loads(file.read_text(encoding="utf-8"))
        if "rows" not in part:
            continue
        about = ", ".join(f"{key} {value}" for key, value in part["about"].items())
        text += [f"## {file.stem}", "", about + ".", "", "| " + " | ".join(COLUMNS) + " |"]
        text += ["| --- " * len(COLUMNS) + "|", *("| " + " | ".join(row) + " |" for row in rows(part))]
        left_out = sorted({f"{arm}: {why}" for entry in part["rows"] for arm, why in entry["left out"].items()})
        text += ["", "Left out: " + "; ".join(left_out) + ".", ""]
        wrong = [
            f"{e['words']} ({e['work']['H']}), {arm}: {what}" for e in part["rows"] for arm, what in e["wrong"].items()
        ]
        text += ["Wrong: " + "; ".join(wrong) + ".", ""] if wrong else []
    return "\n".join(text)
