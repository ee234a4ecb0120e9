"""Windows a second of training: PanelData's loader beside a plain torch DataLoader that cuts each window by itself.

python experiments/010_forecasting/speed.py speed.csv

The same windows, networks and batches, one thread; both arms by turns in one process, the median of the rounds. With
scale=train the plain arm is given values that are scaled already, with scale=window it scales each window, as ours
does. And the peak memory of a table of a million rows and eight columns, read and windowed, beside that of its floats;
pandas and pyarrow are not counted.
"""

from __future__ import annotations

import csv
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

NUM_ROWS, NUM_COLUMNS, WINDOW, HORIZON, BATCH, ROUNDS = 1_000_000, 8, 48, 12, 64, 7
NUM_BATCHES = 150  # a round
_SETTINGS = {"window": WINDOW, "horizon": HORIZON, "batch_size": BATCH, "val_size": 1000, "test_size": 1000}


class Plain(Dataset):
    """Windows as a reader of torch's tutorial would serve them: one at a time."""

    def __init__(self, values: torch.Tensor, scale: str) -> None:
        self.values, self.scale = values, scale

    def __len__(self) -> int:
        return len(self.values) - WINDOW - HORIZON + 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        middle = index + WINDOW
        x, y = self.values[index:middle], self.values[middle : middle + HORIZON]
        if self.scale == "window":
            mean, deviation = x.mean(dim=0), x.std(dim=0, correction=0)
            x, y = (x - mean) / deviation, (y - mean) / deviation
        return x, y


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(NUM_COLUMNS, 16, batch_first=True)
        self.head = torch.nn.Linear(16, HORIZON * NUM_COLUMNS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1]).view(-1, HORIZON, NUM_COLUMNS)


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = torch.nn.Linear(WINDOW, HORIZON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x.transpose(1, 2)).transpose(1, 2)


def train(network: torch.nn.Module, batches, optimiser: torch.optim.Optimizer) -> float:
    """Return the windows a second of NUM_BATCHES updates."""
    start, count = time.perf_counter(), 0
    for number, (x, y) in enumerate(batches):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(network(x), y).backward()
        optimiser.step()
        count += len(x)
        if number + 1 == NUM_BATCHES:
            break
    return count / (time.perf_counter() - start)


def speeds(path: Path, network: torch.nn.Module, scale: str) -> dict[str, float]:
    """Return the windows a second of both arms."""
    from rnnlab.data import PanelData

    data = PanelData(path=path, table={}, scale=scale, **_SETTINGS)
    data.setup()
    mean, deviation = (part[0] for part in data.windows.target_statistics)
    values = data.windows.values[:-2000]
    plain = DataLoader(Plain(((values - mean) / deviation).float(), scale), BATCH, shuffle=True)
    optimiser = torch.optim.Adam(network.parameters())
    arms = {
        "rnnlab": lambda: ((batch.past, batch.target) for batch in data.train_dataloader()),
        "plain": lambda: plain,
    }
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(ROUNDS):
        for name, batches in arms.items():
            found[name].append(train(network, batches(), optimiser))
    return {name: statistics.median(values) for name, values in found.items()}


def peak(path: Path | None) -> float:
    """Return the peak memory in MiB of a process that reads and windows a table, or only imports what does."""
    import pandas  # noqa: F401  what it takes itself is not counted
    import pyarrow.csv  # noqa: F401

    from rnnlab.data import PanelData

    if path is not None:
        data = PanelData(path=path, table={}, **_SETTINGS)
        data.setup()
        data.rehearsal_batch()
    status = Path("/proc/self/status").read_text()  # ru_maxrss counts the parent process too
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def main(target: Path) -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "million.csv"
        values = np.random.default_rng(0).standard_normal((NUM_ROWS, NUM_COLUMNS)).cumsum(axis=0)
        header = ",".join(f"y{column}" for column in range(NUM_COLUMNS))
        np.savetxt(path, values, fmt="%.4f", delimiter=",", header=header, comments="")
        me = [sys.executable, __file__, "peak"]
        base, full = (float(subprocess.check_output([*me, *more])) for more in ([], [str(path)]))
        floats = NUM_ROWS * NUM_COLUMNS * 8 / 2**20
        rows = [["memory", "MiB of the floats", floats], ["memory", "MiB above the imports", full - base]]
        rows.append(["memory", "ratio", (full - base) / floats])
        for scale in ("train", "window"):
            for name, network in (("LSTM 16", Recurrent()), ("linear", Linear())):
                found = speeds(path, network, scale)
                what = f"training, {name}, scale={scale}"
                rows += [[what, f"windows a second, {arm}", value] for arm, value in found.items()]
                rows.append([what, "ratio", found["rnnlab"] / found["plain"]])
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "measure", "value"])
        writer.writerows([what, measure, f"{value:.2f}"] for what, measure, value in rows)


if __name__ == "__main__":
    if sys.argv[1] == "peak":
        print(peak(Path(sys.argv[2]) if len(sys.argv) > 2 else None))
    else:
        main(Path(sys.argv[1]))
