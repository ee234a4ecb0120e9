"""Truncated backpropagation through time: how far is its gradient from the exact one, by window and task?

A sequence of T steps is read in windows of k, the last of which ends with it; state is carried from window to window,
gradients are not. What is lost is every way back that crosses a border. For h_t = a h_{t-1} + 1 and the loss h_T it can
be summed: dL/da = sum_t a^{T-t} h_{t-1} over all steps, against the last k of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.analysis.plots import PALETTE, panels
from rnnlab.nn import detach_state
from rnnlab.studies.outcome import Claim, Outcome, greatest, least
from rnnlab.studies.problems import PROBLEMS, Batch, Problem, train

_EQUAL = 1e-12  # two routes to one gradient in double precision
_DECAY = 0.9  # a


class Truncated(NamedTuple):
    """A truncated gradient beside the exact one g: |g_k - g| / |g|, and their cosine."""

    bias: float
    cosine: float


def gradient(layer: Any, head: nn.Module, problem: Problem, batch: Batch, window: int) -> Tensor:
    """Return the gradient of the mean loss by all parameters, one vector, cut off at windows of so many steps."""
    parameters = learnt(layer, head)
    num_steps, count = len(batch.inputs), (len(batch.inputs) - batch.first) * batch.inputs.shape[1]
    total = torch.zeros(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)
    state, start = None, 0
    # The first window is what is left over, so that the last ends with the sequence.
    for stop in range((num_steps - 1) % window + 1, num_steps + 1, window):
        output, state = layer(batch.inputs[start:stop], None if state is None else detach_state(state))
        first = max(start, batch.first)
        if first < stop:
            targets = batch.targets[first - batch.first : stop - batch.first]
            loss = problem.loss(head(output[first - start :]), targets).sum() / count
            total += torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])
        start = stop
    return total


def learnt(*modules: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that gradients are taken by."""
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def compare(layer: Any, head: nn.Module, problem: Problem, batch: Batch, windows: list[int]) -> dict[int, Truncated]:
    """Return bias and cosine by window, in float64, in which the modules are left."""
    layer, head = layer.double(), head.double()
    floats = batch.targets.is_floating_point()
    batch = batch._replace(inputs=batch.inputs.double(), targets=batch.targets.double() if floats else batch.targets)
    output, _ = layer(batch.inputs)
    loss = problem.loss(head(output[batch.first :]), batch.targets).mean()
    exact = torch.cat([part.flatten() for part in torch.autograd.grad(loss, learnt(layer, head))])
    found = {}
    for window in windows:
        cut = gradient(layer, head, problem, batch, window)
        cosine = float(cut @ exact / (cut.norm() * exact.norm()))
        found[window] = Truncated(float((cut - exact).norm() / exact.norm()), cosine)
    return found


def linear(num_steps: int, windows: list[int]) -> tuple[dict[int, Truncated], dict[int, float]]:
    """Return what h_t = a h_{t-1} + 1 with the loss h_T has by a, measured, and its bias in theory."""
    cell = rnnlab.nn.ElmanCell(1, 1, "identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.fill_(_DECAY)
        cell.weight_ih.fill_(1.0)
    cell.weight_ih.requires_grad_(False)
    problem = Problem(1, 1, _ones, lambda outputs, targets: outputs[:, :, 0])
    found = compare(rnnlab.nn.Recurrent(cell), nn.Identity(), problem, _ones(num_steps, 1), windows)
    before = torch.tensor([(1 - _DECAY**t) / (1 - _DECAY) for t in range(num_steps)], dtype=torch.float64)  # h_{t-1}
    terms = _DECAY ** torch.arange(num_steps - 1, -1, -1, dtype=torch.float64) * before
    return found, {window: 1 - float(terms[-window:].sum() / terms.sum()) for window in windows}


def _ones(num_steps: int, batch: int) -> Batch:
    return Batch(torch.ones(num_steps, batch, 1), torch.zeros(1, batch, 1), num_steps - 1)


def study(num_steps: int = 32, size: int = 32, updates: int = 1500, batch: int = 256) -> Outcome:
    """Compare gradients of LSTMs as they start and once trained on each task, and of a network that can be summed."""
    windows = [2**power for power in range(num_steps.bit_length() + 1)]
    measured, theory = linear(num_steps, windows)
    furthest = greatest(abs(measured[k].bias - theory[k]) for k in windows)
    claims = [Claim("linear network: bias off theory, worst window", furthest, "<=", 0.0, _EQUAL)]
    found: dict[tuple[str, str], dict[int, Truncated]] = {}
    losses = {}
    for name, problem in PROBLEMS.items():
        layer: Any = rnnlab.nn.LSTM(problem.input_size, size)
        rnnlab.nn.init.initialise(layer, recurrent="orthogonal", chrono=num_steps)
        head: nn.Module = nn.Linear(size, problem.output_size)
        drawn = problem.draw(num_steps, batch)
        found[name, "as it starts"] = compare(layer, head, problem, drawn, windows)
        losses[name] = train(layer.float(), head.float(), problem, num_steps, updates)
        found[name, "trained"] = compare(layer, head, problem, drawn, windows)
        for when in ("as it starts", "trained"):
            worst = greatest(found[name, when][k].bias for k in windows if k >= num_steps)
            claims.append(Claim(f"{name}, {when}: bias for k >= T", worst, "<=", 0.0, _EQUAL))
            lowest = least(found[name, when][k].cosine for k in windows if k >= num_steps)
            claims.append(Claim(f"{name}, {when}: cosine for k >= T", lowest, "=", 1.0, _EQUAL))
    middle = max(k for k in windows if 4 * k <= num_steps)
    told = [f"{name} {found[name, 'trained'][middle].cosine:.2f}" for name in PROBLEMS]
    finding = (
        f"windows of {middle} in {num_steps} steps have gradients whose cosine with the exact one, once trained, is "
        + ", ".join(told)
    )
    rows: list[dict[str, str | float]] = [
        {
            "task": name,
            "network": when,
            "window": k,
            "bias": one.bias,
            "cosine": one.cosine,
            "loss_once_trained": losses[name],
        }
        for (name, when), by_window in found.items()
        for k, one in by_window.items()
    ]
    rows += [
        {"task": "linear", "network": when, "window": k, "bias": bias, "cosine": 1.0, "loss_once_trained": float("nan")}
        for when, biases in (("measured", {k: one.bias for k, one in measured.items()}), ("theory", theory))
        for k, bias in biases.items()
    ]
    return Outcome(claims, finding, rows, _draw(found, measured, theory, losses, num_steps))


def _draw(
    found: dict[tuple[str, str], dict[int, Truncated]],
    measured: dict[int, Truncated],
    theory: dict[int, float],
    losses: dict[str, float],
    num_steps: int,
) -> Any:
    title = f"Gradients cut off at windows of k steps, LSTM over T = {num_steps} steps"
    figure, (bias, cosine) = panels(2, title, panel=(6.4, 4.6))
    colours = dict(zip(PROBLEMS, PALETTE, strict=False))
    for (name, when), by_window in found.items():
        style = {"color": colours[name], "linestyle": "-" if when == "trained" else ":", "marker": "o", "markersize": 4}
        label = f"{name}, {when}" + (f" to a loss of {losses[name]:.2g}" if when == "trained" else "")
        bias.plot(list(by_window), [one.bias for one in by_window.values()], **style, label=label)
        cosine.plot(list(by_window), [one.cosine for one in by_window.values()], **style, label=label)
    biases = [one.bias for one in measured.values()]
    bias.plot(list(measured), biases, "s", color="black", markersize=5, markerfacecolor="none", label="linear, a = 0.9")
    bias.plot(list(theory), list(theory.values()), "k--", linewidth=1, label="linear: theory")
    cosine.axhline(1.0, color="black", linestyle="--", linewidth=1, label="theory for k >= T")
    bias.set_title("bias |g_k - g| / |g|", fontsize=10)
    cosine.set_title("cosine of g_k and g", fontsize=10)
    for axis in (bias, cosine):
        axis.axvline(num_steps, color="black", linewidth=0.8, alpha=0.5)
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(theory), [str(window) for window in theory])
        axis.set_xlabel("window k (vertical line: k = T)")
    handles, labels = bias.get_legend_handles_labels()
    line, text = (found[-1] for found in cosine.get_legend_handles_labels())
    figure.legend([*handles, line], [*labels, text], loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure
