"""Draw the time of a step against H for each arm: `python experiments/004_kernels/figure.py FOLDER`.

Reads lstm.json of a run of `python -m rnnlab_kernels.bench --out FOLDER`, writes lstm.png beside it.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def main(folder: Path) -> None:
    part = json.loads((folder / "lstm.json").read_text(encoding="utf-8"))
    dtypes = list(dict.fromkeys(entry["work"]["dtype"] for entry in part["rows"]))
    drawing, axes = pyplot.subplots(1, len(dtypes), figsize=(4.5 * len(dtypes), 4), squeeze=False, sharey=True)
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        points: dict[str, list[tuple[int, float]]] = {}
        for entry in part["rows"]:
            if entry["work"]["dtype"] == dtype:
                for arm, times in entry["times"]["forward + backward"].items():
                    points.setdefault(arm, []).append((entry["work"]["H"], 1e3 * times[0] / entry["work"]["T"]))
        for arm, values in points.items():
            axis.plot(*zip(*sorted(values), strict=True), marker="o", label=arm)
        axis.set(xscale="log", yscale="log", xlabel="H", title=f"LSTM, {dtype}, {part['about']['device']}")
    axes[0][0].set_ylabel("us a step, forward + backward")
    axes[0][0].legend(fontsize="small")
    drawing.savefig(folder / "lstm.png", dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not (folder / "lstm.json").exists():
        sys.exit(f"{folder / 'lstm.json'} is not there: python -m rnnlab_kernels.bench --out {folder} --part lstm")
    main(folder)
