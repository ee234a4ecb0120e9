"""What share of an update the loss costs: forward and backward of `losses_of` alone, against the whole update.

python experiments/008_ctc_speech/loss_share.py loss_share.csv
"""

from __future__ import annotations

import csv
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from rnnlab.models import Transcriber
from rnnlab.nn import LSTM
from rnnlab.tasks.ctc import losses_of

# Frames, rows, symbols of a target, features, classes, units, stack: those of ctc/morse and ctc/digits.
SHAPES = {"morse": (420, 19, 8, 7, 44, 64, 3), "digits": (250, 32, 4, 40, 11, 96, 3)}
ROUNDS = 30


def main(table: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [[name, kind, *measured(kind, *shape)] for name, shape in SHAPES.items() for kind in ("ctc", "viterbi")]
    for row in rows:
        print(*row)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["experiment", "loss", "update_ms", "loss_ms", "share"], *rows])


def measured(
    kind: str, frames: int, batch: int, symbols: int, features: int, classes: int, units: int, stack: int
) -> list[float]:
    """Return the medians of a whole update and of the loss in it, in milliseconds, and their ratio."""
    rnn = functools.partial(LSTM, hidden_size=units, num_layers=2, bidirectional=True)
    model = Transcriber(rnn, features, classes, stack=stack)
    optimiser = torch.optim.AdamW(model.parameters())
    x, lengths = torch.randn(frames, batch, features), torch.full((batch,), frames)
    target, sizes = torch.randint(1, classes, (batch, symbols)), torch.full((batch,), symbols)
    logits, steps = (part.detach() for part in model(x, lengths))
    logits.requires_grad_()

    def loss(logits: torch.Tensor, steps: torch.Tensor) -> None:
        losses_of(kind, logits, steps, target, sizes).sum().backward()

    def update() -> None:
        optimiser.zero_grad()
        loss(*model(x, lengths))
        optimiser.step()

    # By turns, so that both see the same machine.
    times = [(_seconds(update), _seconds(functools.partial(loss, logits, steps))) for _ in range(ROUNDS)]
    whole, part = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    return [round(whole, 2), round(part, 2), round(part / whole, 3)]


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(Path(sys.argv[1]))
