"""Finite differences and second order: every route on the CPU passes both, the kernels say no in clear words."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

import rnnlab.nn
from tests.nn.cases import build, every_kind, named, pair, randn, random_state, states
from tests.tolerances import FLOAT64


def check_inputs(kind: str, backend: str, options: dict[str, Any]) -> tuple[Any, tuple[Tensor, ...]]:
    """A function of (x, states and weights) and small float64 leaves for gradcheck."""
    module = build(rnnlab.nn, kind, 2, 3, backend=backend, dtype=torch.float64, **options)
    names = [name for name, _ in module.named_parameters()]
    hx = random_state(module, 2)
    leaves = [randn(3, 2, 2), *states(hx), *(p.detach().clone() for p in module.parameters())]

    def function(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        count = len(states(hx))
        state = rest[:count] if kind == "LSTM" else rest[0]
        weights = dict(zip(names, rest[count:], strict=True))
        return tuple(named(functional_call(module, weights, (x, state))).values())

    return function, tuple(leaf.requires_grad_() for leaf in leaves)


CHECKED = [
    pytest.param(kind, options, id=f"{kind}-{name}")
    for kind in ("RNN_TANH", "GRU", "LSTM")
    for name, options in {
        "plain": {},
        "nobias": {"bias": False},
        "both": {"bidirectional": True},
        "layers": {"num_layers": 2},
        **({"proj": {"proj_size": 2}} if kind == "LSTM" else {}),
    }.items()
]


@pytest.mark.parametrize("kind, options", CHECKED)
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
def test_gradcheck(kind, options, backend):
    function, leaves = check_inputs(kind, backend, options)
    assert torch.autograd.gradcheck(function, leaves, fast_mode=bool(options))


@pytest.mark.parametrize("kind, options", CHECKED)
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
def test_gradgradcheck(kind, options, backend):
    function, leaves = check_inputs(kind, backend, options)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
@pytest.mark.parametrize("lengths", [None, [3, 0, 2]], ids=["full", "lengths"])
def test_double_backward_matches_torch(kind, backend, lengths):
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True, backend=backend)
    x, results = randn(3, 3, 3), []
    for module in (ours, theirs):
        leaf = x.clone().requires_grad_()
        if lengths is None:
            outputs = [module(leaf)[0]]
        elif module is ours:
            outputs = [module(leaf, lengths=torch.tensor(lengths))[0]]
        else:
            outputs = [module(leaf[:length, row])[0] for row, length in enumerate(lengths) if length]
        (gradient,) = torch.autograd.grad(sum(o.square().sum() for o in outputs), leaf, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), [leaf, *module.parameters()]))
    torch.testing.assert_close(*results, **FLOAT64)


@pytest.mark.interpret
@every_kind
def test_double_backward_of_kernels_names_the_reference(kind):
    module = build(rnnlab.nn, kind, 2, 3, backend="triton")
    x = torch.randn(3, 2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="backend=['\"]reference['\"]"):
        (gradient,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
        gradient.sum().backward()
