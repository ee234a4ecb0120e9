"""Sigmoid, tanh, ReLU and identity under random weights W ~ N(0, s/n): where do gradients vanish, where not?

    h_t = phi(W h_{t-1} + u),   u_i ~ N(0, v) the same at every step

In the mean field of large n, pre-activations are N(0, q), and a gradient changes by sqrt(chi) a step on average:

    q_t = s E phi(sqrt(q_{t-1}) z)^2 + v,   chi_t = s E phi'(sqrt(q_t) z)^2,   z ~ N(0, 1)

(Sompolinsky, Crisanti and Sommers, 1988; for discrete time Molgedey, Schuchhardt and Schuster, 1992; Poole et al.,
2016.) Near h = 0 that is chi = s phi'(0)^2: s for tanh and identity, s/16 for the sigmoid; s/2 for ReLU, everywhere.
Bounded functions saturate in two ways. Under a strong u, units are driven to their bounds one by one, and gradients
vanish at any of these scales. Without it, tanh with s > 1 keeps enough units in between that they grow: chaos.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import rnnlab.nn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.jacobians import pull_back
from rnnlab.analysis.plots import PALETTE, panels
from rnnlab.studies.outcome import Claim, Outcome, greatest

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
_SETTLE = 20  # steps before gradients are measured
_VECTORS = 8  # gradients at the end, for each draw
_SATURATED = 0.05  # slope, as a share of the steepest, below which a unit counts as saturated
_MOST = 5.0  # standard errors that chance may put between theory and one of 60 means of 20 draws, once in 200 times
REGIMES = {"near 0": None, "settled": 0.0, "driven": 25.0}  # v; near 0 it is one step at h = 0


class Activation(NamedTuple):
    """A function, its slope as a function of its value, and the mean squared slope near 0."""

    function: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    near_zero: float


ACTIVATIONS = {
    "sigmoid": Activation(torch.sigmoid, lambda h: h * (1 - h), 1 / 16),
    "tanh": Activation(torch.tanh, lambda h: 1 - h.square(), 1.0),
    "relu": Activation(torch.relu, lambda h: (h > 0).double(), 0.5),
    "identity": Activation(lambda z: z, torch.ones_like, 1.0),
}


class Found(NamedTuple):
    """ln of the gradient's change a step, of each draw (D,), what theory says, and the share of saturated units."""

    rates: Tensor
    theory: float
    saturated: float


def mean_field(name: str, s: float, v: float, q: float, num_steps: int) -> list[float]:
    """Return ln(chi_t) / 2 for t = 1 ... num_steps, from pre-activations of variance q at t = 1."""
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = (-grid.square() / 2).exp()
    weight /= weight.sum()
    found = []
    for _ in range(num_steps):
        h = ACTIVATIONS[name].function(math.sqrt(q) * grid)
        found.append(math.log(s * float(weight @ ACTIVATIONS[name].slope(h).square())) / 2)
        q = s * float(weight @ h.square()) + v
    return found


def measure(name: str, s: float, v: float | None, size: int, num_steps: int, num_draws: int) -> Found:
    """Measure how gradients change over `num_steps` steps once the state has settled; one step at h = 0 if v is None.

    Args:
        name: of the activation.
        s: n times the variance of a weight.
        v: variance of the constant input.
        size: n.
        num_steps: that gradients go back.
        num_draws: of W and u.
    """
    # ReLU has no slope at 0 itself, hence a state of next to nothing.
    near_zero = v is None
    steps, before = (1, 0) if near_zero else (num_steps, _SETTLE)
    rates, saturated = [], []
    for _ in range(num_draws):
        cell = rnnlab.nn.ElmanCell(1, size, name, bias=False)
        rnnlab.nn.init.initialise(cell, input=f"normal({v or 0.0})", recurrent=f"normal({s})")
        flow = Dynamics(cell)
        start = torch.randn(size, dtype=torch.float64) * (1e-8 if near_zero else 1.0)
        inputs = torch.ones(before + steps, 1)
        states = flow.run(inputs, start)[before:]
        vectors = torch.randn(_VECTORS, size, dtype=torch.float64)
        gradients = pull_back(flow, states, inputs[before:], vectors)[0]
        rates.append(float((gradients.norm(dim=1) / vectors.norm(dim=1)).log().mean()) / steps)
        slope = ACTIVATIONS[name].slope(states[-1])
        steepest = 0.25 if name == "sigmoid" else 1.0
        saturated.append(float((slope < _SATURATED * steepest).double().mean()) if name in ("sigmoid", "tanh") else 0.0)
    if v is None:
        theory = math.log(s * ACTIVATIONS[name].near_zero) / 2
    else:
        path = mean_field(name, s, v, s + v, before + steps)  # h_0 ~ N(0, 1)
        theory = sum(path[before:]) / steps
    return Found(torch.tensor(rates), theory, sum(saturated) / num_draws)


def study(size: int = 300, num_steps: int = 15, num_draws: int = 20) -> Outcome:
    """Measure all activations at all scales: near h = 0, settled without input, and driven to their bounds."""
    found = {
        (regime, name, s): measure(name, s, v, size, num_steps, num_draws)
        for regime, v in REGIMES.items()
        for name in ACTIVATIONS
        for s in SCALES
    }
    claims = []
    for regime in REGIMES:
        for name in ACTIVATIONS:
            worst = greatest(_deviation(found[regime, name, s]) for s in SCALES)
            claims.append(Claim(f"{name}, {regime}: furthest from theory, standard errors", worst, "<=", _MOST))
    for name in ("sigmoid", "tanh"):
        most = greatest(float(found["driven", name, s].rates.mean()) for s in SCALES)
        claims.append(Claim(f"{name}, driven: greatest rate at any scale", most, "<=", 0.0))
    chaos = found["settled", "tanh", SCALES[-1]]
    claims.append(Claim(f"tanh, settled: rate at scale {SCALES[-1]:g}", float(chaos.rates.mean()), ">=", 0.0))
    driven = found["driven", "tanh", SCALES[-1]]
    finding = (
        f"driven to their bounds, sigmoid and tanh lose gradients at every scale (tanh at {SCALES[-1]:g}: "
        f"{driven.rates.mean():+.3f} a step, {driven.saturated:.0%} of units saturated), but scale alone does not do "
        f"it: without input, tanh at {SCALES[-1]:g} has {chaos.saturated:.0%} saturated and gradients still grow by "
        f"{chaos.rates.mean():+.3f} a step"
    )
    rows: list[dict[str, str | float]] = [
        {
            **{"regime": regime, "activation": name, "s": s},
            **{"mean_rate": float(result.rates.mean()), "sd_rate": float(result.rates.std()), "theory": result.theory},
            "saturated": result.saturated,
        }
        for (regime, name, s), result in found.items()
    ]
    return Outcome(claims, finding, rows, _draw(found, num_draws))


def _deviation(result: Found) -> float:
    """Return how far the mean rate is from theory, in standard errors."""
    error = float(result.rates.std()) / math.sqrt(len(result.rates))
    return abs(float(result.rates.mean()) - result.theory) / error


def _draw(found: dict[tuple[str, str, float], Found], num_draws: int) -> Any:
    title = "Change of gradients a step under W ~ N(0, s/n), by activation and scale s"
    figure, axes = panels(len(REGIMES), title, panel=(4.6, 4.4))
    told = {
        "near 0": "near h = 0, one step",
        "settled": "settled, no input",
        "driven": "driven by a constant input of deviation 5",
    }
    for axis, regime in zip(axes, REGIMES, strict=True):
        for (name, marker), colour in zip(zip(ACTIVATIONS, "osD^", strict=True), PALETTE, strict=False):
            results = [found[regime, name, s] for s in SCALES]
            axis.plot(
                SCALES, [result.theory for result in results], color=colour, linewidth=1.2, label=f"{name}, theory"
            )
            means = [float(result.rates.mean()) for result in results]
            spread = [float(result.rates.std()) for result in results]
            label = f"{name}, mean and deviation of {num_draws} draws"
            style = {"color": colour, "marker": marker, "linestyle": "none", "capsize": 3, "markerfacecolor": "white"}
            axis.errorbar(SCALES, means, spread, **style, label=label)
        axis.axhline(0, color="black", linestyle=":", linewidth=1)
        axis.set_xscale("log", base=2)
        axis.set_xticks(SCALES, [f"{s:g}" for s in SCALES])
        axis.set_xlabel("scale s")
        axis.set_ylabel("change of ln |gradient| a step")
        axis.set_ylim(-3.1, 0.95)
        axis.set_title(told[regime], fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure
