"""Intervals of ETTh1 stretched by what lay in them in the validation part, and what that makes of the test part.

python experiments/010_forecasting/conformal.py conformal.csv runs/010_forecasting/etth1_[0-9]*-seed* \\
    runs/010_forecasting/etth1_ot_*-seed*

For each step, both halves of an interval are stretched by the factor with which it would have held its share of the
validation part, as in conformalised quantile regression (Romano et al., 2019) with scores relative to the width.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnlab.baselines.forecast_errors import INTERVALS
from rnnlab.cli.build import load


def main(table: Path, run_dirs: list[Path]) -> None:
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "interval", "val", "test", "test_stretched"])
        for run_dir in run_dirs:
            data, task, _ = load(run_dir, "best", [])
            data.setup()
            with torch.inference_mode():
                val, test = (_scores(task, loader) for loader in (data.val_dataloader(), data.test_dataloader()))
            for name in INTERVALS:
                factor = val[name].quantile(name / 100, dim=0)
                shares = [float((part <= 1).float().mean()) for part in (val[name], test[name])]
                row = [run_dir.name, name, *shares, float((test[name] <= factor).float().mean())]
                writer.writerow([f"{one:.4f}" if isinstance(one, float) else one for one in row])
                print(*row, flush=True)


def _scores(task: Any, loader: Any) -> dict[int, Tensor]:
    """Return, by interval, how far each value lies from the median, in halves of the interval on its side (N, K)."""
    parts: dict[int, list[Tensor]] = {name: [] for name in INTERVALS}
    for batch in loader:
        forecast = task.predict_step(batch)
        levels = list(forecast.levels)
        quantiles = forecast.quantiles
        middle = quantiles[..., levels.index(0.5)]
        for name, ends in INTERVALS.items():
            low, high = (quantiles[..., levels.index(end)] for end in ends)
            apart = batch.target - middle
            half = torch.where(apart < 0, middle - low, high - middle).clamp(min=1e-9)
            parts[name].append((apart.abs() / half).flatten(2).transpose(1, 2).flatten(0, 1))
    return {name: torch.cat(scores) for name, scores in parts.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
