"""What all schedules share about one layer in one direction: its weights, the order of steps, padding."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.chain import Chain, as_chain

HALF = (torch.float16, torch.bfloat16)
REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}  # dtype of the two parts


class Weights(NamedTuple):
    """Parameters of one layer in one direction, in torch's shapes.

    G gates, H units, I inputs, P = H or the size of the projection.

    Attributes:
        ih: (G*H, I).
        hh: (G*H, P), or (N, G*D, D) of N heads of D = H/N units.
        bias_ih: (G*H,) or None.
        bias_hh: (G*H,), None together with `bias_ih`.
        hr: (P, H), the projection of an LSTM, or None.
    """

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    hr: Tensor | None = None


def named_weights(
    cell: Cell | Chain, weights: Weights | Mapping[str, Tensor], dense: bool = True
) -> tuple[Chain, dict[str, Tensor]]:
    """Return a cell as a chain, and its weights by the chain's names, those that are None left out.

    With `dense`, weights of heads (N, G*D, D) are written out as block-diagonal ones.
    """
    named: dict[str, Tensor] = {}
    for name, weight in (weights._asdict() if isinstance(weights, Weights) else weights).items():
        if weight is not None:
            named[name] = block_diagonal(weight) if dense and weight.dim() == 3 else weight
    return (cell if isinstance(cell, Chain) else as_chain(cell, "hr" in named)), named


def block_diagonal(weight: Tensor) -> Tensor:
    """Return the recurrent weight (G*H, H) of N heads that each read their own D = H/N units: `weight` is (N, G*D, D).

    Rows are in the order of a layer without heads: by gate, then by head.
    """
    num_heads, rows, units = weight.shape
    by_gate = weight.reshape(num_heads, -1, units, units).permute(1, 2, 3, 0)
    return by_gate.diag_embed(0, 1, 3).reshape(num_heads * rows, num_heads * units)


def step_order(num_steps: int, reverse: bool) -> range:
    """Return the time indices in the order in which the recurrence visits them."""
    return range(num_steps - 1, -1, -1) if reverse else range(num_steps)


def slots(num_steps: int, reverse: bool) -> Iterator[tuple[int, int, int]]:
    """Yield (t, slot of the state before t, slot of the state after t) for state buffers of T+1 entries.

    The initial state stands at the end where the recurrence begins, so that outputs and previous states are two views
    of one buffer: `buffer[1:]` and `buffer[:-1]` going forward, the other way round in reverse.
    """
    for t in step_order(num_steps, reverse):
        yield (t, t + 1, t) if reverse else (t, t, t + 1)


def lengths_to_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """Return the (T, B, 1) mask of the steps inside each row, without waiting for the device."""
    steps = torch.arange(num_steps, device=lengths.device).unsqueeze(1)
    return (steps < lengths.unsqueeze(0)).unsqueeze(-1)


def as_bytes(flags: Tensor | None) -> Tensor | None:
    """Return (T, B, 1) booleans as (T, B) bytes."""
    return None if flags is None else flags.expand(-1, -1, 1).squeeze(-1).contiguous().view(torch.uint8)


def unread_states(mask: Tensor, reset: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
    """Return the rows (B, 1) whose initial states no valid step reads, and those that hold them to the end.

    `mask` and `reset` are (T, B, 1). What stands in a state that is not read, be it infinite or NaN, must not come near
    a product: 0 * NaN is NaN in a weight's gradient.
    """
    if reset is None:
        unread = ~mask.any(0)
        return unread, unread
    started = walked(reset, reverse)
    return ~(mask & ~started).any(0), ~(mask | reset).any(0)


def walked(flags: Tensor, reverse: bool) -> Tensor:
    """Return, for flags (T, B, 1), whether the recurrence has come to one, at each step with its own."""
    seen = (flags.flip(0) if reverse else flags).cumsum(0) > 0
    return seen.flip(0) if reverse else seen


def settled(x: Tensor) -> Tensor:
    """Return `x` with its values in its memory, as code that takes addresses needs: no negation or zeros by a flag."""
    x = x.resolve_neg()
    return x.clone() if x._is_zerotensor() else x


def zero_padding(x: Tensor, mask: Tensor) -> Tensor:
    """Return `x` (T, B, N) with zeros outside the mask, whatever stood there (NaN included)."""
    return torch.where(mask, x, x.new_zeros(()))


def zero_rows(rows: Tensor, mask: Tensor) -> Tensor:
    """Return rows (R, N) on a CPU with zeros where the mask (R,) is not set, written into them: faster than
    `zero_padding`, and without gradients."""
    outside = (~mask).nonzero().squeeze(1)
    return rows.index_fill_(0, outside, 0) if len(outside) else rows


def work(x: Tensor) -> Tensor:
    """Return `x` in the dtype in which the recurrence is computed: fp32 for half precision, else its own."""
    return x.float() if x.dtype in HALF else x


def compact(a: Tensor) -> Tensor:
    """Return `a` (T, B, H) with a single step or row where all are the same by stride: (1 or T, 1 or B, H)."""
    for dim in (0, 1):
        if a.stride(dim) == 0 and a.shape[dim] > 1:
            a = a.narrow(dim, 0, 1)
    return a.resolve_conj().resolve_neg()


def rows(a: Tensor, shape: torch.Size) -> tuple[Tensor, tuple[int, int]]:
    """Return compact coefficients (1 or T, 1 or R, N), and R and N, for a sequence of shape (T, B, H)."""
    _, batch, hidden = shape
    if a.shape[1] < batch and a.shape[0] > 1:
        return a.contiguous(), (batch, hidden)
    # One step of coefficients is small: written out for all rows, the whole tile is one row.
    return a.expand(-1, batch, -1).reshape(-1, 1, batch * hidden), (1, batch * hidden)
