"""What recording gradients costs a training step: python experiments/011_gradient_flow/recording.py recording.csv

One thread; steps with and without it take turns, and the ratio is the median of those of pairs.
"""

from __future__ import annotations

import csv
import itertools
import sys
import time
from statistics import median

import torch

import rnnlab.nn
from rnnlab.nn import explain_backend

ROUNDS, PAIRS = 2, 200
BATCH, STEPS, INPUTS = 32, 50, 64
LAYERS = {"RNN": rnnlab.nn.RNN, "GRU": rnnlab.nn.GRU, "LSTM": rnnlab.nn.LSTM}


def main(path: str) -> None:
    torch.set_num_threads(1)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["round", "layer", "hidden_size", "backend", "step_ms", "recorded_over_plain"])
        for number, (name, layer_class) in itertools.product(range(1, ROUNDS + 1), LAYERS.items()):
            for hidden_size, asked in ((32, "auto"), (128, "auto"), (256, "auto"), (128, "eager")):
                layer = layer_class(INPUTS, hidden_size, backend=asked)
                x = torch.randn(STEPS, BATCH, INPUTS)
                with layer.record():
                    backend = str(explain_backend(layer, x)).split(":")[1].split()[0]
                pairs = [(_time(layer, x, False), _time(layer, x, True)) for _ in range(PAIRS + 5)][5:]
                ratio = median(recorded / plain for plain, recorded in pairs)
                step_ms = 1e3 * median(plain for plain, _ in pairs)
                row = [number, name, hidden_size, backend, f"{step_ms:.3g}", f"{ratio:.3f}"]
                writer.writerow(row)
                print(*row, flush=True)


def _time(layer: torch.nn.Module, x: torch.Tensor, records: bool) -> float:
    start = time.perf_counter()
    layer.zero_grad()
    if records:
        with layer.record():
            output, _ = layer(x)
    else:
        output, _ = layer(x)
    output.sum().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1])
