"""Singular values of dh_{t+k}/dh_t over the distance k, for cells as they start and once they can add.

With the exponents lambda of Lyapunov, ln sigma_i of a product of k Jacobians tends to k lambda_i. At any distance,

    lambda_1 <= ln sigma_1(J_k ... J_1) / k <= mean of ln sigma_1(J_t),

lambda_1 being what QR finds along the same k steps: a product stretches no direction more than its largest singular
value says, and that is no more than its factors allow. All exponents together sum up to the mean of ln |det J_t|.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.jacobians import leading_log_singular_values, log_singular_values, step_jacobians
from rnnlab.analysis.lyapunov import lyapunov_exponents
from rnnlab.analysis.plots import PALETTE, panels
from rnnlab.studies.outcome import Claim, Outcome, greatest, least
from rnnlab.studies.problems import PROBLEMS, train

_DIGITS = 34.0  # ln of what double precision tells apart: smaller singular values of a product are rounding
_SHORT = 20  # steps over which both routes to singular values are compared
_ROUTES = 1e-6
_LENGTH = 20  # of the sequences of adding
_LONGER = 5  # times as many steps for the exponents of the long run


class Measured(NamedTuple):
    """One network.

    Attributes:
        logs: ln of singular values of products of k = 1 ... T Jacobians (T, N).
        exponents: Lyapunov's, along the same steps (N,).
        later: the largest of them in the long run, along other steps.
        bound: mean of ln sigma_1(J_t).
        determinant: mean of ln |det J_t|.
        routes: how far the largest singular value by Jacobian-vector products is from the exact one, relative.
    """

    logs: Tensor
    exponents: Tensor
    later: Tensor
    bound: float
    determinant: float
    routes: float


def stream(num_steps: int) -> Tensor:
    """Return sequences of adding as networks are trained on them, one after the other, (T, I)."""
    drawn = PROBLEMS["adding"].draw(_LENGTH, -(-num_steps // _LENGTH)).inputs
    return drawn.transpose(0, 1).flatten(0, 1)[:num_steps]


def measure(layer: nn.Module, num_steps: int, count: int) -> Measured:
    """Measure a network over `num_steps` steps of the inputs of adding, `count` exponents over more."""
    flow = Dynamics(layer)
    inputs = stream(num_steps)
    jacobians = step_jacobians(flow, inputs)
    short = torch.linalg.svdvals(torch.linalg.multi_dot(list(jacobians[:_SHORT].flip(0))))[0]
    vectors = leading_log_singular_values(flow, inputs[:_SHORT], 1, iterations=300)[0].exp()
    more = stream((_LONGER + 1) * num_steps)
    return Measured(
        log_singular_values(jacobians),
        lyapunov_exponents(flow, inputs),
        lyapunov_exponents(flow, more, count, warm_up=num_steps),
        float(torch.linalg.matrix_norm(jacobians, 2).log().mean()),
        float(torch.linalg.slogdet(jacobians).logabsdet.mean()),
        float((vectors / short - 1).abs()),
    )


def study(size: int = 24, num_steps: int = 100, updates: int = 800, count: int = 6) -> Outcome:
    """Measure an orthogonal linear network, and Elman net, LSTM and GRU before and after they learn to add."""
    cell = rnnlab.nn.ElmanCell(2, size, "identity", dtype=torch.float64)
    rnnlab.nn.init.initialise(cell, recurrent="orthogonal")
    found = {"linear, orthogonal": measure(cell, num_steps, count)}
    problem, losses = PROBLEMS["adding"], {}
    for kind in ("RNN", "LSTM", "GRU"):
        layer: Any = getattr(rnnlab.nn, kind)(problem.input_size, size)
        name = "Elman" if kind == "RNN" else kind
        found[f"{name}, as it starts"] = measure(layer, num_steps, count)
        losses[name] = train(layer, nn.Linear(size, problem.output_size), problem, _LENGTH, updates)
        found[f"{name}, trained"] = measure(layer, num_steps, count)
    claims = _claims(found, num_steps)
    told = []
    for name, loss in losses.items():
        before, after = (float(found[f"{name}, {when}"].later[0]) for when in ("as it starts", "trained"))
        told.append(f"{name} {before:+.3f} and {after:+.3f} (loss {loss:.2g})")
    finding = (
        f"largest exponent in nats a step, before and after learning to add over {_LENGTH} steps: {', '.join(told)}"
    )
    rows: list[dict[str, str | float]] = [
        {"network": name, "distance": k + 1, "i": i + 1, "ln_sigma": float(one.logs[k, i])}
        | {"theory": (k + 1) * float(one.later[i])}
        for name, one in found.items()
        for k in range(num_steps)
        for i in range(count)
        if float(one.logs[k, i]) > float(one.logs[k, 0]) - _DIGITS
    ]
    return Outcome(claims, finding, rows, _draw(found, losses, count))


def _claims(found: dict[str, Measured], num_steps: int) -> list[Claim]:
    """Return what theory says of all networks, each as its worst case, and of the orthogonal one."""
    ones = found.values()
    leading = [float(one.logs[-1, 0]) / num_steps for one in ones]
    below = least(rate - float(one.exponents[0]) for rate, one in zip(leading, ones, strict=True))
    above = greatest(rate - one.bound for rate, one in zip(leading, ones, strict=True))
    width = max(one.logs.shape[1] for one in ones)
    # QR starts from a random direction: a hundredth of the usual part along the leading one is rare.
    allowed = math.log(100 * math.sqrt(width)) / num_steps
    apart = greatest(rate - float(one.exponents[0]) for rate, one in zip(leading, ones, strict=True))
    sums = greatest(abs(float(one.exponents.sum()) - one.determinant) / (1 + abs(one.determinant)) for one in ones)
    routes = greatest(one.routes for one in ones)
    flat = float(found["linear, orthogonal"].logs.abs().max())
    return [
        Claim("orthogonal: greatest |ln sigma| at any distance", flat, "<=", 0.0, 1e-9),
        Claim(f"all networks: least of ln sigma_1 / {num_steps} - lambda_1", below, ">=", 0.0, 1e-9),
        Claim(f"all networks: greatest of ln sigma_1 / {num_steps} - lambda_1", apart, "<=", 0.0, allowed),
        Claim(f"all networks: ln sigma_1 / {num_steps} - mean ln sigma_1(J_t), greatest", above, "<=", 0.0, 1e-9),
        Claim("all networks: sum of exponents off mean ln |det J_t|, relative", sums, "<=", 0.0, 1e-6),
        Claim("all networks: sigma_1 by vectors off exact, relative", routes, "<=", 0.0, _ROUTES),
    ]


def _draw(found: dict[str, Measured], losses: dict[str, float], count: int) -> Any:
    names = [f"{name}, {when}" for when in ("as it starts", "trained") for name in losses]
    figure, axes = panels(
        len(names),
        "Singular values of dh_{t+k}/dh_t over the distance k, as cells start and once trained to add",
        panel=(4.8, 3.6),
    )
    places = [0, 1, 3, count - 1]
    for axis, name in zip(axes, names, strict=True):
        one = found[name]
        distance = torch.arange(1, len(one.logs) + 1)
        axis.axhline(0, color="black", linewidth=0.8, alpha=0.5)
        for place, colour in zip(places, PALETTE, strict=False):
            known = one.logs[:, place] > one.logs[:, 0] - _DIGITS
            axis.plot(distance[known], one.logs[known, place], color=colour, label=f"ln sigma_{place + 1}")
            told = "theory: k lambda_i of the long run" if place == 0 else ""
            axis.plot(distance, distance * one.later[place], color=colour, linestyle="--", linewidth=1, label=told)
        axis.set_ylim(-40, 8)
        axis.set_xlabel("distance k")
        axis.set_ylabel("ln of singular value")
        kind, _, when = name.partition(", ")
        told = f" (loss {losses[kind]:.2g})" if when == "trained" else ""
        axis.set_title(f"{name}{told}: lambda_1 = {float(one.later[0]):+.3f}", fontsize=10)
    axes[-1].legend(loc="lower right", frameon=False, fontsize=8)
    return figure
