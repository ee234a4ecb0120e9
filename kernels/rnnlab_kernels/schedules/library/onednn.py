"""oneDNN's LSTM layer, which is what torch.nn.LSTM runs on a CPU, as an operator that torch.compile takes as it is.

All of time is one call of a library that nothing here beats in float32 (kernels/README.md, "CPU layers"). In eager mode
torch calls it for whole stacks; torch.compile cannot take that call, so here it is for one layer and direction.

T time, B batch, H units.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnnlab_kernels.cells import CELLS, Cell
from rnnlab_kernels.cells.chain import Chain, as_chain
from rnnlab_kernels.schedules import node
from rnnlab_kernels.schedules.additions import PLAIN, Additions
from rnnlab_kernels.schedules.engines import Call, Engine, Kept, Tensors
from rnnlab_kernels.schedules.layout import Weights, named_weights

_CHAIN = as_chain(CELLS["lstm"])
_LSTM = 2  # in oneDNN's numbering of cells


class OneDNN(Engine):
    """Inputs: x, weights ih, hh, bias_ih, bias_hh, then h_0 and c_0 (B, H).

    For backward it keeps its results and a workspace, of a size that only oneDNN knows. Backward writes into scratch
    in it, not into what it reads: a second one gives the same.
    """

    keeps_results = True

    def num_results(self, call: Call) -> int:
        return 3

    def _options(self, inputs: Tensors) -> tuple[Any, ...]:
        """Return mode, H, number of layers, whether there are biases, and whether it is bidirectional."""
        return _LSTM, inputs[-1].shape[1], 1, True, False

    def forward(self, call: Call, inputs: Tensors) -> tuple[list[Tensor], Kept]:
        if not inputs[0].shape[1]:  # no rows, which oneDNN refuses
            x, h_0, c_0 = inputs[0], inputs[-2], inputs[-1]
            results = [x.new_empty(*x.shape[:2], h_0.shape[1]), h_0.clone(), c_0.clone()]
            return results, [x.new_empty(0, dtype=torch.uint8)]
        given = [tensor.detach().contiguous() for tensor in inputs]
        layer = torch.ops.aten.mkldnn_rnn_layer.default
        with torch.set_grad_enabled(call.keep):  # this, not its argument, tells oneDNN to fill a workspace
            y, h_n, c_n, workspace = layer(*given, bool(call.reverse), [], *self._options(inputs), False, call.keep)
        return [y, h_n.clone(), c_n], [workspace]

    def fake(self, call: Call, inputs: Tensors) -> list[Tensor]:
        x, h_0, c_0 = inputs[0], inputs[-2], inputs[-1]
        found = [x.new_empty(*x.shape[:2], h_0.shape[1]), h_0.new_empty(h_0.shape), c_0.new_empty(c_0.shape)]
        if call.keep:
            found.append(x.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.uint8))
        return found

    def backward(
        self, call: Call, inputs: Tensors, kept: Kept, grads: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        y, h_n, c_n, workspace = kept
        if not inputs[0].shape[1]:
            return [None] * len(inputs)
        given = [tensor.contiguous() for tensor in inputs]
        upstream = [None if grad is None else grad.contiguous() for grad in grads]
        mode, hidden, layers, biases, both_ways = self._options(inputs)
        return torch.ops.aten.mkldnn_rnn_layer_backward.default(
            *(*given, y, h_n, c_n, *upstream),
            *(bool(call.reverse), mode, hidden, layers, biases, True, both_ways, [], False, workspace),
        )


def onednn(
    cell: Cell | Chain,
    x: Tensor,
    state_0: tuple[Tensor, ...],
    weights: Weights | Mapping[str, Tensor],
    mask: Tensor | None = None,
    *,
    reverse: bool = False,
    additions: Additions = PLAIN,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run an LSTM layer in one direction, float32 on a CPU. Arguments and results as in `kit_torch.eager`.

    Raises:
        ValueError: another cell, a projection, a mask, or additions.
    """
    chain, named = named_weights(cell, weights)
    if chain.key != _CHAIN.key or mask is not None or additions != PLAIN:
        raise ValueError("oneDNN runs a plain LSTM over full rows")
    zeros = x.new_zeros(4 * state_0[0].shape[1])
    biases = [named.get(name, zeros) for name in ("bias_ih", "bias_hh")]
    tensors = [x, named["ih"], named["hh"], *biases, *state_0]
    output, h_n, c_n = node.run(Call("onednn", reverse=reverse), *tensors)
    return output, (h_n, c_n)
