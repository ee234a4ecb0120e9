"""One vector to a sequence of values, as long as one asks for.

Letters: B batch, C numbers of the vector, T steps, F features of the code, H width of the layer's output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab.models.bridge import FirstState
from rnnlab.models.layers import RecurrentFactory, initialise_all, output_width


class Sines(nn.Module):
    """sin(W x + b), W of torch's initialisation times `scale`, b spread over a whole turn."""

    def __init__(self, input_size: int, output_size: int, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, output_size)
        with torch.no_grad():
            self.linear.weight.mul_(scale)
            self.linear.bias.uniform_(-math.pi, math.pi)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., output_size) of x (..., input_size)."""
        return torch.sin(self.linear(x))


class Products(nn.Module):
    """A vector and the products of each two of its numbers, squares among them."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., C + C (C + 1) / 2) of x (..., C)."""
        first, second = torch.triu_indices(x.shape[-1], x.shape[-1])
        return torch.cat([x, x[..., first] * x[..., second]], dim=-1)


class VectorGenerator(nn.Module):
    """Vector -> code -> first state of recurrent layers, which read the vector at each step -> a value a step.

    The layers see none of their own values: what tells one step from the next is their state alone, so that they go on
    past the steps they were trained on.

    Args:
        rnn: factory of recurrent layers of `rnnlab.nn`, called with `input_size`.
        vector_size: C.
        num_steps: T, steps of a sequence where no other number is asked for.
        code_size: F, of two layers of sines between the vector and what reads it (Sitzmann et al., 2020); None: the
            first state is made of the vector itself.
        code_scale: how many times torch's initial weights those of the first layer of sines are: how fast, at first,
            the code changes with the vector. Those of the second are 2.5 times as large as torch's.
        code_products: whether the code is made of the products of each two numbers of the vector too, as where phases
            are frequencies times times.
        each_step: whether the vector is read at each step; else it makes the first state alone, and zeros are read.
        init: arguments of `rnnlab.nn.init.initialise`; None keeps torch's initialisation.

    Raises:
        ValueError: a layer in both directions, or one whose state cannot be set; an option out of range.

    Example:
        >>> import functools, torch
        >>> from rnnlab.nn import GRU
        >>> model = VectorGenerator(functools.partial(GRU, hidden_size=16), vector_size=4, num_steps=50)
        >>> model(torch.zeros(3, 4)).shape, model(torch.zeros(3, 4), num_steps=200).shape
        (torch.Size([3, 50]), torch.Size([3, 200]))
    """

    def __init__(
        self,
        rnn: RecurrentFactory,
        vector_size: int,
        num_steps: int,
        code_size: int | None = None,
        code_scale: float = 10.0,
        code_products: bool = False,
        each_step: bool = True,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if code_size is not None and (not isinstance(code_size, int) or isinstance(code_size, bool) or code_size < 1):
            raise ValueError(f"model.code_size must be an integer of at least 1 or null, got {code_size!r}")
        self.num_steps, self.each_step = num_steps, each_step
        self.code: nn.Module = nn.Identity()
        if code_size is not None:
            parts: list[nn.Module] = [Products()] if code_products else []
            width = vector_size + (vector_size * (vector_size + 1) // 2 if code_products else 0)
            self.code = nn.Sequential(*parts, Sines(width, code_size, code_scale), Sines(code_size, code_size, 2.5))
        self.rnn = rnn(input_size=vector_size)
        self.first_state = FirstState(code_size or vector_size, self.rnn)
        self.head = nn.Linear(output_width(self.rnn), 1)
        initialise_all([self.rnn], self.head, init)

    def forward(self, vectors: Tensor, num_steps: int | None = None) -> Tensor:
        """Return the sequences (B, T) of vectors (B, C), of `num_steps` in place of T if that is given."""
        start = self.first_state(self.code(vectors), self.rnn.initial_state(vectors.shape[0]))
        read = vectors if self.each_step else torch.zeros_like(vectors)
        output, _ = self.rnn(read.expand(num_steps or self.num_steps, *read.shape), start)  # (T, B, H)
        return self.head(output).squeeze(2).t()
