"""A linear network in the long run: the eigenvalues of W say how fast it grows, and where to, whatever the input was.

    h_t = W h_{t-1} + U x_t,   x_t = 0 after the first step:   h_t = W^{t-1} U x_1

With W = V diag(lambda) V^-1 and |lambda_1| the largest, |h_t| ~ |lambda_1|^t, and h_t turns towards the first column of
V, unless x_1 has no part there. An orthogonal W keeps every norm; where eigenvectors are nearly parallel, norms may
rise for a while before they fall.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import rnnlab.nn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.lyapunov import lyapunov_exponents
from rnnlab.analysis.plots import PALETTE, panels
from rnnlab.studies.outcome import Claim, Outcome, greatest

_ROUNDING = 1e-9
_LATE = 10  # last steps, over which rates of the long run are taken


def networks(size: int) -> dict[str, tuple[Tensor, float]]:
    """Return weights W (n, n) by name, each with the absolute value of its largest eigenvalue."""
    vectors = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q
    rest = torch.rand(size - 1, dtype=torch.float64) * 0.8
    real = {
        name: (vectors @ torch.cat([torch.tensor([value], dtype=torch.float64), rest * abs(value)]).diag() @ vectors.T)
        for name, value in (("eigenvalues up to 1.1", 1.1), ("eigenvalues up to 0.9", 0.9))
    }
    # Large entries beside the diagonal: eigenvectors that are nearly parallel.
    parallel = torch.diag(torch.cat([torch.tensor([0.9], dtype=torch.float64), 0.72 * torch.ones(size - 1).double()]))
    parallel += torch.diag(torch.ones(size - 1, dtype=torch.float64) * 1.5, 1)
    return {
        "eigenvalues up to 1.1": (real["eigenvalues up to 1.1"], 1.1),
        "orthogonal": (torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q, 1.0),
        "eigenvalues up to 0.9": (real["eigenvalues up to 0.9"], 0.9),
        "up to 0.9, nearly parallel eigenvectors": (parallel, 0.9),
    }


def measure(weight: Tensor, inputs: Tensor, num_steps: int) -> tuple[Dynamics, Tensor, float]:
    """Return the network, its states (N, T, n) after each of N first inputs (N, I), and how far they are from powers.

    That is the largest |h_T - W^{T-1} U x_1| / |h_T|.
    """
    cell = rnnlab.nn.ElmanCell(inputs.shape[1], len(weight), "identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.copy_(weight)
    flow = Dynamics(cell)
    zeros = torch.zeros(num_steps - 1, inputs.shape[1], dtype=torch.float64)
    states = torch.stack([flow.run(torch.cat([x[None], zeros]))[1:] for x in inputs])
    power = torch.linalg.matrix_power(weight, num_steps - 1)
    exact = inputs @ cell.weight_ih.detach().T @ power.T
    return flow, states, float(((states[:, -1] - exact).norm(dim=1) / exact.norm(dim=1)).max())


def study(size: int = 6, num_steps: int = 120, num_inputs: int = 8) -> Outcome:
    """Give networks of known eigenvalues first inputs of sizes from 0.001 to 1000, and follow them."""
    inputs = torch.randn(num_inputs, 3, dtype=torch.float64)
    inputs *= torch.logspace(-3, 3, num_inputs, dtype=torch.float64)[:, None] / inputs.norm(dim=1, keepdim=True)
    claims, rows, drawn = [], list[dict[str, str | float]](), {}
    for name, (weight, largest) in networks(size).items():
        flow, states, error = measure(weight, inputs, num_steps)
        norms = states.norm(dim=2)
        late = (norms[:, -1] / norms[:, -1 - _LATE]).log() / _LATE
        furthest = float((late - math.log(largest)).abs().max())
        exponent = lyapunov_exponents(flow, torch.zeros(num_steps, 3), count=1, warm_up=num_steps - _LATE)
        claims.append(Claim(f"{name}: distance from the exact power", error, "<=", 0.0, _ROUNDING))
        claims.append(Claim(f"{name}: last rate off ln |lambda|, worst input", furthest, "<=", 0.0, 1e-4))
        claims.append(Claim(f"{name}: Lyapunov exponent", float(exponent), "=", math.log(largest), 1e-4))
        drawn[name] = (weight, largest, norms)
        for k, row in enumerate(norms):
            for t in range(num_steps):
                numbers = {"t": t + 1, "norm": float(row[t]), "theory": float(row[-1]) * largest ** (t + 1 - num_steps)}
                rows.append({"network": name, "input_norm": float(inputs[k].norm()), **numbers})
    peak = greatest(float(row.max() / row[0]) for row in drawn["up to 0.9, nearly parallel eigenvectors"][2])
    finding = (
        f"inputs a million times larger change where |h| is, not how fast it goes: |lambda| a step, and exactly 1 if W "
        f"is orthogonal; nearly parallel eigenvectors first raise |h| up to {peak:.3g} times"
    )
    return Outcome(claims, finding, rows, _draw(drawn))


def _draw(drawn: dict[str, tuple[Tensor, float, Tensor]]) -> Any:
    title = "Linear network after one input: 8 inputs, of norms from 0.001 to 1000"
    figure, axes = panels(len(drawn), title, panel=(5.4, 3.6))
    for axis, ((name, (_, largest, norms)), colour) in zip(
        axes, zip(drawn.items(), PALETTE, strict=False), strict=True
    ):
        time = torch.arange(1, norms.shape[1] + 1)
        for k, row in enumerate(norms):
            axis.plot(time, row, color=colour, linewidth=1.2, alpha=0.8, label="" if k else "|h_t|, a line an input")
            slope = row[-1] * largest ** (time - len(time)).double()
            axis.plot(time, slope, "k--", linewidth=0.8, label="" if k else f"theory, {largest:g}^t through the end")
        axis.set_yscale("log")
        axis.set_xlabel("time step t")
        axis.set_ylabel("|h_t|")
        axis.set_title(name, fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    return figure
