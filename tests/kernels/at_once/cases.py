"""Calls whose programs wait for each other: cells, both forms of the backward pass, directions, heads, ragged rows."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.schedules.additions import Additions, Noise
from rnnlab_kernels.schedules.engines import BOTH
from rnnlab_kernels.schedules.layout import lengths_to_mask
from rnnlab_kernels.schedules.persistent import api
from rnnlab_kernels.schedules.persistent.tiles import Tiling
from tests.kernels.one_launch import sliced_plan
from tests.kernels.problems import make_problem
from tests.kernels.test_chains import ChainProblem, make


class Case(NamedTuple):
    """A call forward and backward, of several programs a tile of rows.

    Attributes:
        cell: its name.
        size: T, B, I, and the units of a head.
        parts: backward, programs leave parts of dh for each other.
        reverse: 0, 1, or BOTH.
        heads: of one direction.
        ragged: rows of different lengths, one of them 0.
        extras: resets, and all noise there is.
        clip: the limit of gradients between steps.
        dtype: of all values.
        inference: forward only, which keeps nothing.
    """

    cell: str
    size: tuple[int, int, int, int] = (3, 2, 3, 17)
    parts: bool = False
    reverse: int = 0
    heads: int = 1
    ragged: bool = False
    extras: bool = False
    clip: float | None = None
    dtype: torch.dtype = torch.float32
    inference: bool = False

    def run(self) -> dict[str, Tensor]:
        """Return output, last states and the gradients of all inputs, by name."""
        problem = self._problem
        run = functools.partial(self._both if self.reverse == BOTH else api.sequence, plan=self._plan)
        if not self.inference:
            return problem.run(run)
        with torch.no_grad():
            return dict(enumerate(problem.results(run, *problem.inputs.values())))

    @property
    def _plan(self) -> Tiling:
        chain, (_, batch, _, hidden) = self._chain, self.size
        return sliced_plan(chain, batch, hidden, self.heads * (1 + (self.reverse == BOTH)), parts=self.parts)

    @property
    def _chain(self) -> Chain:
        return CHAINS[self.cell] if self.cell in CHAINS else as_chain(CELLS[self.cell])

    @property
    def _problem(self) -> ChainProblem:
        torch.manual_seed(0)
        (num_steps, batch, num_inputs, units), chain = self.size, self._chain
        size = num_steps, batch, num_inputs, units * self.heads
        problem = make(self.cell, size) if self.cell in CHAINS else make_problem(CELLS[self.cell], size)
        inputs = problem.inputs
        if self.heads > 1:
            rows = inputs["hh"].shape[0] // self.heads
            inputs["hh"] = torch.empty(self.heads, rows, units, dtype=torch.float64).uniform_(-0.3, 0.3)
        mask = reset = noise = None
        if self.ragged:
            mask = lengths_to_mask(torch.arange(batch) % (num_steps + 1), num_steps)
        if self.extras:
            reset = torch.rand(num_steps, batch, 1) < 0.3
            noise = Noise(5, 0.2, 0.3, (0.4, 0.2)[: chain.num_states], first=7)
        additions = Additions(reset=reset, noise=noise, clip=self.clip)
        leaves = {name: value.detach().to(self.dtype).requires_grad_() for name, value in inputs.items()}
        return ChainProblem(chain, leaves, mask, self.reverse == 1, additions)

    def _both(self, cell, x, state_0, named, mask, *, reverse, additions, plan):
        """Run both directions with the same weights, as if they were one layer of (T, B, 2H)."""
        output, ends = api.both_ways(cell, x, [state_0] * 2, [named] * 2, mask, additions=[additions] * 2, plan=plan)
        return output, [torch.cat(pair, -1) for pair in zip(*ends, strict=True)]


ONE_PRODUCT = ("rnn_tanh", "lstm", "gru", "cifg", "peephole_lstm")
STAGES = ("layer_norm_rnn_tanh", "layer_norm_lstm", "layer_norm_lstm_state", "layer_norm_gru", "gru_reset_before")
# What a step is made of: cells, both forms of the backward pass, and everything that may be asked of rows.
FORMS = {
    **{name: Case(name) for name in (*ONE_PRODUCT, *STAGES, "layer_norm_lstm_gates", "layer_norm_lstm_only_state")},
    **{f"{name}, parts": Case(name, parts=True) for name in ONE_PRODUCT},
    **{
        f"{name}, ragged, from the end, resets and noise": Case(
            name, (4, 5, 3, 20), reverse=1, ragged=True, extras=True
        )
        for name in ("lstm", "gru", "peephole_lstm", *STAGES)
    },
}
# More programs, and other launches.
OTHERS = {
    "gru, ragged, parts": Case("gru", (4, 5, 3, 20), parts=True, ragged=True),
    "lstm, three programs": Case("lstm", (3, 2, 3, 35)),
    "lstm, three programs, parts": Case("lstm", (3, 2, 3, 35), parts=True),
    "layer_norm_lstm_state, three programs": Case("layer_norm_lstm_state", (3, 2, 3, 35)),
    "gru, two tiles of rows": Case("gru", (3, 18, 3, 17)),
    "gru_reset_before, two tiles of rows": Case("gru_reset_before", (2, 18, 3, 17), ragged=True),
    "lstm, two heads": Case("lstm", (3, 2, 3, 20), heads=2),
    "gru, two heads, parts": Case("gru", (3, 2, 3, 20), heads=2, parts=True),
    "lstm, both directions": Case("lstm", reverse=BOTH),
    "gru, both directions, ragged, parts": Case("gru", (3, 4, 3, 17), reverse=BOTH, ragged=True, parts=True),
    "lstm, clipped": Case("lstm", clip=0.3),
    "gru, clipped, parts": Case("gru", clip=0.3, parts=True),
    "layer_norm_gru, clipped": Case("layer_norm_gru", clip=0.3),
    "lstm, half precision": Case("lstm", dtype=torch.float16),
    "layer_norm_lstm, inference": Case("layer_norm_lstm", (5, 2, 3, 17), inference=True),
    "gru_reset_before, inference": Case("gru_reset_before", (5, 2, 3, 17), inference=True),
}
CASES = FORMS | OTHERS


def alike(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Return whether two results are the same to the bit."""
    return all(torch.equal(actual[name], value) for name, value in expected.items())
