"""Windows a second of training: PanelData's loader beside a plain torch DataLoader that cuts each window by itself.

python experiments/010_forecasting/speed.py speed.csv

One LSTM, the same windows and batches, one thread; both arms by turns in one process, the median of the rounds. And the
peak memory of a table of a million rows and eight columns, read and windowed, beside that of its floats.
"""

from __future__ import annotations

import csv
import resource
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
    """Windows as a reader of torch's tutorial would serve them: one at a time, from a tensor that is scaled already."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values) - WINDOW - HORIZON + 1

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        middle = index + WINDOW
        return self.values[index:middle], self.values[middle : middle + HORIZON]


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.LSTM(NUM_COLUMNS, 16, batch_first=True)
        self.head = torch.nn.Linear(16, HORIZON * NUM_COLUMNS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1]).view(-1, HORIZON, NUM_COLUMNS)


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


def speeds(path: Path) -> dict[str, float]:
    from rnnlab.data import PanelData

    data = PanelData(path=path, table={}, **_SETTINGS)
    data.setup()
    plain = DataLoader(Plain(data.windows.values[:-2000].float()), BATCH, shuffle=True)
    network = Network()
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
    from rnnlab.data import PanelData

    if path is not None:
        data = PanelData(path=path, table={}, **_SETTINGS)
        data.setup()
        data.rehearsal_batch()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
        found = speeds(path)
    rows += [["training", f"windows a second, {name}", value] for name, value in found.items()]
    rows.append(["training", "ratio", found["rnnlab"] / found["plain"]])
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "measure", "value"])
        writer.writerows([what, measure, f"{value:.2f}"] for what, measure, value in rows)


if __name__ == "__main__":
    if sys.argv[1] == "peak":
        print(peak(Path(sys.argv[2]) if len(sys.argv) > 2 else None))
    else:
        main(Path(sys.argv[1]))
