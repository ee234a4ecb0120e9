"""Bounded input, |x| <= 1 at every step: whose states stay bounded?

- tanh, sigmoid: always. |h| <= 1, whatever the weights.
- GRU: always. h is a mean of a candidate within 1 and the state before, so |h_t| <= max(1, |h_0|). So is c of LSTMs
  whose input gate is 1 - f.
- LSTM: |h| < 1 always, and |c_t| <= |c_0| + t. As |h| and |x| are at most 1, no forget gate gets above f = sigmoid(a),
  a = max_i (sum_j |W_ij| + sum_j |R_ij| + |b_i|), so that |c| <= |c_0| + 1 / (1 - f) = |c_0| + 1 + e^a: there is a
  bound for any weights, but it may be far out. With f and i near 1, c grows by one a step; where a is above 37, f is 1
  in double precision (17 in single), and there is no bound.
- linear: if and only if the response to a single input can be summed, for which a spectral radius below 1 is enough:
  |h_i| <= sum_k sum_j |(W^k U)_ij|, which the worst input reaches. An eigenvalue 1 sums a constant input up,
  exp(i theta) one of that frequency, and above 1 all but a few inputs explode.
- ReLU: if the largest singular value of W is below 1, |h| <= |U| / (1 - sigma). Not in general: with W = 1 it sums up
  positive inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.plots import PALETTE, panels
from rnnlab.studies.outcome import Claim, Outcome

_ROUNDING = 1e-9
_PERIOD = 16  # steps, of the rotation


class Trace(NamedTuple):
    """How large a state gets over time.

    Attributes:
        panel, name: where it is drawn, and how it is called.
        size: greatest |state| over rows and units (T,).
        relation: how it lies to `theory` at every step.
        theory: (T,).
    """

    panel: str
    name: str
    size: Tensor
    relation: str
    theory: Tensor

    @property
    def claim(self) -> Claim:
        ratio = self.size / self.theory
        if self.relation == "=":
            return Claim(f"{self.name}: off theory", float((ratio - 1).abs().max()), "<=", 0.0, _ROUNDING)
        if self.relation == ">=":
            return Claim(f"{self.name}: least of state / theory", float(ratio.min()), ">=", 1.0, _ROUNDING)
        return Claim(f"{self.name}: greatest of state / bound", float(ratio.max()), "<=", 1.0, _ROUNDING)


def follow(cell: nn.Module, inputs: Tensor, state: Tensor | None = None, part: slice = slice(None)) -> Tensor:
    """Return the greatest |state| (T,) over rows and the units in `part`, under inputs (T, B, I) from states (B, N)."""
    flow = Dynamics(cell)
    h = flow.initial().expand(inputs.shape[1], -1) if state is None else state
    sizes = []
    for x in inputs.double():
        h = flow.step(h, x)
        sizes.append(h[:, part].abs().max())
    return torch.stack(sizes)


def random_inputs(num_steps: int, batch: int, width: int = 2) -> Tensor:
    """Return inputs of -1 or 1 (T, B, I), those of the first row all 1."""
    inputs = torch.randint(2, (num_steps, batch, width)) * 2.0 - 1.0
    inputs[:, 0] = 1.0
    return inputs


def scaled(cell: nn.Module, factor: float) -> nn.Module:
    """Return the cell with all its weights times a factor."""
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(factor)
    return cell


def linear(weight: Tensor, weight_ih: Tensor, nonlinearity: str = "identity") -> nn.Module:
    """Return an Elman cell without bias."""
    cell = rnnlab.nn.ElmanCell(weight_ih.shape[1], len(weight), nonlinearity, bias=False, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.copy_(weight)
        cell.weight_ih.copy_(weight_ih)
    return cell


def bounded(num_steps: int, batch: int, size: int) -> list[Trace]:
    """Cells whose equations bound the state, with weights ten times those they start with."""
    inputs, ones = random_inputs(num_steps, batch), torch.ones(num_steps, dtype=torch.float64)
    start = 6 * torch.rand(batch, size, dtype=torch.float64) - 3
    tanh = follow(scaled(rnnlab.nn.ElmanCell(2, size), 10), inputs)
    gru = follow(scaled(rnnlab.nn.GRUCell(2, size), 10), inputs, start)
    coupled = follow(
        scaled(rnnlab.nn.CIFGCell(2, size), 10), inputs, torch.cat([start * 0, start], 1), slice(size, None)
    )
    most = float(start.abs().max())
    return [
        Trace("bounded by their equations", "tanh", tanh, "<=", ones),
        Trace("bounded by their equations", "GRU from |h_0| <= 3", gru, "<=", ones * max(1.0, most)),
        Trace("bounded by their equations", "LSTM with i = 1 - f, c", coupled, "<=", ones * max(1.0, most)),
    ]


def lstm(num_steps: int, batch: int, size: int) -> list[Trace]:
    """An LSTM as it starts, and with forget and input gates open."""
    inputs, time = random_inputs(num_steps, batch), torch.arange(1, num_steps + 1, dtype=torch.float64)
    cell = rnnlab.nn.LSTMCell(2, size)
    rows = slice(size, 2 * size)  # of the forget gate
    with torch.no_grad():
        reach = cell.weight_ih[rows].abs().sum(1) + cell.weight_hh[rows].abs().sum(1)
        reach = float((reach + (cell.bias_ih + cell.bias_hh)[rows].abs()).max())
    c, h = slice(size, None), slice(size)
    open_cell = rnnlab.nn.LSTMCell(2, size)
    with torch.no_grad():
        open_cell.bias_ih[: 3 * size] = 20.0  # i, f and the candidate
    grown = follow(open_cell, inputs, part=c)
    return [
        Trace("LSTM", "LSTM as it starts, c", follow(cell, inputs, part=c), "<=", (1 + math.exp(reach)) * time**0),
        Trace("LSTM", "LSTM with biases 20, c, from above", grown, "<=", time),
        Trace("LSTM", "LSTM with biases 20, c, from below", grown, ">=", 0.99 * time),
        Trace("LSTM", "LSTM with biases 20, h", follow(open_cell, inputs, part=h), "<=", time**0),
    ]


def linear_networks(num_steps: int, size: int) -> list[Trace]:
    """Linear networks with eigenvalues within, on and outside the unit circle."""
    time = torch.arange(1, num_steps + 1, dtype=torch.float64)
    constant = torch.ones(num_steps, 1, 1)
    weight, column = torch.randn(size, size, dtype=torch.float64), torch.randn(size, 1, dtype=torch.float64)
    weight *= 0.95 / torch.linalg.eigvals(weight).abs().max()
    powers, response = [column], torch.zeros(size, num_steps, dtype=torch.float64)
    for _ in range(num_steps - 1):
        powers.append(weight @ powers[-1])
    response = torch.cat(powers, 1)  # (n, T): of unit i, k steps after an input
    sums = response.abs().cumsum(1)
    unit = int(sums[:, -1].argmax())
    # The input that makes that unit largest at the end: each step adds with its own sign.
    worst = response[unit].sign().flip(0)[:, None, None]
    within = follow(linear(weight, column), worst)
    angle = 2 * math.pi / _PERIOD
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    first = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    resonant = torch.cos(angle * time)[:, None, None]
    one = torch.ones(1, 1, dtype=torch.float64)
    rises = torch.expm1(time * math.log(1.05)) / 0.05  # 1 + 1.05 + ... + 1.05^(t-1)
    panel = "linear"
    return [
        Trace(panel, "spectral radius 0.95, worst input", within, "<=", sums.max(0).values),
        Trace(panel, "eigenvalue 1, constant input", follow(linear(one, one), constant), "=", time),
        Trace(
            panel,
            f"rotation by 1/{_PERIOD}, constant input",
            follow(linear(turn, first), constant),
            "<=",
            time**0 / math.sin(angle / 2),  # |1 - z^t| / |1 - z| for z = exp(i angle)
        ),
        Trace(
            panel,
            f"rotation by 1/{_PERIOD}, input of its period",
            follow(linear(turn, first), resonant),
            ">=",
            # |h_t| is at least t/2 - |sum of exp(-2 i angle k)| / 2; the larger coordinate, that over sqrt(2).
            ((time - 1 / math.sin(angle)) / 2 / math.sqrt(2)).clamp(min=0.0),
        ),
        Trace(panel, "eigenvalue 1.05, constant input", follow(linear(1.05 * one, one), constant), "=", rises),
    ]


def relu(num_steps: int, batch: int, size: int) -> list[Trace]:
    """ReLU networks: a weight matrix that contracts, and the identity."""
    time = torch.arange(1, num_steps + 1, dtype=torch.float64)
    weight, column = torch.randn(size, size, dtype=torch.float64), torch.randn(size, 1, dtype=torch.float64)
    weight *= 0.9 / torch.linalg.matrix_norm(weight, 2)
    inputs = random_inputs(num_steps, batch, 1)
    contracting = follow(linear(weight, column, "relu"), inputs)
    one = torch.eye(1, dtype=torch.float64)
    return [
        Trace("ReLU", "sigma(W) = 0.9", contracting, "<=", time**0 * float(column.norm()) / 0.1),
        Trace("ReLU", "W = 1, positive input", follow(linear(one, one, "relu"), inputs[:, :1]), "=", time),
    ]


def study(num_steps: int = 2000, batch: int = 16, size: int = 16) -> Outcome:
    """Drive cells by inputs of -1 and 1, by constant ones and by the worst there are."""
    makers: list[Callable[[], list[Trace]]] = [
        lambda: bounded(num_steps, batch, size),
        lambda: lstm(num_steps, batch, size),
        lambda: linear_networks(num_steps, size),
        lambda: relu(num_steps, batch, size),
    ]
    traces = [trace for make in makers for trace in make()]
    claims = [trace.claim for trace in traces]
    within = next(trace for trace in traces if trace.name.startswith("spectral radius"))
    reached = float(within.size[-1] / within.theory[-1])
    claims.append(Claim(f"{within.name}: the bound is reached at the end", reached, "=", 1.0, _ROUNDING))
    grown = next(trace for trace in traces if trace.name.endswith("from below"))
    finding = (
        f"tanh and GRU stay bounded for any weights; an LSTM's h does, while its c reached {float(grown.size[-1]):.0f} "
        f"in {num_steps} steps with open gates; linear networks are bounded inside the unit circle only, and on it an "
        "input of the right frequency is enough"
    )
    rows: list[dict[str, str | float]] = [
        {"case": trace.name, "t": t + 1, "size": float(trace.size[t]), "relation": trace.relation}
        | {"theory": float(trace.theory[t])}
        for trace in traces
        for t in sorted({*range(0, num_steps, max(1, num_steps // 200)), num_steps - 1})
    ]
    return Outcome(claims, finding, rows, _draw(traces))


def _draw(traces: list[Trace]) -> Any:
    names = list(dict.fromkeys(trace.panel for trace in traces))
    figure, axes = panels(len(names), "Greatest |state| under inputs |x| <= 1", panel=(6.2, 4.0))
    for axis, panel in zip(axes, names, strict=True):
        colours: dict[str, str] = {}
        told: set[str] = set()
        for trace in (trace for trace in traces if trace.panel == panel):
            time, name = range(1, len(trace.size) + 1), trace.name.partition(", from ")[0]
            if name not in colours:
                colours[name] = PALETTE[len(colours)]
                greatest = trace.size.cummax(0).values
                axis.plot(time, greatest, color=colours[name], linewidth=2.5, alpha=0.6, label=name)
            kind, style = {"<=": ("upper bound", "--"), ">=": ("lower bound", ":"), "=": ("exact", "-.")}[
                trace.relation
            ]
            label = "" if kind in told else f"theory: {kind}"
            told.add(kind)
            axis.plot(time, trace.theory, color=colours[name], linewidth=1, linestyle=style, label=label)
        axis.set_xscale("log")
        if panel == "bounded by their equations":
            axis.set_ylim(0.0, 3.6)
        else:
            axis.set_yscale("log")
            axis.set_ylim(0.3, 1e5)
        axis.set_xlabel("time step t")
        axis.set_ylabel("greatest |state| so far")
        axis.set_title(panel, fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    return figure
