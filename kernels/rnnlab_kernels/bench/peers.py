"""Other people's kernels, where they are installed: none is a dependency, and none has been run on a GPU by us.

Each is called by its public functions, as FlashRNN 1.0.8 and TorchRL 0.14.1 have them. What stands here is a change of
layout, so that the check of every arm holds for them too. Both compile or tune for each size, for minutes at times.

T time, B batch, I inputs, H units, G gates, L layers.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from rnnlab_kernels.bench.work import MODULES, Given, Work

Run = Callable[[], Tensor]


class Unavailable(Exception):
    """This arm does not take this work here, for the reason given."""


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] != name.split(".")[0]:
            raise Unavailable(f"{name} cannot be imported: {error}") from error
        raise Unavailable("package is not installed") from error


def flashrnn(work: Work, given: Given, backend: str = "cuda_fused") -> Run:
    """Return one layer by FlashRNN, its input product by torch.

    The layout is that of its README: inputs (B, T, G, heads, H), weights (G, heads, H out, H in), biases (G, heads, H),
    states (S, B, 1, heads, H), results (S, B, T, heads, H). Gates of an LSTM are i f z o, torch's i f g o by other
    names. A GRU has three products and four biases, recurrent ones in the order n r z, those with inputs r z n, and
    n's two biases apart. Its module for the CPU ("vanilla") gives torch's results in this layout.
    """
    functions = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "elman"}
    if work.cell not in functions or work.feature:
        raise Unavailable("FlashRNN has no such layer")
    if work.layers > 1 or work.bidirectional or work.ragged:
        raise Unavailable("FlashRNN has one layer, one direction and no lengths")
    if work.dtype == "fp32" and not work.tf32 and given.x.is_cuda:
        raise Unavailable("FlashRNN multiplies float32 in TF32")
    run_cell = _imported("flashrnn").flashrnn
    own, hidden, num_gates = given.weights[0], work.H, MODULES[work.cell][1]
    dtype = str(given.x.dtype).removeprefix("torch.")
    num_states = len(given.states[0])
    state_0 = torch.stack(given.states[0]).view(num_states, work.B, 1, 1, hidden)

    def run() -> Tensor:
        x, bias_ih = given.inputs(), own.get("bias_ih")
        gates_x = linear(x, own["ih"]) if "ih" in own else x
        gates_x = gates_x.view(work.T, work.B, num_gates, 1, hidden).transpose(0, 1)
        weight = own["hh"].view(num_gates, 1, hidden, hidden)
        bias = own["bias_hh"] if bias_ih is None else own["bias_hh"] + bias_ih
        bias = bias.view(num_gates, 1, hidden)
        if work.cell == "gru":
            weight = torch.cat([weight[2:], weight[:2]])
            parts_h = own["bias_hh"].view(num_gates, 1, hidden)
            parts_x = torch.zeros_like(parts_h) if bias_ih is None else bias_ih.view(num_gates, 1, hidden)
            bias = torch.cat([parts_h[2:], bias[:2], parts_x[2:]])
        states, _ = run_cell(
            gates_x, weight, bias, states=state_0, function=functions[work.cell], backend=backend, dtype=dtype
        )
        return states[0].squeeze(2).transpose(0, 1)

    return run


def torchrl(work: Work, given: Given, backend: str = "triton") -> Run:
    """Return TorchRL's LSTMModule or GRUModule on its Triton kernels, which take resets but neither lengths nor halves.

    It takes a dictionary of (B, T, ...): observations, the states (B, T, L, H) that hold where `is_init` (B, T, 1) is
    set, and writes features (B, T, H). Weights are torch's. A reset of ours is its start of a trajectory, from zeros.
    """
    if work.cell not in ("lstm", "gru") or work.feature not in ("", "resets"):
        raise Unavailable("TorchRL has no such layer")
    if work.recurrence:
        raise Unavailable("TorchRL makes the input product, which is left out of this row")
    if work.bidirectional or work.ragged:
        raise Unavailable("TorchRL's kernels have one direction and no lengths")
    if given.x.dtype != torch.float32:
        raise Unavailable("TorchRL's kernels store float32")
    if backend == "triton" and not given.x.is_cuda:
        raise Unavailable("TorchRL's kernels run on a GPU")
    modules, tensordict = _imported("torchrl.modules"), _imported("tensordict")
    states = ("h", "c")[: len(given.states[0])]
    kind = "LSTM" if work.cell == "lstm" else "GRU"
    module = getattr(modules, f"{kind}Module")(
        work.I,
        work.H,
        work.layers,
        in_keys=["x", *states],
        out_keys=["y", *(("next", name) for name in states)],
        recurrent_backend=backend,
        recurrent_matmul_precision="tf32" if work.tf32 else "ieee",
        device=given.x.device,
    )
    names = ("ih", "hh", "bias_ih", "bias_hh")
    parameters = [dict(zip(names, own, strict=True)) for own in getattr(module, kind.lower()).all_weights]
    with torch.no_grad():
        for mine, own in zip(parameters, given.weights, strict=True):
            for name, parameter in mine.items():
                parameter.copy_(own[name])
    # The caller takes gradients of the leaves: these are now the module's parameters.
    for mine, own in zip(parameters, given.weights, strict=True):
        own.update(mine)
    reset = given.additions.reset
    shape = (work.B, work.T)
    device = given.x.device
    starts = torch.zeros(*shape, 1, dtype=torch.bool, device=device) if reset is None else reset.transpose(0, 1)
    fixed = {name: torch.zeros(*shape, work.layers, work.H, device=device) for name in states}
    fixed["is_init"] = starts.contiguous()

    def run() -> Tensor:
        batch = tensordict.TensorDict({"x": given.inputs().transpose(0, 1), **fixed}, shape)
        with modules.set_recurrent_mode(True):
            return module(batch)["y"].transpose(0, 1)

    return run


PEERS: dict[str, Callable[[Work, Given], Run]] = {"FlashRNN": flashrnn, "TorchRL, Triton": torchrl}
