"""torch's own LSTM layer on padded rows of unequal lengths, and its cells for a single step.

torch's fused layers know neither lengths nor masks. What they compute within a row does not depend on what follows it,
so padding behind a row only has to leave its cell state alone, and a row that is walked in reverse is turned round
first, within its length. The cell state is held by one more input feature, 1 in padding and 0 elsewhere, whose weights
shut the input gate and open the forget gate: sigmoid(-1e4) is 0 and sigmoid(1e4) is 1 exactly, so that there
c_t = c_{t-1} and no gradient enters the gates. The last output is looked up at each row's end.

T time, B batch, I inputs, H units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rnnlab_kernels.cells import CELLS, Cell
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.layout import Weights, named_weights, zero_padding

_CHAIN = as_chain(CELLS["lstm"])
_CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": torch._VF.lstm_cell,
    "GRU": torch._VF.gru_cell,
    "RNN_TANH": torch._VF.rnn_tanh_cell,
    "RNN_RELU": torch._VF.rnn_relu_cell,
}
_MODES = {as_chain(CELLS[mode.lower()]).key: mode for mode in _CELLS}  # of each chain that is one of torch's cells
_SHUT = 1e4  # beyond any sum of gates, and within float16


def cell_step(mode: str, x: Tensor, state: Sequence[Tensor], *weights: Tensor | None) -> tuple[Tensor, ...]:
    """Return the state after one step by torch's cell function.

    Args:
        mode: LSTM, GRU, RNN_TANH or RNN_RELU.
        x: (B, I).
        state: h, for an LSTM h and c, each (B, H).
        weights: (G*H, I), (G*H, H) and, if there are any, the two biases (G*H,).
    """
    step = _CELLS[mode]
    return tuple(step(x, state, *weights)) if mode == "LSTM" else (step(x, state[0], *weights),)


def stacked_step(
    mode: str, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], dropout: float = 0.0
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the output (B, H) and the states (L, B, H) of stacked layers after one step, each by `cell_step`.

    Args:
        mode: as in `cell_step`.
        x: (B, I).
        states: h, for an LSTM h and c, each (L, B, H).
        weights: those of `cell_step`, layer after layer.
        dropout: rate between layers.
    """
    finals, count = [], len(weights) // len(states[0])
    for layer, state in enumerate(zip(*[part.unbind() for part in states], strict=True)):
        if layer and dropout:
            x = nn.functional.dropout(x, dropout)
        finals.append(cell_step(mode, x, state, *weights[layer * count : (layer + 1) * count]))
        x = finals[-1][0]
    return x, tuple(map(torch.stack, zip(*finals, strict=True)))


def chain_step(
    chain: Chain, x: Tensor, state: Sequence[Tensor], weights: Mapping[str, Tensor]
) -> tuple[Tensor, ...] | None:
    """Return the state after one step of a chain on x (B, I), None unless it is that of one of torch's cells."""
    mode = _MODES.get(chain.key)
    if mode is None or "ih" not in weights or weights["hh"].dim() == 3:  # of heads
        return None
    bias_ih, bias_hh = weights.get("bias_ih"), weights.get("bias_hh")
    if bias_ih is not None and bias_hh is None:  # which only torch's CPU code takes
        bias_hh = torch.zeros_like(bias_ih)
    return cell_step(mode, x, state, weights["ih"], weights["hh"], bias_ih, bias_hh)


def held(
    cell: Cell | Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run an LSTM layer in one direction. Arguments and results as in `kit_torch.eager`, but for the mask.

    Args:
        mask: (T, B, 1), true in the first steps of each row, as many as it is long.

    Raises:
        ValueError: another cell, a projection, no mask, or additions.
    """
    chain, named = named_weights(cell, weights)
    if (
        chain.key != _CHAIN.key
        or mask is None
        or additions.reset is not None
        or additions.noise
        or additions.clip is not None
    ):
        raise ValueError("this is for a plain LSTM over rows with lengths")
    num_steps, batch = x.shape[:2]
    h_0, c_0 = state_0
    lengths = mask.squeeze(-1).sum(0)  # (B,)
    rows = torch.arange(batch, device=x.device)
    x = torch.cat([zero_padding(x, mask), (~mask).to(x.dtype)], dim=-1)  # (T, B, I+1)
    if reverse:
        steps = torch.arange(num_steps, device=x.device).unsqueeze(1)
        turned = (torch.where(mask.squeeze(-1), lengths - 1 - steps, steps) * batch + rows).flatten()
        x = _take(x, turned)
    gates = x.new_tensor([-_SHUT, _SHUT, 0, 0]).repeat_interleave(h_0.shape[1]).unsqueeze(1)  # i f g o
    parts = [torch.cat([named["ih"], gates], dim=1), named["hh"]]
    biases = [named[name] for name in ("bias_ih", "bias_hh") if name in named]
    hx = [h_0.unsqueeze(0), c_0.unsqueeze(0)]
    y, _, c_n = torch._VF.lstm(x, hx, [*parts, *biases], bool(biases), 1, 0.0, torch.is_grad_enabled(), False, False)
    last = y.flatten(0, 1).index_select(0, (lengths - 1).clamp(min=0) * batch + rows)
    h_n = torch.where((lengths > 0).unsqueeze(1), last, h_0)
    if reverse:
        y = _take(y, turned)
    return zero_padding(y, mask), (h_n, c_n.squeeze(0))


def _take(x: Tensor, places: Tensor) -> Tensor:
    """Return the rows of x (T, B, N) from these places of (T*B, N)."""
    return x.flatten(0, 1).index_select(0, places).view_as(x)
