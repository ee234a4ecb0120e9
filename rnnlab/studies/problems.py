"""Small problems that studies train on, drawn from torch's default generator: inputs (T, B, I) and losses.

Letters: T time, B batch, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnlab.data.adding import draw_sequence
from rnnlab.data.sines import two_sines

_SYMBOLS = 4  # of copy; one more for blanks, one for the sign to begin
_RECALLED = 5  # of copy: how many are to be told


class Batch(NamedTuple):
    """Inputs (T, B, I), targets, and the steps whose outputs count, those from `first` on."""

    inputs: Tensor
    targets: Tensor
    first: int


class Problem(NamedTuple):
    """What a network is to do.

    Attributes:
        input_size, output_size: I and O.
        draw: (T, B) to a batch.
        loss: outputs (S, B, O) and their targets (S, B, ...) to the loss of each (S, B).
    """

    input_size: int
    output_size: int
    draw: Callable[[int, int], Batch]
    loss: Callable[[Tensor, Tensor], Tensor]


def _adding(num_steps: int, batch: int) -> Batch:
    """The sum of two marked numbers, at the last step."""
    rng = np.random.default_rng(_seed())
    inputs, sums = zip(*(draw_sequence(num_steps, rng) for _ in range(batch)), strict=True)
    return Batch(torch.from_numpy(np.stack(inputs, 1)), torch.tensor(sums)[None, :, None], num_steps - 1)


def _sines(num_steps: int, batch: int) -> Batch:
    """The next value of two sines and noise, at every step."""
    series = torch.from_numpy(two_sines(batch, num_steps + 1, _seed())).T[:, :, None]
    return Batch(series[:-1], series[1:], 0)


def _copy(num_steps: int, batch: int) -> Batch:
    """The first symbols again at the end, after blanks and a sign: `rnnlab.data.copying`, but short and few of few."""
    symbols = torch.randint(_SYMBOLS, (_RECALLED, batch))
    codes = torch.full((num_steps, batch), _SYMBOLS)
    codes[:_RECALLED] = symbols
    codes[num_steps - _RECALLED] = _SYMBOLS + 1
    return Batch(torch.eye(_SYMBOLS + 2)[codes], symbols, num_steps - _RECALLED)


def _seed() -> int:
    """Return a seed for numpy, drawn from torch's generator."""
    return int(torch.randint(2**31, ()))


def _squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(2)


def _entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


PROBLEMS = {
    "adding": Problem(2, 1, _adding, _squares),
    "two sines": Problem(1, 1, _sines, _squares),
    "copy": Problem(_SYMBOLS + 2, _SYMBOLS, _copy, _entropy),
}


def train(layer: nn.Module, head: nn.Module, problem: Problem, num_steps: int, updates: int, batch: int = 64) -> float:
    """Train a layer and a head by Adam on fresh sequences, and return the mean loss of the last tenth of updates."""
    parameters = [*layer.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=5e-3)
    losses = []
    for _ in range(updates):
        drawn = problem.draw(num_steps, batch)
        loss = problem.loss(head(layer(drawn.inputs)[0][drawn.first :]), drawn.targets).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    last = losses[-max(1, updates // 10) :]
    return sum(last) / len(last)
