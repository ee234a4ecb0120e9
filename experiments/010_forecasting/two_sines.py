"""Table and figure of the runs of two_sines.sh: `python two_sines.py RUNS`, RUNS holding NAME/seeds_*/N.

Writes two_sines.csv, a row for each rival, horizon and seed, and figures/two_sines.png; prints the table of README.md.
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

import matplotlib
import numpy as np
import torch
import yaml

from rnnlab.baselines import fit_ols, iterate
from rnnlab.data import TwoSineData

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
NAMES = {
    "naive": "last value",
    "ols": "least squares on 50 lags, each step by itself",
    "ols_iterated": "least squares one step, iterated",
    "ar": "the same map by gradient descent",
    "nlinear": "NLinear",
    "dlinear": "DLinear",
    "narx_series_parallel": "NARX, 50 taps, trained series-parallel",
    "narx_parallel": "NARX, 50 taps, trained parallel",
    "time_delay": "time-delay network, 50 taps",
    "tcn": "TCN, 4 blocks, sees 61 steps",
    "jordan_cut": "Jordan, error at every step, gradient cut",
    "jordan": "Jordan, error at every step, full BPTT",
    "elman_cut": "Elman, error at every step, gradient cut",
    "elman": "Elman, error at every step, full BPTT",
    "elman_2": "Elman, two layers",
    "gru_2": "GRU, two layers",
    "lstm_2": "LSTM, two layers",
}


def measured(folder: Path) -> list[dict]:
    """Return name, horizon, seed, weights, validation and test error of each finished run."""
    rows = []
    for file in sorted(folder.glob("*/seeds_*/*/metrics.json")):
        config = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))
        values = json.loads(file.read_text(encoding="utf-8"))
        state = torch.load(file.parent / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        rows.append(
            {
                "rival": file.parents[2].name,
                "horizon": config["data"]["horizon"],
                "seed": config["seed"],
                "weights": sum(value.numel() for key, value in state.items() if key.startswith("model.")),
                "val_mse": values["val/mse_last"],
                "test_mse": values["test/mse_last"],
                "fit_s": values["time/fit_s"],
            }
        )
    return rows


def closed_forms(horizon: int) -> list[dict]:
    """Return the rows of what needs no training."""
    data = TwoSineData(horizon=horizon)
    data.setup()
    parts = {part: [value.double().numpy() for value in data.splits[part]] for part in ("train", "val", "test")}
    whole = np.concatenate([parts["train"][0][:, :, 0], parts["train"][1]], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(whole, 51, axis=1).reshape(-1, 51)
    one_step = fit_ols(windows[:, :50], windows[:, 50:])

    def row(name: str, weights: int, forecast) -> dict:
        errors = {f"{part}_mse": float(np.mean((forecast(x[:, :, 0]) - y) ** 2)) for part, (x, y) in parts.items()}
        return {"rival": name, "horizon": horizon, "seed": "", "weights": weights, **errors, "fit_s": ""}

    direct = fit_ols(parts["train"][0][:, :, 0], parts["train"][1])
    rows = [row("naive", 0, lambda x: x[:, -1:]), row("ols", 51 * horizon, direct)]
    if horizon > 1:
        rows.append(row("ols_iterated", 51, lambda x: iterate(one_step, x, horizon)))
    for one in rows:
        one.pop("train_mse")
    return rows


def main(folder: Path) -> None:
    rows = [*closed_forms(1), *closed_forms(10), *measured(folder)]
    with (HERE / "two_sines.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    found: dict[tuple[str, int], list[dict]] = defaultdict(list)
    for row in rows:
        found[row["rival"], row["horizon"]].append(row)
    print("| rival | weights, 1 / 10 steps | one step: validation | test | ten steps: validation | test |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, words in NAMES.items():
        here = [found.get((name, horizon), []) for horizon in (1, 10)]
        weights = " / ".join(str(some[0]["weights"]) if some else "-" for some in here)
        cells = [
            ", ".join(f"{row[part] * 1000:.2f}" for row in some) for some in here for part in ("val_mse", "test_mse")
        ]
        print(f"| {words} | {weights} | {' | '.join(cells)} |")

    figure, both = plt.subplots(1, 2, figsize=(10.5, 5.2), sharey=True, layout="constrained")
    shown = list(NAMES)[::-1]
    for axes, horizon in zip(both, (1, 10), strict=True):
        for place, name in enumerate(shown):
            values = [row["test_mse"] for row in found.get((name, horizon), [])]
            if values:
                axes.plot(values, [place] * len(values), "o", color="C0", markersize=5, alpha=0.7)
                axes.plot(mean(values), place, "|", color="black", markersize=12)
        axes.axvline(found["ols", horizon][0]["test_mse"], color="grey", linewidth=0.8, linestyle="--")
        axes.axvline(0.1**2 / 12, color="C3", linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set(xlabel="test MSE", title=f"{'one step' if horizon == 1 else 'ten steps'} ahead")
        axes.grid(alpha=0.3)
    both[0].set_yticks(range(len(shown)), [NAMES[name] for name in shown])
    figure.suptitle("Two sines, ten epochs; dots are seeds, dashed least squares, dotted the noise")
    figure.savefig(HERE / "figures" / "two_sines.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
