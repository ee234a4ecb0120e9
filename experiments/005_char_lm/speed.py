"""Characters a second in training, rnnlab.nn against torch.nn in the same model, in turns.

    python experiments/005_char_lm/speed.py [ROUNDS] > experiments/005_char_lm/speed.csv

A round is three updates of each arm on the same windows; the ratio is the median over rounds, below 1 where rnnlab
is faster.
"""

import csv
import statistics
import sys
import time
from functools import partial

import torch
from torch.nn.functional import cross_entropy

import rnnlab.nn
from rnnlab.cli.memory import keep_freed_memory
from rnnlab.data import TextData
from rnnlab.models import CharLM

# Layer, units, layers, streams, steps: the first three as in conf/experiment/char_lm.
ROWS = [
    ("LSTM", 512, 1, 32, 64),
    ("LSTM", 256, 1, 32, 64),
    ("LSTM", 128, 2, 50, 50),
    ("GRU", 256, 1, 32, 64),
    ("RNN", 256, 1, 32, 64),
]


def update(model: CharLM, optimizer: torch.optim.Optimizer, window, state):
    """Do one update on a window and return the state behind it."""
    logits, state = model(window.inputs, state, return_state=True)
    loss = cross_entropy(logits.flatten(0, 1), window.targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def main(rounds: int) -> None:
    keep_freed_memory()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(
        ["layer", "units", "layers", "streams", "steps", "rnnlab_chars_per_s", "torch_chars_per_s", "time_ratio"]
    )
    for name, units, layers, streams, steps in ROWS:
        data = TextData(None, split="files", batch_size=streams, tbptt_steps=steps)
        data.setup()
        windows = list(data.train_dataloader())[: 3 * (rounds + 1)]
        options = {"hidden_size": units, "num_layers": layers}
        arms = {}
        for arm, namespace in (("rnnlab", rnnlab.nn), ("torch", torch.nn)):
            torch.manual_seed(0)
            model = CharLM(partial(getattr(namespace, name), **options), **data.sizes)
            arms[arm] = (model, torch.optim.Adam(model.parameters(), lr=1e-3, fused=True))
        times: dict[str, list[float]] = {arm: [] for arm in arms}
        states = dict.fromkeys(arms)
        for turn in range(rounds + 1):  # the first one warms up
            for arm in sorted(arms, reverse=turn % 2 == 1):
                start = time.perf_counter()
                for window in windows[3 * turn : 3 * turn + 3]:
                    states[arm] = update(*arms[arm], window, states[arm])
                times[arm].append(time.perf_counter() - start)
        rates = {arm: 3 * streams * steps / statistics.median(values[1:]) for arm, values in times.items()}
        ratio = statistics.median(r / t for t, r in zip(times["torch"][1:], times["rnnlab"][1:], strict=True))
        writer.writerow(
            [name, units, layers, streams, steps, *(round(rate) for rate in rates.values()), f"{ratio:.3f}"]
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
