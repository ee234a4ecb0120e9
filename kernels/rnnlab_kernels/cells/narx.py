"""NARX network (Lin et al., 1996, "Learning long-term dependencies in NARX recurrent neural networks"): the only memory
is tapped delay lines of past inputs and past outputs.

    h_t = tanh(W_0 x_t + W_1 x_{t-1} + ... + W_p x_{t-p} + R_1 y_{t-1} + ... + R_q y_{t-q} + b)
    y_t = V h_t + c

The delay lines are linear filters, here in their transposed form: instead of past inputs and outputs a step keeps what
they will add to the hidden units in k steps. With m = max(p, q), missing taps being zero:

    h_t     = tanh(W_0 x_t + b + s1_{t-1})
    y_t     = V h_t + c
    sk_t    = W_k x_t + R_k y_t + s(k+1)_{t-1}        k = 1 ... m, with s(m+1) = 0

So all products with x are done for all steps at once, a step is two products and two gate updates whatever p and q,
and resets, padding and the reverse direction need no thought. The states s1 ... sm (B, H) are zero where nothing came
before.

    DELAYED  h = tanh(a + s)         da = ds = dh * (1 - h^2); nothing saved
    taps(m)  sk = ak + s(k+1)        dak = dsk, ds(k+1)_{t-1} = dsk; derived (derive.py), nothing saved
"""

from functools import cache

from rnnlab_kernels.cells.bind import Cell
from rnnlab_kernels.cells.chain import Chain, Gates, Product, made_once
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import tanh, tanh_grad


def _delayed_fwd(gates, carried):
    (a,) = gates
    (s,) = carried
    return (tanh(a + s),), ()


def _delayed_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (h,) = state
    da = tanh_grad(dh, h)
    return (da,), (da,)


DELAYED = Cell("delayed", ("a",), ("h",), ("s",), (), 0, _delayed_fwd, _delayed_bwd)


def _taps_fwd(gates, carried):
    *first, last = gates
    return (*(a + s for a, s in zip(first, carried, strict=True)), last), ()


@cache
def taps(number: int) -> Cell:
    """Return the cell that moves `number` taps one step on."""
    states = tuple(f"s{k}" for k in range(1, number + 1))
    return derive(
        Cell(f"taps{number}", tuple(f"a{k}" for k in range(1, number + 1)), states, states[1:], (), 0, _taps_fwd)
    )


@made_once
def narx(number: int) -> Chain:
    """Return the chain with m = `number` taps. Weights: ih ((m+1)H, I), out (O, H), hh (m*H, O)."""
    cell = taps(number)
    return Chain(
        f"narx{number}",
        cell.states,
        (
            Gates(DELAYED, ("hidden",), ("s1_prev",)),
            Product("y", ("hidden",), "out", "bias_out"),
            Product("fed_back", ("y",), "hh"),
            Gates(cell, cell.states, tuple(f"{name}_prev" for name in cell.carried), "fed_back", first=1),
        ),
        "y",
    )
