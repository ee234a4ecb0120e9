"""Draw the time of an LSTM's step by size for each arm: `python experiments/004_kernels/figure.py FOLDER`.

Reads lstm.json of a run of `python -m rnnlab_kernels.bench --out FOLDER`, and micro.json for the roofline where it is
there; writes lstm.png, forward and backward together, and lstm_forward.png beside them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from rnnlab_kernels.bench import roofline
from rnnlab_kernels.bench.arms import ARMS, OURS
from rnnlab_kernels.bench.work import MODULES

PICTURES = {"forward + backward": "lstm.png", "forward": "lstm_forward.png"}
SMALL_BATCH = 32  # fewer rows are drawn apart: at the same H their steps are other ones
# An arm has its colour in all panels and pictures, whoever else is there.
COLOURS = {arm: pyplot.get_cmap("tab20")((2 * k + k // 10) % 20) for k, arm in enumerate(ARMS)}


def groups(works: list[dict[str, Any]]) -> list[list[tuple[int, int]]]:
    """Return the sizes (B, H) from left to right: large batches by H, then small ones."""
    sizes = sorted({(work["B"], work["H"]) for work in works}, key=lambda size: (size[1], size[0]))
    apart = ([size for size in sizes if (size[0] < SMALL_BATCH) == small] for small in (False, True))
    return [group for group in apart if group]


def draw(part: dict[str, Any], micro: dict[str, Any] | None, kind: str) -> Any:
    """Return the picture of one pass, a panel for each dtype; None if nothing was measured."""
    entries = [entry for entry in part["rows"] if entry["times"].get(kind)]
    dtypes = list(dict.fromkeys(entry["work"]["dtype"] for entry in entries))
    if not entries:
        return None
    grouped = groups([entry["work"] for entry in entries])
    # A place for each size, and an empty one between the groups.
    places = {size: k + gap for gap, group in enumerate(grouped) for k, size in enumerate(group)}
    for before, group in zip(grouped, grouped[1:], strict=False):
        shift = places[before[-1]] + 2 - places[group[0]]
        places |= {size: places[size] + shift for size in group}
    width = 1.0 + 0.75 * (max(places.values()) + 1)
    drawing, axes = pyplot.subplots(
        1, max(len(dtypes), 1), figsize=(width * len(dtypes) + 2.5, 4.8), squeeze=False, sharey=True
    )
    chip, source = roofline.chip_of(part["about"]["device"], micro)
    lines: dict[str, Any] = {}
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        rows = {(e["work"]["B"], e["work"]["H"]): e for e in entries if e["work"]["dtype"] == dtype}
        for group in grouped:
            _arms(axis, [size for size in group if size in rows], rows, places, kind, lines)
            if chip is not None:
                _roofline(axis, chip, group, dtype, places, kind, f"roofline: {source}", lines)
        axis.set(yscale="log", title=dtype, xlim=(-0.6, max(places.values()) + 0.6))
        axis.set_xticks(list(places.values()), [f"{hidden}\nB {batch}" for batch, hidden in places])
        axis.set_xlabel("H, and rows of the batch")
        axis.grid(axis="y", which="major", alpha=0.3)
    axes[0][0].set_ylabel(f"microseconds a step, {kind}")
    drawing.suptitle(f"LSTM, {part['about']['device']}: median, 20th to 80th percentile", y=1.0)
    order = [name for name in (*ARMS, f"roofline: {source}") if name in lines]
    title = "ours are thick" + (f"\n{source}" if chip is None else "")
    drawing.legend(
        [lines[name] for name in order], order, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, title=title
    )
    drawing.tight_layout()
    return drawing


def _arms(
    axis: Any,
    sizes: list[tuple[int, int]],
    rows: dict[tuple[int, int], dict[str, Any]],
    places: dict[tuple[int, int], int],
    kind: str,
    lines: dict[str, Any],
) -> None:
    for arm in ARMS:
        own = [size for size in sizes if arm in rows[size]["times"][kind]]
        if not own:
            continue
        times = [rows[size]["times"][kind][arm][:3] for size in own]
        # Microseconds a step: the median, and how far the percentiles are from it.
        scale = [1e3 / rows[size]["work"]["T"] for size in own]
        median = [value[0] * k for value, k in zip(times, scale, strict=True)]
        low = [(value[0] - value[1]) * k for value, k in zip(times, scale, strict=True)]
        high = [(value[2] - value[0]) * k for value, k in zip(times, scale, strict=True)]
        ours = arm in OURS
        style = {"linewidth": 2.6 if ours else 1.0, "markersize": 6 if ours else 4, "capsize": 3}
        style |= {"zorder": 3 if ours else 2, "linestyle": "-" if ours else "--"}
        places_of = [places[size] for size in own]
        lines[arm] = axis.errorbar(places_of, median, (low, high), marker="o", color=COLOURS[arm], **style)


def _roofline(
    axis: Any,
    chip: roofline.Chip,
    sizes: list[tuple[int, int]],
    dtype: str,
    places: dict[tuple[int, int], int],
    kind: str,
    label: str,
    lines: dict[str, Any],
) -> None:
    found = []
    for batch, hidden in sizes:
        passes = (False, True) if "backward" in kind else (False,)
        steps = [roofline.step_us(chip, MODULES["lstm"][1], batch, hidden, dtype, backward) for backward in passes]
        if None not in steps:
            found.append((places[batch, hidden], sum(step for step in steps if step is not None)))
    if found:
        (lines[label],) = axis.plot(*zip(*found, strict=True), color="black", linestyle=":", marker="_", markersize=14)


def main(folder: Path) -> None:
    """Draw both pictures of the results in a folder."""
    part = json.loads((folder / "lstm.json").read_text(encoding="utf-8"))
    micro = folder / "micro.json"
    measured = json.loads(micro.read_text(encoding="utf-8")) if micro.exists() else None
    for kind, name in PICTURES.items():
        drawing = draw(part, measured, kind)
        if drawing is None:
            print(f"{folder / 'lstm.json'} has no times of {kind}: {name} is not drawn")
            continue
        drawing.savefig(folder / name, dpi=120, bbox_inches="tight")
        pyplot.close(drawing)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not (folder / "lstm.json").exists():
        sys.exit(f"{folder / 'lstm.json'} is not there: python -m rnnlab_kernels.bench --out {folder} --part lstm")
    main(folder)
