"""An epoch of the addition task on rnnlab's layers against the same script on torch.nn: `python ... FILE.csv [rounds]`.

The network, data, batch and optimiser of `make demo`, with its LSTM and with a GRU: 352 updates an epoch, of which each
arm makes a few in turn; times are medians over rounds, an epoch as so many updates. One thread, then two.
"""

import csv
import statistics
import sys
import time
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import rnnlab.nn
from rnnlab.cli.memory import keep_freed_memory
from rnnlab.data import AdditionData
from rnnlab.models import Adder

HIDDEN, BATCH, UPDATES = 128, 128, 8  # of an arm in a round
HEADER = ("threads", "layer", "torch.nn s an epoch", "rnnlab.nn s an epoch", "ratio")


def trained(package: Any, family: str, length: int) -> tuple[Adder, torch.optim.Optimizer]:
    model = Adder(partial(getattr(package, family), hidden_size=HIDDEN), vocab_size=12, answer_length=length)
    return model, torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)


def update(model: Adder, optim: torch.optim.Optimizer, questions: torch.Tensor, answers: torch.Tensor) -> None:
    optim.zero_grad()
    cross_entropy(model(questions).flatten(0, 1), answers.flatten()).backward()
    optim.step()


def main(path: str, rounds: int = 40) -> None:
    keep_freed_memory()  # as in training
    data = AdditionData(batch_size=BATCH, seed=0)
    questions, answers = data.make_splits()["train"]
    updates, rows = len(questions) / BATCH, []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        arms = {
            (family, package): trained(package, family, answers.shape[1])
            for family in ("LSTM", "GRU")
            for package in (torch.nn, rnnlab.nn)
        }
        times: dict[Any, list[float]] = {arm: [] for arm in arms}
        for number in range(rounds + 1):
            for arm in sorted(
                arms, reverse=bool(number % 2), key=str
            ):  # what one leaves in the caches is the next one's
                pair = arms[arm]
                batches = torch.randperm(len(questions))[: UPDATES * BATCH].split(BATCH)
                start = time.perf_counter()
                for rows_of_batch in batches:
                    update(*pair, questions[rows_of_batch], answers[rows_of_batch])
                if number:  # the first compiles
                    times[arm].append((time.perf_counter() - start) / UPDATES * updates)
        median = {arm: statistics.median(values) for arm, values in times.items()}
        for family in ("LSTM", "GRU"):
            theirs, ours = median[family, torch.nn], median[family, rnnlab.nn]
            rows.append((threads, family, f"{theirs:.2f}", f"{ours:.2f}", f"{ours / theirs:.2f}"))
            print(*rows[-1], flush=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
