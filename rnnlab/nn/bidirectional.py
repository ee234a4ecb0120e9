"""Both directions of time: how their outputs are merged, and a wrapper of any two layers.

Letters: T time, B batch, F features.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnlab.nn import checks
from rnnlab.nn.cells.protocol import reset_parameters

MERGES = ("concat", "sum", "mul", "mean", "none")


def check_merge(merge: object) -> str:
    """Return `merge` if it is one of `MERGES`.

    Raises:
        ValueError: it is not.
    """
    if merge not in MERGES:
        raise ValueError(f"Unknown merge {merge!r}. Select from {', '.join(map(repr, MERGES))}.")
    return str(merge)


def merge_outputs(outputs: Sequence[Tensor], merge: str) -> Tensor:
    """Return the outputs (..., F) of the directions as one: (..., 2*F) for "concat" and "none", else (..., F)."""
    if len(outputs) == 1:
        return outputs[0]
    forward, backward = outputs
    if merge == "sum":
        return forward + backward
    if merge == "mul":
        return forward * backward
    if merge == "mean":
        return (forward + backward) / 2
    return torch.cat([forward, backward], -1)


class Bidirectional(nn.Module):
    """Two layers, one of which reads each sequence from its end.

    Any two layers that are called as rnnlab.nn.LSTM or torch.nn.LSTM are will do; `lengths`, `mask` and `reset` are
    passed on to layers that take them.

    Args:
        layer: reads forwards. Its `batch_first`, if it has one, holds for both.
        backward_layer: reads backwards; None for a copy of `layer` with parameters of its own.
        merge: of the two outputs: "concat", "sum", "mul", "mean", or "none" for a tuple of both.

    Raises:
        ValueError: an unknown `merge`, layers of different layouts, or one that goes both ways or backwards already, is
            stateful, or returns all states.

    Example:
        >>> import torch, rnnlab.nn
        >>> both = Bidirectional(rnnlab.nn.GRU(3, 4), merge="sum")
        >>> output, (forward, backward) = both(torch.zeros(5, 2, 3), lengths=torch.tensor([5, 2]))
        >>> output.shape
        torch.Size([5, 2, 4])
    """

    def __init__(self, layer: nn.Module, backward_layer: nn.Module | None = None, merge: str = "concat") -> None:
        super().__init__()
        self.merge = check_merge(merge)
        if backward_layer is None:
            backward_layer = copy.deepcopy(layer)
            reset_parameters(backward_layer)
        for each in (layer, backward_layer):
            if getattr(each, "bidirectional", False) or getattr(each, "go_backwards", False):
                raise ValueError(
                    f"{type(each).__name__} reads backwards already: give layers of one direction, forwards"
                )
            for option in ("stateful", "return_all_states"):
                if getattr(each, option, False):
                    raise ValueError(f"Bidirectional takes no layer with {option}=True, got: {type(each).__name__}")
        self.batch_first = bool(getattr(layer, "batch_first", False))
        if bool(getattr(backward_layer, "batch_first", False)) != self.batch_first:
            raise ValueError("both layers should have the same batch_first")
        self.layer, self.backward_layer = layer, backward_layer

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Any = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Any, tuple[Any, Any]]:
        """Run both layers.

        Args:
            input: (T, B, F), or (B, T, F) with batch_first, or unbatched (T, F), or a PackedSequence.
            hx: the initial states of the two layers, in the form of each; None for their own default.
            lengths: (B,) integers, steps of each row: the backward layer starts at each row's own end.
            mask: boolean (T, B), or (B, T) with batch_first: steps that count, in any pattern.
            reset: boolean, of that shape: a new sequence starts at these steps; nothing flows across, either way.

        Returns:
            output, merged, the backward half aligned in time with the forward one; and both final states.
        """
        hx_forward, hx_backward = (None, None) if hx is None else hx
        if isinstance(input, PackedSequence):
            if any(option is not None for option in (lengths, mask, reset)):
                raise ValueError("lengths, mask and reset go with padded input; a PackedSequence brings its lengths")
            output, final = self.layer(input, hx_forward)
            output_back, final_back = self.backward_layer(_reversed_packed(input), hx_backward)
            output_back = _reversed_packed(output_back)
            data = [packed.data for packed in (output, output_back)]
            if self.merge == "none":
                return (output, output_back), (final, final_back)
            return output._replace(data=merge_outputs(data, self.merge)), (final, final_back)

        dim = 1 if self.batch_first and input.dim() == 3 else 0
        ends = None
        if lengths is not None:
            if input.dim() != 3:
                raise ValueError("lengths go with batched input (T, B, F), got an unbatched one")
            ends = checks.check_lengths(lengths, input.shape[1 - dim], input.shape[dim], input.device).unsqueeze(dim)
        order, valid = _reversing_order(input, ends, dim)
        if reset is not None and valid is not None:
            reset = reset & valid
        options = {"lengths": lengths, "mask": mask, "reset": reset}
        output, final = self.layer(input, hx_forward, **{k: v for k, v in options.items() if v is not None})
        if mask is not None:
            options["mask"] = _reorder(mask, order, dim)
        if reset is not None:
            # A sequence that starts at t is reversed into one that ends there: the next one starts a step later.
            starts = _reorder(reset, order, dim).narrow(dim, 0, input.shape[dim] - 1)
            starts = torch.cat([torch.zeros_like(reset.narrow(dim, 0, 1)), starts], dim)
            options["reset"] = starts if valid is None else starts & valid
        output_back, final_back = self.backward_layer(
            _reorder(input, order, dim), hx_backward, **{k: v for k, v in options.items() if v is not None}
        )
        outputs = (output, _reorder(output_back, order, dim))
        merged = outputs if self.merge == "none" else merge_outputs(outputs, self.merge)
        return merged, (final, final_back)

    def extra_repr(self) -> str:
        return f"merge={self.merge!r}"


def _reversing_order(input: Tensor, ends: Tensor | None, dim: int) -> tuple[Tensor | None, Tensor | None]:
    """Return, for each step, the one to put there, and which steps are no padding, which stays where it is.

    `ends` are the lengths, (1, B) or (B, 1). None for both without them: a plain flip.
    """
    if ends is None:
        return None, None
    steps = torch.arange(input.shape[dim], device=input.device).unsqueeze(1 - dim)
    return torch.where(steps < ends, ends - 1 - steps, steps), steps < ends


def _reorder(x: Tensor, order: Tensor | None, dim: int) -> Tensor:
    if order is None:
        return x.flip(dim)
    return x.gather(dim, (order if x.dim() == 2 else order.unsqueeze(-1)).expand_as(x))


def _reversed_packed(packed: PackedSequence) -> PackedSequence:
    x, lengths = pad_packed_sequence(packed._replace(sorted_indices=None, unsorted_indices=None))
    order, _ = _reversing_order(x, lengths.to(x.device).unsqueeze(0), 0)
    data = pack_padded_sequence(_reorder(x, order, 0), lengths).data
    return packed._replace(data=data)
