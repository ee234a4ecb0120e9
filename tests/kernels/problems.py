"""Problems for kernel tests: one layer, one direction, with every input by name, and gradients of a random upstream."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells import CELLS, Cell
from rnnlab_kernels.schedules.layout import Weights, lengths_to_mask
from rnnlab_kernels.schedules.reference import reference
from tests.tolerances import EPS, RATIO

# (T, B, I, H): the smallest, small odd ones, one unit beside a block edge, several blocks.
SIZES = [(1, 1, 1, 1), (3, 2, 5, 7), (17, 3, 8, 63), (33, 5, 20, 100)]
SIZE_IDS = ["x".join(map(str, size)) for size in SIZES]
CELL_NAMES = list(CELLS)
# Every cell with every upstream gradient it can get: into all results, or into one alone.
UPSTREAMS = [(name, up) for name, cell in CELLS.items() for up in ("all", "output", *(f"{s}_n" for s in cell.states))]
# Those of the short set, where a cell costs seconds of compiling or interpreting: two states, and split gates.
FEW_NAMES = ("lstm", "gru")
FEW_UPSTREAMS = [pair for pair in UPSTREAMS if pair[0] in FEW_NAMES]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reverse": {"reverse": True},
    "no-bias": {"bias": False},
    "ragged": {"ragged": True},
    "ragged-reverse": {"ragged": True, "reverse": True},
}


@dataclass
class Problem:
    """Inputs of one layer in one direction; `inputs` maps names to leaf tensors that require gradients."""

    cell: Cell
    inputs: dict[str, Tensor]
    mask: Tensor | None
    reverse: bool

    def run(self, schedule: Callable[..., Any], upstream: str = "all") -> dict[str, Tensor]:
        """Return outputs and the gradient of every input, for an upstream gradient into the outputs named."""
        names = [name for name in self.inputs if name.endswith("_0")]
        weights = Weights(*(self.inputs.get(name) for name in ("ih", "hh", "bias_ih", "bias_hh", "hr")))  # type: ignore[arg-type]
        state_0 = tuple(self.inputs[name] for name in names)
        output, state_n = schedule(self.cell, self.inputs["x"], state_0, weights, self.mask, reverse=self.reverse)
        results = {"output": output, **{f"{s}_n": value for s, value in zip(self.cell.states, state_n, strict=True)}}
        chosen = {name: value for name, value in results.items() if upstream in ("all", name)}
        generator = torch.Generator().manual_seed(7)
        seeds = {k: torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in results.items()}
        grads = torch.autograd.grad(
            list(chosen.values()),
            list(self.inputs.values()),
            [seeds[name].to(value) for name, value in chosen.items()],
            allow_unused=True,
            retain_graph=True,
        )
        for name, grad, value in zip(self.inputs, grads, self.inputs.values(), strict=True):
            results[f"d{name}"] = torch.zeros_like(value) if grad is None else grad
        return {name: value.detach() for name, value in results.items()}

    def to(self, dtype: torch.dtype, device: str = "cpu") -> "Problem":
        """Return the same problem, its values rounded to `dtype`."""
        inputs = {k: v.detach().to(device, dtype).requires_grad_() for k, v in self.inputs.items()}
        return Problem(self.cell, inputs, None if self.mask is None else self.mask.to(device), self.reverse)


def make_problem(
    cell: Cell,
    size: tuple[int, int, int, int],
    *,
    reverse: bool = False,
    bias: bool = True,
    ragged: bool = False,
    projection: bool = False,
    scale: float = 1.0,
) -> Problem:
    """Return a float64 problem with weights of torch's usual size, times `scale`."""
    num_steps, batch, num_inputs, hidden = size
    width = max(hidden // 2, 1) if projection else hidden
    rows = cell.num_gates * hidden
    bound = scale / hidden**0.5

    def uniform(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound)

    inputs = {
        "x": scale * torch.randn(num_steps, batch, num_inputs, dtype=torch.float64),
        "ih": uniform(rows, num_inputs),
        "hh": uniform(rows, width),
    }
    if bias:
        inputs |= {"bias_ih": uniform(rows), "bias_hh": uniform(rows)}
    if projection:
        inputs["hr"] = uniform(width, hidden)
    for state in cell.states:
        inputs[f"{state}_0"] = torch.randn(batch, width if state == "h" else hidden, dtype=torch.float64)
    mask = None
    if ragged:
        mask = lengths_to_mask(torch.randint(0, num_steps + 1, (batch,)), num_steps)
    return Problem(cell, {k: v.requires_grad_() for k, v in inputs.items()}, mask, reverse)


def assert_within_ratio(actual: Tensor, same_dtype: Tensor, exact: Tensor, name: str, ratio: float, eps: float) -> None:
    """Assert that the error against float64 is at most `ratio` times torch's, plus one rounding of the largest value.

    A tensor over time (3-D) is judged at its first step, its last step and as a whole, so that no end is averaged away.
    """
    views = {"": slice(None)}
    if actual.dim() == 3:
        views |= {" at t=0": slice(0, 1), " at t=T-1": slice(-1, None)}
    for label, view in views.items():
        assert actual.isfinite().all(), f"{name}{label}: not finite"
        error = (actual[view].double() - exact[view]).abs().max()
        allowed = ratio * (same_dtype[view].double() - exact[view]).abs().max() + eps * exact[view].abs().max()
        assert error <= allowed, f"{name}{label}: error {error:.2e}, allowed {allowed:.2e}"


def assert_close_in_float32(
    problem: Problem, schedule: Callable[..., Any], upstream: str = "all", device: str = "cpu"
) -> None:
    """Assert that a schedule in float32 computes what the plain loop does in float64.

    Within torch.testing's default tolerance, unless torch's own float32 sums over many steps come near it too: then
    within the ratio rule.
    """
    problem = problem.to(torch.float32)
    exact, same_dtype = problem.to(torch.float64).run(reference, upstream), problem.run(reference, upstream)
    actual = problem.to(torch.float32, device).run(schedule, upstream)
    for name, value in exact.items():
        if not torch.allclose(actual[name].cpu(), value.float(), rtol=1.3e-6, atol=1e-5):
            assert_within_ratio(actual[name].cpu(), same_dtype[name], value, name, RATIO, EPS[torch.float32])
