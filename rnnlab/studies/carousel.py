"""The constant error carousel: how much of a gradient comes back along the cell, and how much through the weights R.

    LSTM    c_t = f c_{t-1} + i g        along the cell path, dc_t/dc_{t-1} = diag(f)
    GRU     h_t = z h_{t-1} + (1 - z) n  likewise diag(z)
    Elman   h_t = tanh(W x + R h)        no such path

Along the path alone, k steps multiply a gradient by the product of k gates, sigmoid(b)^k for a gate whose weights are
zero: 0.5^50 = 8.9e-16 for b = 0, 1.6e-7 for b = 1 (Gers et al., 2000; Jozefowicz et al., 2015). Chrono initialisation,
b = ln u with u uniform in (1, T_max - 1), gives gates u / (1 + u), which is time constants 1 / (1 - f) = 1 + u from 2
to T_max, and keeps E (u / (1 + u))^k (Tallec & Ollivier, 2018). The rest of a gradient went through R at least once,
an LSTM's as c_t -> h_t -> R:

    dL/dc_t = dL/dc_t at a fixed h_t + dL/dh_t o (1 - tanh(c_t)^2),   h_t = o tanh(c_t)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.jacobians import pull_back, step_jacobians
from rnnlab.analysis.plots import PALETTE, panels
from rnnlab.nn.init import initialise
from rnnlab.studies.outcome import Claim, Outcome, greatest, least, within

BIASES = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
_DRAWN = (-2.0, 0.0, 1.0, 3.0, 5.0)
_ROUNDING = 1e-9
_VECTORS = 8  # gradients at the end of each draw
_KEEPS = {"LSTMCell": 1, "GRUCell": 1}  # row block of the gate that keeps the past
_OUTPUT = 3  # that of an LSTM's output gate
_INPUTS = 4


class Paths(NamedTuple):
    """Norms of a gradient by c (of cells without one, by h) over those at its start, at distances 0 ... T (T+1,).

    Attributes:
        total: ln of the whole, as backpropagation gives it, mean over gradients and draws.
        cell: ln of what has come along the cell path alone, likewise.
        share: |cell part| / (|cell part| + |the rest|), likewise.
    """

    total: Tensor
    cell: Tensor
    share: Tensor


def gates(cell: nn.Module, block: int, inputs: Tensor, h: Tensor) -> Tensor:
    """Return the gate in that row block of the weights (T, H), under inputs (T, I) and h (T, H) before each step."""
    size = h.shape[1]
    rows = slice(block * size, (block + 1) * size)
    weight = {name: parameter.detach().double()[rows] for name, parameter in cell.named_parameters()}
    bias = weight["bias_ih"] + weight["bias_hh"]
    return torch.sigmoid(inputs.double() @ weight["weight_ih"].T + h @ weight["weight_hh"].T + bias)


def make(name: str, size: int, bias: float | None = None, chrono: float | None = None, is_zero: bool = False) -> Any:
    """Return a cell, its gate with a bias, or with chrono's; with all other weights and biases zero if asked."""
    cell = getattr(rnnlab.nn, name)(_INPUTS, size)
    zeros = {"input": "zeros", "recurrent": "zeros", "bias": "zeros"} if is_zero else {}
    initialise(cell, **zeros, chrono=chrono)
    if bias is not None:
        block = _KEEPS[name]
        with torch.no_grad():
            cell.bias_ih[block * size : (block + 1) * size] = bias
            cell.bias_hh[block * size : (block + 1) * size] = 0.0
    return cell


def follow(cell: nn.Module, inputs: Tensor, vectors: Tensor) -> Paths:
    """Follow gradients back to the first step, from a loss whose gradients by the last c (or h) are given.

    Args:
        cell: with I inputs and H units.
        inputs: one more than the distances T (T+1, I): what lies before the first step is no result of any.
        vectors: gradients at the end (K, H).
    """
    flow, kind, size = Dynamics(cell), type(cell).__name__, vectors.shape[1]
    states = flow.run(inputs)
    ends = torch.zeros(len(vectors), flow.size, dtype=torch.float64)
    ends[:, -size:] = vectors
    back = pull_back(flow, states, inputs, ends)[1:]
    total = back[:, :, -size:]
    if kind == "LSTMCell":
        output = gates(cell, _OUTPUT, inputs, states[:-1, :size])
        total = total + back[:, :, :size] * (output * (1 - states[1:, size:].tanh().square()))[:, None]
    total = total.flip(0)  # (T+1, K, H), by distance
    if kind in _KEEPS:
        kept = gates(cell, _KEEPS[kind], inputs[1:], states[1:-1, :size]).flip(0).cumprod(0)
        direct = torch.cat([torch.ones(1, size, dtype=torch.float64), kept])[:, None] * vectors
    else:
        direct = torch.cat([total[:1], torch.zeros_like(total[1:])])
    whole, alone, rest = (part.norm(dim=2) for part in (total, direct, total - direct))
    logs = [(norm / norm[0]).log().mean(1) for norm in (whole, alone)]
    return Paths(*logs, share=(alone / (alone + rest)).mean(1))


def measure(cells: list[nn.Module], num_steps: int) -> Paths:
    """Follow gradients back over distances up to `num_steps`, of each cell under white noise: the mean over cells."""
    found = []
    for cell in cells:
        inputs = torch.randn(num_steps + 1, _INPUTS)
        vectors = torch.randn(_VECTORS, int(cell.hidden_size), dtype=torch.float64)
        found.append(follow(cell, inputs, vectors))
    return Paths(*(torch.stack(values).mean(0) for values in zip(*found, strict=True)))


def study(size: int = 32, num_steps: int = 50, num_draws: int = 8, longest: int = 300, far_steps: int = 300) -> Outcome:
    """Follow gradients through LSTMs of all forget biases, a GRU, an Elman net, and cells with chrono initialisation.

    Args:
        size: H.
        num_steps: distance over which forget biases are compared.
        num_draws: of cells and inputs.
        longest: T_max of chrono initialisation.
        far_steps: distance over which it is compared.
    """
    claims = [_block_is_gate(size), *_products(num_steps), *_chrono(longest, far_steps)]
    draws = range(num_draws)
    by_bias = {b: measure([make("LSTMCell", size, bias=b) for _ in draws], num_steps) for b in BIASES}
    far = {
        f"LSTM, chrono T_max = {longest}": [make("LSTMCell", size, chrono=longest) for _ in draws],
        "LSTM, forget bias 1": [make("LSTMCell", size, bias=1.0) for _ in draws],
        f"GRU, chrono T_max = {longest}": [make("GRUCell", size, chrono=longest) for _ in draws],
        "GRU": [make("GRUCell", size) for _ in draws],
        "Elman": [make("RNNCell", size) for _ in draws],
    }
    kinds = {name: measure(cells, far_steps) for name, cells in far.items()}
    low, high = by_bias[BIASES[0]], by_bias[BIASES[-1]]
    left = {name: float(paths.total[-1].exp()) for name, paths in kinds.items()}
    finding = (
        f"over {num_steps} steps the cell path carries {float(low.share[-1]):.1%} of an LSTM's gradient at forget bias "
        f"{BIASES[0]:g} and {float(high.share[-1]):.1%} at {BIASES[-1]:g}; what is left over {far_steps}: "
        + ", ".join(f"x{value:.2g} ({name})" for name, value in left.items())
    )
    named = {f"LSTM, forget bias {b:g}, {num_steps} steps": paths for b, paths in by_bias.items()} | kinds
    rows: list[dict[str, str | float]] = [
        {"case": name, "distance": k, "ln_total": float(paths.total[k]), "ln_cell_path": float(paths.cell[k])}
        | {"share_of_cell_path": float(paths.share[k])}
        for name, paths in named.items()
        for k in range(len(paths.total))
    ]
    return Outcome(claims, finding, rows, _draw(by_bias, kinds, longest))


def kept_by_chrono(longest: float, distance: int) -> float:
    """Return E (u / (1 + u))^k for u uniform in (1, T_max - 1)."""
    u = 1 + (longest - 2) * (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    return float((u / (1 + u)).pow(distance).mean())


def _block_is_gate(size: int) -> Claim:
    """The block dc_t/dc_{t-1} of an LSTM's Jacobian is diag(f)."""
    cell, inputs = make("LSTMCell", size, bias=1.0), torch.randn(20, _INPUTS)
    flow = Dynamics(cell)
    blocks = step_jacobians(flow, inputs)[:, size:, size:]
    expected = torch.diag_embed(gates(cell, _KEEPS["LSTMCell"], inputs, flow.run(inputs)[:-1, :size]))
    return Claim("LSTM: dc_t/dc_{t-1} off diag(f)", float((blocks - expected).abs().max()), "<=", 0.0, _ROUNDING)


def _products(num_steps: int) -> list[Claim]:
    """Without other weights, the gradient that backpropagation finds is sigmoid(b)^T, all of it along the cell path."""
    claims = []
    for name, state in (("LSTMCell", "c"), ("GRUCell", "h")):
        found = {bias: measure([make(name, 4, bias=bias, is_zero=True)], num_steps) for bias in BIASES}
        text = f"{name[:-4]}, zero weights: "
        for part, what in (("total", f"|dL/d{state}|"), ("cell", "cell path")):
            off = greatest(
                abs(math.expm1(float(getattr(paths, part)[-1]) + num_steps * math.log1p(math.exp(-bias))))
                for bias, paths in found.items()
            )
            told = f"{what} after {num_steps} steps off sigmoid(b)^{num_steps}, b = -2 ... 5"
            claims.append(Claim(text + told, off, "<=", 0.0, 1e-6))  # biases are float32
        share = least(float(paths.share.min()) for paths in found.values())
        claims.append(Claim(f"{text}least share of the cell path at any distance", share, "=", 1.0, _ROUNDING))
    return claims


def _chrono(longest: float, distance: int) -> list[Claim]:
    """What units with chrono initialisation keep, and their time constants."""
    size = 1000
    cell = make("LSTMCell", size, chrono=longest, is_zero=True)
    kept = gates(cell, _KEEPS["LSTMCell"], torch.zeros(1, _INPUTS), torch.zeros(1, size, dtype=torch.float64))[0]
    constants = 1 / (1 - kept)
    theory = kept_by_chrono(longest, distance)
    return [
        within(
            f"chrono, T_max = {longest:g}: gradient kept over {distance} steps", kept.pow(distance).tolist(), theory
        ),
        within("chrono: mean time constant, steps", constants.tolist(), 1 + longest / 2),
        Claim("chrono: longest time constant, steps", float(constants.max()), "<=", float(longest), 1e-3),
    ]


def _draw(by_bias: dict[float, Paths], kinds: dict[str, Paths], longest: float) -> Any:
    figure, axes = panels(4, "Gradients along the cell path and through R", panel=(6.2, 4.2))
    total, share, far, shares = axes
    for bias, colour in zip(_DRAWN, PALETTE, strict=True):
        paths = by_bias[bias]
        distance = torch.arange(len(paths.total))
        total.plot(
            distance, paths.total.exp(), color=colour, linewidth=1.8, label=f"forget bias {bias:g}, backpropagated"
        )
        total.plot(distance, paths.cell.exp(), color=colour, linestyle=":", linewidth=1.8)
        total.plot(distance, (1 + math.exp(-bias)) ** -distance.double(), color=colour, linestyle="--", linewidth=0.9)
    total.plot([], [], "k:", label="cell path alone: product of forget gates")
    total.plot([], [], "k--", linewidth=0.9, label="theory, zero weights: sigmoid(b)^k")
    total.set_title("LSTM: |dL/dc| over where it starts", fontsize=10)
    steps = len(next(iter(by_bias.values())).total) - 1
    for k, colour in zip((1, 5, 20, steps), PALETTE, strict=False):
        values = [float(paths.share[k]) for paths in by_bias.values()]
        share.plot(list(by_bias), values, "o-", color=colour, label=f"{k} step{'s'[: k != 1]} back")
    share.set_title("LSTM: share of the cell path", fontsize=10)
    share.set_xlabel("forget bias")
    for (name, paths), colour in zip(kinds.items(), PALETTE, strict=True):
        distance = torch.arange(len(paths.total))
        far.plot(distance, paths.total.exp(), color=colour, label=name)
        shares.plot(distance[1:], paths.share[1:], color=colour, label=name)
    constants = torch.linspace(1, longest - 1, 1000, dtype=torch.float64)[:, None]
    squares = (constants / (1 + constants)).pow(2 * distance).mean(0)  # a norm is a mean of squares over units
    far.plot(distance, squares.sqrt(), "k--", linewidth=0.9, label=f"theory, chrono {longest:g}, zero weights")
    far.set_title("all cells: |gradient| over where it starts", fontsize=10)
    shares.set_title("all cells: share of the cell path", fontsize=10)
    for axis in (total, far):
        axis.set_yscale("log")
        axis.set_ylim(1e-16, 10)
    for axis in (total, far, shares):
        axis.set_xlabel("steps back")
    shares.set_xscale("log")
    total.set_ylim(1e-16, 1e10)  # room for the legend
    for axis in axes:
        axis.legend(frameon=False, fontsize=8, ncols=2 if axis is total else 1)
    return figure
