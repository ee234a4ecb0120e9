"""What `exploding` and `vanishing` share: norms of states and gradients over time in a ReLU layer with random weights.

    h_t = relu(W h_{t-1} + u x_t),   W ~ N(0, s/n), no bias, x_t = 0 after the first step

For given h, W h has n independent entries N(0, s |h|^2 / n), and relu keeps half of their second moment:
E |h_t|^2 = (s/2) |h_{t-1}|^2 for a fresh W, and likewise for gradients, which go through W^T and the half of the units
that are on. The squared ratio has variance 5/n about its mean, so that ln |h_t| changes by (ln(s/2) - 5/(2n)) / 2 a
step. A recurrent network has one W for all steps; then this is the limit of large n, and each W has a rate of its own,
which spreads about it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import rnnlab.nn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.jacobians import pull_back
from rnnlab.analysis.plots import PALETTE, panels
from rnnlab.studies.outcome import Claim, Outcome, within

_CRITICAL = 2.0
_DIRECTIONS = ("state", "gradient")


def measure(s: float, size: int, num_steps: int, num_draws: int) -> dict[str, Tensor]:
    """Return ln of norms over those where they start, (D, T) each: of states over h_1, of gradients over dL/dh_T.

    The loss is v h_T, with a v drawn for each W.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in _DIRECTIONS}
    for _ in range(num_draws):
        layer = rnnlab.nn.RNN(1, size, nonlinearity="relu", bias=False)
        rnnlab.nn.init.initialise(layer, input="normal(1)", recurrent=f"normal({s})")
        flow = Dynamics(layer)
        inputs = torch.zeros(num_steps, 1)
        inputs[0] = 1.0
        states = flow.run(inputs)
        vector = torch.randn(1, size, dtype=torch.float64)
        gradients = pull_back(flow, states[1:], inputs[1:], vector)[:, 0]
        found["state"].append((states[1:].norm(dim=1) / states[1].norm()).log())
        found["gradient"].append((gradients.norm(dim=1) / vector.norm()).log())
    return {name: torch.stack(norms) for name, norms in found.items()}


def rate(s: float, size: int) -> float:
    """Return the expected change of ln |h| a step."""
    return (math.log(s / 2) - 5 / (2 * size)) / 2


def study(s: float, title: str, size: int, num_steps: int, num_draws: int) -> Outcome:
    """Compare the rates of W ~ N(0, s/n), and of the critical N(0, 2/n), with theory, and draw both.

    Args:
        s: n times the variance of a weight.
        title: of the figure.
        size: n.
        num_steps: T.
        num_draws: of W, for each s.
    """
    norms = {scale: measure(scale, size, num_steps, num_draws) for scale in (s, _CRITICAL)}
    claims: list[Claim] = []
    for scale, by_direction in norms.items():
        for name, values in by_direction.items():
            change = values[:, -1] - values[:, 0] if name == "state" else values[:, 0] - values[:, -1]
            text = f"N(0, {scale:g}/n): change of ln |{name}| a step"
            claims.append(within(text, (change / (num_steps - 1)).tolist(), rate(scale, size)))
    forward, backward = claims[:2]
    factor = math.exp(forward.measured), math.exp(backward.measured)
    finding = (
        f"with N(0, {s:g}/n) states change by a factor of {factor[0]:.4f} and gradients of {factor[1]:.4f} a step "
        f"(sqrt({s:g}/2) = {math.sqrt(s / 2):.4f}), x{factor[0] ** (num_steps - 1):.3g} and "
        f"x{factor[1] ** (num_steps - 1):.3g} in {num_steps - 1}; N(0, 2/n) keeps both"
    )
    return Outcome(claims, finding, _rows(norms, size), _draw(norms, size, title))


def _line(name: str, scale: float, size: int, num_steps: int) -> Tensor:
    """Return what theory says, ln of norms (T,)."""
    steps = torch.arange(num_steps, dtype=torch.float64)
    return rate(scale, size) * (steps if name == "state" else steps.flip(0))


def _rows(norms: dict[float, dict[str, Tensor]], size: int) -> list[dict[str, str | float]]:
    rows: list[dict[str, str | float]] = []
    for scale, by_direction in norms.items():
        for name, values in by_direction.items():
            theory = _line(name, scale, size, values.shape[1])
            for t in range(values.shape[1]):
                column = values[:, t]
                spread = {"mean_log": float(column.mean()), "sd_log": float(column.std())}
                rows.append({"s": scale, "of": name, "t": t + 1, **spread, "theory_log": float(theory[t])})
    return rows


def _draw(norms: dict[float, dict[str, Tensor]], size: int, title: str) -> Any:
    figure, axes = panels(2, title, panel=(5.6, 4.2))
    labels = ("states |h_t| / |h_1|", "gradients |dL/dh_t| / |dL/dh_T|")
    for axis, name, label in zip(axes, _DIRECTIONS, labels, strict=True):
        for (scale, by_direction), colour in zip(norms.items(), PALETTE, strict=False):
            values = by_direction[name]
            time = range(1, values.shape[1] + 1)
            for draw in values:
                axis.plot(time, draw.exp(), color=colour, alpha=0.25, linewidth=0.7)
            told = f"N(0, {scale:g}/n): geometric mean of {len(values)} draws (thin)"
            axis.plot(time, values.mean(0).exp(), color=colour, linewidth=2, label=told)
            theory = _line(name, scale, size, values.shape[1]).exp()
            told = f"theory, x{math.sqrt(scale / 2):.4g} a step"
            axis.plot(time, theory, color="black", linestyle="--" if scale != _CRITICAL else ":", label=told)
        axis.set_yscale("log")
        axis.set_xlabel("time step t" + (", gradients run from right to left" if name == "gradient" else ""))
        axis.set_title(label, fontsize=10)
        axis.legend(frameon=False, fontsize=8)
    return figure
