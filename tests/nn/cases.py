"""What the layer tests share: torch.nn's layer and rnnlab's with one set of weights, and runs of both by name.

Letters: T time, B batch, I input_size, H hidden_size, P proj_size, D directions, L layers, G gates per unit.
"""

import re
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import rnnlab.nn
from tests.tolerances import FLOAT64

KINDS = ("RNN_TANH", "RNN_RELU", "GRU", "LSTM")
CELLS = ("RNNCell_TANH", "RNNCell_RELU", "GRUCell", "LSTMCell")
SIZES = ((1, 1, 1, 1), (3, 2, 5, 7), (17, 3, 8, 63), (33, 5, 20, 100))  # (T, B, I, H)
OWN_BACKENDS = ("reference", "eager", "fused", pytest.param("triton", marks=pytest.mark.interpret))
BACKENDS = (*OWN_BACKENDS, "aten")

both_libraries = pytest.mark.parametrize("library", [nn, rnnlab.nn], ids=["torch", "rnnlab"])
# Where the nonlinearity cannot matter, the Elman network is tried with one of its two.
every_layer = pytest.mark.parametrize("kind", ["RNN_TANH", "GRU", "LSTM"])
every_kind = pytest.mark.parametrize("kind", KINDS)
every_cell = pytest.mark.parametrize("kind", CELLS)
every_size = pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "T{}-B{}-I{}-H{}".format(*sizes))

Run = tuple[dict[str, Tensor], dict[str, Tensor]]


def build(library: ModuleType, kind: str, *args: Any, **kwargs: Any) -> Any:
    """Construct a layer or a cell of torch.nn or rnnlab.nn; RNN_RELU stands for RNN(nonlinearity='relu')."""
    name, _, nonlinearity = kind.partition("_")
    if nonlinearity:
        kwargs.setdefault("nonlinearity", nonlinearity.lower())
    return getattr(library, name)(*args, **kwargs)


def working_dtype(backend: str) -> torch.dtype:
    """The precision in which a backend is compared: float64, but for the kernels, which stop at float32."""
    return torch.float32 if backend in ("triton", "fused") else torch.float64


def tolerance(backend: str) -> dict[str, float]:
    """The tolerance that goes with `working_dtype`; assert_close's own for float32."""
    return {} if backend in ("triton", "fused") else FLOAT64


def randn(*shape: int, backend: str = "auto") -> Tensor:
    """Draw normal numbers in the dtype in which the backend is compared."""
    return torch.randn(*shape, dtype=working_dtype(backend))


def pair(kind: str, *args: Any, backend: str = "auto", dtype: torch.dtype | None = None, **kwargs: Any) -> Any:
    """Construct rnnlab's module and torch's with one set of weights, in `working_dtype` unless told otherwise."""
    dtype = dtype or working_dtype(backend)
    ours = build(rnnlab.nn, kind, *args, dtype=dtype, backend=backend, **kwargs)
    theirs = build(nn, kind, *args, dtype=dtype, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def layer_options(kind: str) -> list[dict[str, Any]]:
    """All of layers 1-2, one or both directions, bias or none, and for the LSTM a projection or none."""
    return [
        {
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "bias": bias,
            **({"proj_size": proj} if proj else {}),
        }
        for num_layers in (1, 2)
        for bidirectional in (False, True)
        for bias in (True, False)
        for proj in ((0, 3) if kind == "LSTM" else (0,))
    ]


def label(options: dict[str, Any]) -> str:
    """Name a set of options in a test id."""
    words = [f"layers{options['num_layers']}"]
    words += ["both" if options["bidirectional"] else "forward", "bias" if options["bias"] else "nobias"]
    words += [f"proj{options['proj_size']}"] if "proj_size" in options else []
    return "-".join(words)


KINDS_AND_OPTIONS = [
    pytest.param(kind, options, id=f"{kind}-{label(options)}") for kind in KINDS for options in layer_options(kind)
]


def random_state(module: Any, batch: int | None) -> Any:
    """Draw a state in the form of hx: (D*L, B, H), or (D*L, H) where batch is None; a pair for the LSTM."""
    rows = module.num_layers * (2 if module.bidirectional else 1)
    middle = () if batch is None else (batch,)
    dtype = module.weight_ih_l0.dtype
    hidden = torch.randn(rows, *middle, module.proj_size or module.hidden_size).to(dtype)
    if module.mode != "LSTM":
        return hidden
    return hidden, torch.randn(rows, *middle, module.hidden_size).to(dtype)


def random_cell_state(kind: str, batch: int | None, hidden_size: int, dtype: torch.dtype = torch.float64) -> Any:
    """Draw a state of a cell: (B, H), or (H,) where batch is None; a pair for LSTMCell."""
    shape = (hidden_size,) if batch is None else (batch, hidden_size)
    hidden = torch.randn(shape).to(dtype)
    return (hidden, torch.randn(shape).to(dtype)) if kind == "LSTMCell" else hidden


def states(hx: Any) -> tuple[Tensor, ...]:
    """Return the tensors of a state, whichever its form; none for None."""
    if hx is None:
        return ()
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def map_state(function: Any, hx: Any) -> Any:
    """Apply a function to each tensor of a state and keep the form."""
    if hx is None or isinstance(hx, Tensor):
        return hx if hx is None else function(hx)
    return tuple(function(tensor) for tensor in hx)


def named(result: Any) -> dict[str, Tensor]:
    """Name what a layer returned: output, h_n and, for the LSTM, c_n."""
    output, hx = result
    output = output.data if isinstance(output, PackedSequence) else output
    return {"output": output, **dict(zip(("h_n", "c_n"), states(hx), strict=False))}


def upstream_for(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Draw an upstream gradient for each value; equal shapes get equal numbers in either library."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        for name, value in values.items()
    }


def run(module: Any, x: Any, hx: Any = None, into: tuple[str, ...] = ("output", "h_n", "c_n"), **kwargs: Any) -> Run:
    """Run a layer forward, and backward from random gradients of the outputs named in `into`.

    Returns:
        The outputs by name, and the gradients of input, h_0, c_0 and each parameter by name (zeros for None).
    """
    module.zero_grad(set_to_none=True)
    packed = isinstance(x, PackedSequence)
    data = (x.data if packed else x).detach().clone().requires_grad_()
    hx = map_state(lambda tensor: tensor.detach().clone().requires_grad_(), hx)
    values = named(module(x._replace(data=data) if packed else data, hx, **kwargs))
    upstream = upstream_for(values)
    chosen = [name for name in into if name in values]
    torch.autograd.backward([values[name] for name in chosen], [upstream[name] for name in chosen])
    leaves = {"input": data, **dict(zip(("h_0", "c_0"), states(hx), strict=False)), **dict(module.named_parameters())}
    gradients = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()}
    return {name: value.detach() for name, value in values.items()}, gradients


def assert_same_run(actual: Run, expected: Run, **tolerance: float) -> None:
    """Compare two runs, each output and each gradient under its own name."""
    for actual_part, expected_part, what in zip(actual, expected, ("value", "gradient"), strict=True):
        assert actual_part.keys() == expected_part.keys()
        for name in expected_part:
            torch.testing.assert_close(
                actual_part[name],
                expected_part[name],
                msg=lambda text, what=what, name=name: f"{what} of {name}: {text}",
                **tolerance,
            )


def zeros(kind: str, *shape: int, **kwargs: Any) -> Any:
    """A state of zeros in the form that the kind takes."""
    state = torch.zeros(*shape, **kwargs)
    return (state, state.clone()) if kind.startswith("LSTM") else state


def raises(error: type[Exception], message: str) -> Any:
    """Expect an exception whose text begins with these words."""
    return pytest.raises(error, match=f"^{re.escape(message)}")
