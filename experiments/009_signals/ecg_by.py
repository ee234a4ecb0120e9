r"""What delineators find by level of noise or by heart rate, and Pan-Tompkins beside them.

python experiments/009_signals/ecg_by.py noise ecg_by_noise.csv ecg_by_noise.png runs/009_signals/[dc]*-seed* \
    runs/009_signals/onwards_longer-seed*
python experiments/009_signals/ecg_by.py rate ecg_by_rate.csv ecg_by_rate.png runs/009_signals/slow*-seed*
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from matplotlib.figure import Figure

from rnnlab.analysis.plots import PALETTE
from rnnlab.cli.build import load
from rnnlab.data import ECGData

NUM_RECORDS = 200  # a point
VALUES = {"noise": (0.3, 0.5, 1, 2, 3, 5, 8), "rate": (30, 40, 50, 60, 75, 90, 110, 130, 150, 170, 190)}
LABELS = {"noise": "level of noise", "rate": "beats a minute"}
TRAINED = {"noise": (0.3, 3), "rate": (60, 90)}
FLOOR = 0.01  # percent, the least that is drawn
PANELS = {
    "R: missed and false (%)": "r_missed_or_false",
    "R: mean absolute error (ms)": "r_error_ms",
    "wide beats: missed and false (%)": "wide_missed_or_false",
    "duration of QRS: mean absolute error (ms)": "qrs_error_ms",
}
NAMES = {
    "delineation": "BiLSTM",
    "slow": "BiLSTM",
    "convolution": "convolution that sees 400 ms",
    "slow_convolution": "convolution that sees 400 ms",
    "onwards": "LSTM onwards",
    "onwards_longer": "LSTM onwards",
    "pan_tompkins": "Pan-Tompkins",
}
COLOURS = {"BiLSTM": PALETTE[0], "convolution that sees 400 ms": PALETTE[1], "LSTM onwards": PALETTE[2]}


def main(by: str, table: Path, picture: Path, run_dirs: list[Path]) -> None:
    torch.set_num_threads(1)
    tasks = {run_dir.name: load(run_dir, "best", [])[1] for run_dir in run_dirs}
    rows: list[dict[str, Any]] = []
    for value in VALUES[by]:
        setting = {f"min_{'level' if by == 'noise' else by}": value, f"max_{'level' if by == 'noise' else by}": value}
        data = ECGData(num_train=1, num_val=1, num_test=NUM_RECORDS, batch_size=1, corpus_seed=1, **setting)
        data.setup()
        signals, *truth = data.splits["test"]
        for name, task in tasks.items():
            with torch.inference_mode():
                for start in range(0, NUM_RECORDS, 50):
                    part = slice(start, start + 50)
                    task.measure((signals[part], *(one[part] for one in truth)), "test")
            rows.append(_row(by, value, name, {key: float(one) for key, one in task.report("test").items()}))
        prefix = "baseline/pan_tompkins/test/"
        found = {key.removeprefix(prefix): one for key, one in data.baselines().items() if key.startswith(prefix)}
        rows.append(_row(by, value, "pan_tompkins", found))
        told = (f"{row['model']} {row['r_missed_or_false']:.4f}" for row in rows if row[by] == value)
        print(by, value, *told, flush=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _draw(by, rows).savefig(picture, dpi=120)


def _row(by: str, value: float, name: str, found: dict[str, float]) -> dict[str, Any]:
    names = ("r_sensitivity", "r_precision", "r_error_ms", "q_error_ms", "s_error_ms", "qrs_error_ms")
    row: dict[str, Any] = {by: value, "model": name}
    for key in (*names, "wide_sensitivity", "wide_precision"):
        row[key] = round(found[key], 5) if key in found else ""
    for kind in ("r", "wide"):
        rates = [found.get(f"{kind}_{one}") for one in ("sensitivity", "precision")]
        row[f"{kind}_missed_or_false"] = "" if None in rates else round(sum(1 - rate for rate in rates), 5)
    return row


def _draw(by: str, rows: list[dict[str, Any]]) -> Figure:
    """Draw a panel for each quantity: the mean over seeds of each kind of run, and the range of seeds."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    kinds = list(dict.fromkeys(row["model"].split("-seed")[0] for row in rows))
    for axis, (title, key) in zip(figure.subplots(2, 2).ravel(), PANELS.items(), strict=True):
        is_share = "%" in title
        for kind in kinds:
            points: dict[float, list[float]] = {}
            for row in rows:
                if row["model"].split("-seed")[0] == kind and row[key] != "":
                    points.setdefault(row[by], []).append(100 * row[key] if is_share else row[key])
            style = {"color": "black", "linestyle": "--"} if kind == "pan_tompkins" else {"color": COLOURS[NAMES[kind]]}
            curves = [list(map(pick, points.values())) for pick in (mean, min, max)]
            if is_share:
                curves = [[max(value, FLOOR) for value in curve] for curve in curves]
            axis.plot(list(points), curves[0], marker="o", markersize=3.5, label=_label(kind, points), **style)
            axis.fill_between(list(points), *curves[1:], color=style["color"], alpha=0.2, linewidth=0)
        axis.axvspan(*TRAINED[by], color="grey", alpha=0.12, linewidth=0)
        if by == "noise":
            axis.set_xscale("log")
            axis.minorticks_off()
        axis.set_xticks(VALUES[by], map(str, VALUES[by]))
        axis.set_xlabel(LABELS[by])
        axis.set_title(title, fontsize=11)
        if is_share:
            ticks = (FLOOR, 0.1, 1, 10, 100)
            axis.set_yscale("log")
            axis.set_yticks(ticks, (f"≤ {FLOOR}", "0.1", "1", "10", "100"))
            axis.set_ylim(0.8 * FLOOR, 120)
        else:
            axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    figure.supxlabel(f"{NUM_RECORDS} records a point, mean and range of seeds; grey: what training had", fontsize=9)
    return figure


def _label(kind: str, points: dict[float, list[float]]) -> str:
    seeds = max(map(len, points.values()), default=0)
    return NAMES[kind] if kind == "pan_tompkins" else f"{NAMES[kind]}, {seeds} seed{'s' * (seeds > 1)}"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), [Path(name) for name in sys.argv[4:]])
