"""The equations of the research cells, one step each, written out in plain torch on a cell's parameters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rnnlab.nn.cells import (
    CIFGCell,
    ElmanCell,
    GatedGRUCell,
    GatedLSTMCell,
    IndRNNCell,
    JordanCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormRNNCell,
    LRUCell,
    MinGRUCell,
    MinLSTMCell,
    NARXCell,
    PeepholeLSTMCell,
    SelectiveLRUCell,
    StateSpaceCell,
)

T, B, I, H, O = 5, 2, 3, 4, 2  # noqa: E741
Step = Callable[[Any, Tensor, Any], tuple[Tensor, tuple[Tensor, ...]]]
sig, tanh = torch.sigmoid, torch.tanh
ACTIVATION = {"tanh": tanh, "relu": torch.relu, "sigmoid": sig, "identity": lambda a: a, "sin": torch.sin}


def parts(cell: Any, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return W x + b_ih and R h + b_hh, each bias if there is one."""
    bias_ih, bias_hh = (getattr(cell, name, None) for name in ("bias_ih", "bias_hh"))
    return linear(x, cell.weight_ih, bias_ih), linear(h, cell.weight_hh, bias_hh)


def norm(a: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
    mean, variance = a.mean(-1, keepdim=True), a.var(-1, keepdim=True, unbiased=False)
    scaled = gain * (a - mean) / (variance + 1e-5).sqrt()
    return scaled if shift is None else scaled + shift


def elman(cell, x, state):
    a, b = parts(cell, x, state[0])
    name = "sin" if callable(cell.nonlinearity) else cell.nonlinearity
    h = ACTIVATION[name](a + b)
    return h, (h,)


def indrnn(cell, x, state):
    h = ACTIVATION[cell.nonlinearity](linear(x, cell.weight_ih, cell.bias_ih) + cell.u * state[0])
    return h, (h,)


def jordan(cell, x, state):
    (m,) = state
    a, b = parts(cell, x, m)
    h = ACTIVATION[cell.nonlinearity](a + b)
    y = ACTIVATION[cell.output_nonlinearity](linear(h, cell.weight_out, cell.bias_out))
    decay = cell.first_decay if cell.decay_logit is None else 1 / (1 + (-cell.decay_logit).exp())
    return y, (decay * m + (1 - decay) * y,)


def lstm(cell, x, state):
    h, c = state
    i, f, g, o = sum(parts(cell, x, h)).chunk(4, -1)
    c = sig(f) * c + sig(i) * tanh(g)
    h = sig(o) * tanh(c)
    if cell.weight_hr is not None:
        h = h @ cell.weight_hr.T
    return h, (h, c)


def cifg(cell, x, state):
    h, c = state
    f, g, o = sum(parts(cell, x, h)).chunk(3, -1)
    c = sig(f) * c + (1 - sig(f)) * tanh(g)
    h = sig(o) * tanh(c)
    return h, (h, c)


def peephole(cell, x, state):
    h, c = state
    i, f, g, o = sum(parts(cell, x, h)).chunk(4, -1)

    def seen(weight, value):
        return value @ weight.T if cell.dense else weight * value

    i, f = sig(i + seen(cell.peephole_i, c)), sig(f + seen(cell.peephole_f, c))
    c = f * c + i * tanh(g)
    h = sig(o + seen(cell.peephole_o, c)) * tanh(c)
    return h, (h, c)


def gru(cell, x, state):
    (h,) = state
    a, b = (part.chunk(3, -1) for part in parts(cell, x, h))
    r, z = sig(a[0] + b[0]), sig(a[1] + b[1])
    if cell.reset_after:
        n = tanh(a[2] + r * b[2])
    else:
        bias = 0 if getattr(cell, "bias_hh", None) is None else cell.bias_hh[2 * H :]
        n = tanh(a[2] + (r * h) @ cell.weight_hh[2 * H :].T + bias)
    h = (1 - z) * n + z * h
    return h, (h,)


def layer_norm_rnn(cell, x, state):
    h = ACTIVATION[cell.nonlinearity](norm(sum(parts(cell, x, state[0])), cell.gain, cell.shift))
    return h, (h,)


def normed_parts(cell, x, h):
    a, b = x @ cell.weight_ih.T, h @ cell.weight_hh.T
    bias_ih, bias_hh = (getattr(cell, name, None) for name in ("bias_ih", "bias_hh"))
    a = a if cell.gain_ih is None else norm(a, cell.gain_ih)
    b = b if cell.gain_hh is None else norm(b, cell.gain_hh)
    return a if bias_ih is None else a + bias_ih, b if bias_hh is None else b + bias_hh


def layer_norm_lstm(cell, x, state):
    h, c = state
    i, f, g, o = sum(normed_parts(cell, x, h)).chunk(4, -1)
    c = sig(f) * c + sig(i) * tanh(g)
    normed = c if cell.gain_c is None else norm(c, cell.gain_c, cell.shift_c)
    h = sig(o) * tanh(normed)
    return h, (h, normed if cell.norm_cell == "state" else c)


def layer_norm_gru(cell, x, state):
    a, b = (part.chunk(3, -1) for part in normed_parts(cell, x, state[0]))
    z = sig(a[1] + b[1])
    h = (1 - z) * tanh(a[2] + sig(a[0] + b[0]) * b[2]) + z * state[0]
    return h, (h,)


def state_space(cell, x, state):
    z = tanh(sum(parts(cell, x, state[0])))
    h = ACTIVATION[cell.nonlinearity](linear(z, cell.weight_transition, cell.bias_transition))
    first, _, last = cell.observation
    return linear(tanh(linear(h, first.weight, first.bias)), last.weight, last.bias), (h,)


def min_gru(cell, x, state):
    z, n = linear(x, cell.weight_ih, cell.bias_ih).chunk(2, -1)
    h = (1 - sig(z)) * state[0] + sig(z) * n
    return h, (h,)


def min_lstm(cell, x, state):
    f, i, n = linear(x, cell.weight_ih, cell.bias_ih).chunk(3, -1)
    f, i = sig(f), sig(i)
    h = f / (f + i) * state[0] + i / (f + i) * n
    return h, (h,)


def lru(cell, x, state):
    turn = linear(x, cell.weight_theta) if isinstance(cell, SelectiveLRUCell) else 0
    phase = cell.theta.exp() + turn
    eigenvalue = torch.exp(torch.complex((-cell.nu.exp()).expand_as(phase), phase))
    b, c = torch.complex(cell.b_real, cell.b_imag), torch.complex(cell.c_real, cell.c_imag)
    h = eigenvalue * state[0] + cell.gamma_log.exp() * (x.to(b.dtype) @ b.T)
    return (h @ c.T).real + x @ cell.d.T, (h,)


OPTIONS: dict[str, tuple[type[nn.Module], dict[str, Any], Step]] = {
    **{f"elman-{name}": (ElmanCell, {"nonlinearity": name}, elman) for name in ("tanh", "relu", "sigmoid", "identity")},
    "elman-own": (ElmanCell, {"nonlinearity": torch.sin}, elman),
    **{f"indrnn-{name}": (IndRNNCell, {"nonlinearity": name}, indrnn) for name in ("tanh", "relu", "identity")},
    "jordan": (JordanCell, {"output_size": O, "decay": 0.3}, jordan),
    "jordan-sigmoid-learned": (
        JordanCell,
        {"output_size": O, "nonlinearity": "sigmoid", "output_nonlinearity": "tanh", "decay": 0.7, "learnable": True},
        jordan,
    ),
    "jordan-last-output": (JordanCell, {"decay": 0.0, "nonlinearity": "relu"}, jordan),
    "lstm": (GatedLSTMCell, {}, lstm),
    "lstm-projected": (GatedLSTMCell, {"proj_size": O}, lstm),
    "cifg": (CIFGCell, {}, cifg),
    "peephole": (PeepholeLSTMCell, {}, peephole),
    "peephole-dense": (PeepholeLSTMCell, {"dense": True}, peephole),
    "gru": (GatedGRUCell, {}, gru),
    "gru-reset-before": (GatedGRUCell, {"reset_after": False}, gru),
    "layer-norm-rnn": (LayerNormRNNCell, {}, layer_norm_rnn),
    "layer-norm-rnn-relu": (LayerNormRNNCell, {"nonlinearity": "relu"}, layer_norm_rnn),
    "layer-norm-lstm": (LayerNormLSTMCell, {}, layer_norm_lstm),
    "layer-norm-lstm-state": (LayerNormLSTMCell, {"norm_cell": "state"}, layer_norm_lstm),
    "layer-norm-lstm-gates": (LayerNormLSTMCell, {"norm_cell": False}, layer_norm_lstm),
    "layer-norm-lstm-input": (LayerNormLSTMCell, {"norm_recurrent": False, "norm_cell": False}, layer_norm_lstm),
    "layer-norm-lstm-recurrent": (LayerNormLSTMCell, {"norm_input": False, "norm_cell": False}, layer_norm_lstm),
    "layer-norm-lstm-cell": (LayerNormLSTMCell, {"norm_input": False, "norm_recurrent": False}, layer_norm_lstm),
    "layer-norm-gru": (LayerNormGRUCell, {}, layer_norm_gru),
    "state-space": (
        StateSpaceCell,
        {"output_size": O, "transition_size": 5, "observation_size": 6},
        state_space,
    ),
    "state-space-identity": (StateSpaceCell, {"nonlinearity": "identity"}, state_space),
    "min-gru": (MinGRUCell, {}, min_gru),
    "min-lstm": (MinLSTMCell, {}, min_lstm),
    "lru": (LRUCell, {"output_size": O}, lru),
    "lru-selective": (SelectiveLRUCell, {"output_size": O}, lru),
}
NARX_OPTIONS = {"narx": {}, "narx-31": {"input_taps": 3}, "narx-02": {"input_taps": 0, "output_taps": 2}}
ALL = {
    **{name: (kind, options) for name, (kind, options, _) in OPTIONS.items()},
    **{name: (NARXCell, {"output_size": O, **options}) for name, options in NARX_OPTIONS.items()},
}


def narx_equations(cell: NARXCell, x: Tensor, past: Tensor | None = None) -> Tensor:
    """Return y for zeros before the first step; `past` (T, B, O) stands for the outputs fed back, if given."""
    weight_x, weight_y = cell.weight_ih.split(H), cell.weight_hh.split(H)
    outputs: list[Tensor] = []
    for t in range(len(x)):
        a = cell.bias_ih if cell.bias_ih is not None else 0
        for k, weight in enumerate(weight_x):
            a = a + (x[t - k] @ weight.T if t >= k else 0)
        for k, weight in enumerate(weight_y, start=1):
            fed = outputs if past is None else past
            a = a + (fed[t - k] @ weight.T if t >= k else 0)
        outputs.append(linear(tanh(a), cell.weight_out, cell.bias_out))
    return torch.stack(outputs)
