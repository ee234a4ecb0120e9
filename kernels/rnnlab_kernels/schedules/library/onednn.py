"""oneDNN's LSTM layer, which is what torch.nn.LSTM runs on a CPU, as an operator that torch.compile takes as it is.

All of time is one call of a library that nothing here beats in float32 (kernels/README.md, "CPU layers"). In eager mode
torch calls it for whole stacks; torch.compile cannot take that call, so here it is for one layer and direction.

T time, B batch, H units.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels import ops
from rnnlab_kernels.cells import CELLS, Cell
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.schedules.additions import PLAIN, Walk
from rnnlab_kernels.schedules.layout import Weights, named_weights

_CHAIN = as_chain(CELLS["lstm"])
_LSTM = 2  # in oneDNN's numbering of cells
Tensors = Sequence[Tensor]


class OneDNN:
    """Engine of ops.py. Tensors: x, weights ih, hh, bias_ih, bias_hh, then h_0 and c_0 (B, H).

    For backward it keeps its results and a workspace, of a size that only oneDNN knows. Backward writes into scratch
    in it, not into what it reads: a second one gives the same.
    """

    keeps_results = True

    def num_results(self, config: Any) -> int:
        return 3

    def _options(self, tensors: Tensors) -> tuple[Any, ...]:
        """Return mode, H, number of layers, whether there are biases, and whether it is bidirectional."""
        return _LSTM, tensors[-1].shape[1], 1, True, False

    def forward(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        (reverse,) = config
        if not tensors[0].shape[1]:  # no rows, which oneDNN refuses
            x, h_0, c_0 = tensors[0], tensors[-2], tensors[-1]
            results = [x.new_empty(*x.shape[:2], h_0.shape[1]), h_0.clone(), c_0.clone()]
            return [*results, *([x.new_empty(0, dtype=torch.uint8)] if keep else [])]
        inputs = [tensor.contiguous() for tensor in tensors]
        layer = torch.ops.aten.mkldnn_rnn_layer.default
        with torch.set_grad_enabled(keep):  # this, not its argument, tells oneDNN to fill a workspace
            y, h_n, c_n, workspace = layer(*inputs, reverse, [], *self._options(tensors), False, keep)
        return [y, h_n.clone(), c_n, *([workspace] if keep else [])]

    def fake(self, config: Any, tensors: Tensors, keep: bool) -> list[Tensor]:
        x, h_0, c_0 = tensors[0], tensors[-2], tensors[-1]
        found = [x.new_empty(*x.shape[:2], h_0.shape[1]), h_0.new_empty(h_0.shape), c_0.new_empty(c_0.shape)]
        if keep:
            found.append(x.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.uint8))
        return found

    def backward(
        self, config: Any, tensors: Tensors, kept: Tensors, grads: list[Tensor | None], needed: list[bool]
    ) -> list[Tensor | None]:
        (reverse,), (y, h_n, c_n, workspace) = config, kept
        if not tensors[0].shape[1]:
            return [None] * len(tensors)
        inputs = [tensor.contiguous() for tensor in tensors]
        upstream = [None if grad is None else grad.contiguous() for grad in grads]
        mode, hidden, layers, biases, both_ways = self._options(tensors)
        found = torch.ops.aten.mkldnn_rnn_layer_backward.default(
            *(*inputs, y, h_n, c_n, *upstream),
            *(reverse, mode, hidden, layers, biases, True, both_ways, [], False, workspace),
        )
        return [grad.clone(memory_format=torch.contiguous_format) for grad in found]


ops.ENGINES["onednn"] = OneDNN()


def onednn(
    cell: Cell | Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    walk: Walk = PLAIN,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run an LSTM layer in one direction, float32 on a CPU. Arguments and results as in `schedules.eager.eager`.

    Raises:
        ValueError: another cell, a projection, a mask, or additions to the walk.
    """
    chain, named = named_weights(cell, weights)
    if chain.key != _CHAIN.key or mask is not None or walk != PLAIN:
        raise ValueError("oneDNN runs a plain LSTM over full rows")
    zeros = x.new_zeros(4 * state_0[0].shape[1])
    biases = [named.get(name, zeros) for name in ("bias_ih", "bias_hh")]
    tensors = [x, named["ih"], named["hh"], *biases, *state_0]
    output, h_n, c_n, *_ = ops.call("onednn", ops.encoded(reverse), tensors)
    return output, (h_n, c_n)
