"""What a recurrence costs on a CPU, forward and backward, against torch.nn: `python .../bars.py [rounds] > bars.csv`.

All arms of a size take turns in each round, on one thread and then on two; a time is the median over rounds, a ratio
that of two medians. `share` is how much of the speed of `torch.mm`, with the same factors on the same threads, the
products of a layer reach if its whole time is counted as theirs.
"""

import csv
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from rnnlab import nn
from rnnlab.cli.memory import keep_freed_memory

SHAPES = ((32, 50, 1, 20), (128, 32, 12, 128), (32, 128, 64, 128), (64, 128, 64, 256))  # (B, T, I, H)
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
Run = Callable[[torch.Tensor], torch.Tensor]


def lengths_of(num_steps: int, batch: int) -> torch.Tensor:
    """Return lengths from 1 to T, half of T on average, in some order."""
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(0))
    return torch.linspace(1, num_steps, batch).round().long()[order]


def lstm(i: int, h: int, **options: Any) -> Any:
    return nn.Recurrent(nn.GatedLSTMCell(i, h), **options)


# Name: the torch layer that it is held against, and how it is made.
LAYERS: dict[str, tuple[str, Callable[[int, int], Any]]] = {
    "RNN": ("RNN", nn.RNN),
    "GRU": ("GRU", nn.GRU),
    "LSTM": ("LSTM", nn.LSTM),
    "LSTM, peepholes": ("LSTM", lambda i, h: nn.Recurrent(nn.PeepholeLSTMCell(i, h))),
    "LSTM, coupled gates": ("LSTM", lambda i, h: nn.Recurrent(nn.CIFGCell(i, h))),
    "LSTM, projection": ("LSTM", lambda i, h: nn.Recurrent(nn.GatedLSTMCell(i, h, proj_size=h // 2))),
    "LSTM, zoneout": ("LSTM", lambda i, h: lstm(i, h, zoneout=(0.1, 0.1))),
    "LSTM, recurrent dropout": ("LSTM", lambda i, h: lstm(i, h, recurrent_dropout=0.25)),
    "LSTM, candidate dropout": ("LSTM", lambda i, h: lstm(i, h, candidate_dropout=0.25)),
    "LSTM, weight dropout": ("LSTM", lambda i, h: lstm(i, h, weight_dropout=0.25)),
    "LSTM, all lengths T": ("LSTM", lstm),
    "LSTM, lengths of half": ("LSTM", lstm),
    "layer-norm LSTM": ("LSTM", lambda i, h: nn.Recurrent(nn.LayerNormLSTMCell(i, h))),
    "layer-norm GRU": ("GRU", lambda i, h: nn.Recurrent(nn.LayerNormGRUCell(i, h))),
}


def step(run: Run, weights: list[torch.Tensor], x: torch.Tensor) -> None:
    for value in (x, *weights):
        value.grad = None
    output = run(x)
    output.backward(torch.ones_like(output))


def runs_of(batch: int, num_steps: int, num_inputs: int, hidden: int) -> dict[str, tuple[Run, list[torch.Tensor]]]:
    """Return what is timed, by name."""
    found: dict[str, tuple[Run, list[torch.Tensor]]] = {}
    for name in GATES:
        theirs = getattr(torch.nn, name)(num_inputs, hidden)
        found[f"torch {name}"] = lambda x, layer=theirs: layer(x)[0], list(theirs.parameters())
    half, full = lengths_of(num_steps, batch), torch.full((batch,), num_steps)
    for name, (_, make) in LAYERS.items():
        layer = make(num_inputs, hidden)
        lengths = {"LSTM, all lengths T": full, "LSTM, lengths of half": half}.get(name)
        options = {} if lengths is None else {"lengths": lengths}
        found[name] = lambda x, layer=layer, options=options: layer(x, **options)[0], list(layer.parameters())
    return found


def peak(rows: int, inner: int, columns: int) -> float:
    """Return the multiplications a second of torch.mm."""
    a, b, times = torch.randn(rows, inner), torch.randn(inner, columns), []
    for _ in range(7):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return rows * inner * columns / min(times)


def measure(size: tuple[int, int, int, int], rounds: int) -> list[list[Any]]:
    batch, num_steps, num_inputs, hidden = size
    x, runs = torch.randn(num_steps, batch, num_inputs, requires_grad=True), runs_of(*size)
    repeats = max(1, 2_000_000 // (num_steps * batch * hidden * 8))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (run, weights) in runs.items():
            start = time.perf_counter()
            for _ in range(repeats):
                step(run, weights, x)
            if number:  # the first compiles
                times[name].append((time.perf_counter() - start) / repeats)
    median = {name: statistics.median(values) for name, values in times.items()}
    rows = []
    for name, (family, _) in LAYERS.items():
        columns = GATES[family] * hidden
        steps = num_steps * batch // (2 if name == "LSTM, lengths of half" else 1)
        products = 3 * steps * (num_inputs + hidden) * columns  # forward, and two backward, of the plain layer
        share = products / median[name] / peak(num_steps * batch, num_inputs + hidden, columns)
        rivals = "LSTM, all lengths T" if name == "LSTM, lengths of half" else f"torch {family}"
        ratio = median[name] / median[rivals]
        rows.append([*size, name, rivals, f"{1e3 * median[rivals]:.3f}", f"{ratio:.2f}", f"{share:.2f}"])
    return rows


def main(rounds: int = 9) -> None:
    keep_freed_memory()
    torch.manual_seed(0)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["threads", "B", "T", "I", "H", "layer", "against", "against_ms", "ratio", "share"])
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for size in SHAPES:
            for row in measure(size, rounds):
                table.writerow([threads, *row])
            sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
