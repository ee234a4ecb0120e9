"""LSTMs over rows of unequal length, and over few steps, forward and backward: which route is the fastest.

    python experiments/000_layers_cpu/ragged.py ragged.csv

Bidirectional layers; lengths from a third of the longest on, drawn at random. Arms take turns: torch.nn.LSTM, packed
where lengths differ; ours on oneDNN's layer ("aten") and on the compiled call ("fused"). Milliseconds, medians.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnlab.nn import LSTM

ROUNDS = 21
# B, T, I, H
RAGGED = [(8, 3, 32, 32), (8, 6, 32, 64), (32, 4, 32, 64), (8, 12, 32, 128), (32, 12, 32, 64), (8, 50, 1, 20)]
RAGGED += [(16, 50, 64, 100), (30, 20, 232, 200), (128, 8, 64, 128), (256, 8, 128, 256), (256, 12, 128, 256)]
RAGGED += [(256, 8, 512, 256), (64, 128, 64, 256), (8, 30, 256, 256)]
EVEN = [
    (32, 12, 32, 64),
    (128, 8, 64, 128),
    (64, 8, 64, 256),
    (256, 4, 64, 256),
    (256, 8, 128, 256),
    (256, 12, 128, 256),
]


def row(batch: int, num_steps: int, inputs: int, hidden: int, is_ragged: bool) -> dict[str, float]:
    lengths = torch.randint(max(1, num_steps // 3), num_steps + 1, (batch,))
    lengths[0] = num_steps
    plain = torch.nn.LSTM(inputs, hidden, bidirectional=True)
    ours = {backend: LSTM(inputs, hidden, bidirectional=True, backend=backend) for backend in ("aten", "fused")}
    x = torch.randn(num_steps, batch, inputs, requires_grad=True)

    def run(arm: str) -> None:
        if arm != "torch.nn":
            output, _ = ours[arm](x, lengths=lengths) if is_ragged else ours[arm](x)
        elif is_ragged:
            packed, _ = plain(pack_padded_sequence(x, lengths, enforce_sorted=False))
            output, _ = pad_packed_sequence(packed, total_length=num_steps)
        else:
            output, _ = plain(x)
        output.sum().backward()

    times: dict[str, list[float]] = {"torch.nn": [], "aten": [], "fused": []}
    for turn in range(ROUNDS + 2):
        for arm, found in times.items():
            begin = time.perf_counter()
            run(arm)
            if turn >= 2:
                found.append(1e3 * (time.perf_counter() - begin))
    return {arm: round(statistics.median(found), 2) for arm, found in times.items()}


def main(path: str) -> None:
    torch.manual_seed(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["threads", "lengths", "B", "T", "I", "H", "torch.nn_ms", "aten_ms", "fused_ms", "fused/aten"])
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for is_ragged, shapes in ((True, RAGGED), (False, EVEN)):
                for shape in shapes:
                    found = row(*shape, is_ragged)
                    ratio = round(found["fused"] / found["aten"], 2)
                    line = [threads, "ragged" if is_ragged else "even", *shape, *found.values(), ratio]
                    writer.writerow(line)
                    print(*line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
