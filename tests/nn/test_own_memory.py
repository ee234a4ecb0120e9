"""What a call gives out is the caller's: no result shares memory with another, the arguments or the module."""

import itertools
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.nn import GatedCell, Recurrent
from rnnlab_kernels.cells.vocabulary import tanh
from tests.covering import few
from tests.nn.cases import build, every_kind, random_state
from tests.nn.plain import make
from tests.nn.research_equations import ALL, B, H, I, T

CPU_BACKENDS = ["reference", "eager", "fused"]
# One of each kind of chain, and all that are linear in their state.
NAMES = (
    "elman-identity",
    "indrnn-relu",
    "lstm-projected",
    "gru-reset-before",
    "layer-norm-lstm",
    "min-gru",
    "lru",
    "narx",
)
_INTERPRETED = [
    ("min-gru", "triton"),
    ("lstm-projected", "triton"),
    ("elman-identity", "step"),
    ("elman-identity", "sequence"),
    ("layer-norm-lstm", "sequence"),
]
_PAIRS = list(itertools.product((*NAMES, "handing", "opaque", "decay"), CPU_BACKENDS))
_FEW = ("handing", "layer-norm-lstm")  # each is compiled
# Cells and the backends that may run them.
runs = pytest.mark.parametrize(
    ("name", "backend"),
    [
        *few(_PAIRS, [pair for pair in _PAIRS if pair[1] != "fused" or pair[0] in _FEW], several=True),
        *(pytest.param(*pair, marks=pytest.mark.interpret) for pair in _INTERPRETED),
    ],
)


class Handing(GatedCell):
    """A cell that hands on what it was given: a gate and a state as they are."""

    gates, states, carried = ("a", "b"), ("h", "m", "n"), ("m", "n")

    @staticmethod
    def gates_fwd(gates, carried):
        return (tanh(gates[0]), gates[1], carried[1]), ()


class Line(NamedTuple):
    last: Tensor
    before: Tensor


class Delay(nn.Module):
    """A cell that is known by its forward alone and makes nothing new: its states are the last inputs."""

    input_size = hidden_size = I

    def initial_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> Line:
        return Line(*(torch.zeros(batch_size, I, device=device, dtype=dtype) for _ in range(2)))

    def forward(self, x_t: Tensor, state: Line) -> tuple[Tensor, Line]:
        return x_t, Line(x_t, state.last)


def leaves(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples and lists."""
    return [value] if isinstance(value, Tensor) else [leaf for each in value for leaf in leaves(each)]


def assert_own_memory(results: Any, *others: Any) -> None:
    """Write into each result in turn: no other tensor may change."""
    parts, rest = leaves(results), leaves(others)
    for k, part in enumerate(parts):
        watched = [*parts[:k], *parts[k + 1 :], *rest]
        expected = [each.detach().clone() for each in watched]
        with torch.no_grad():
            part.copy_(torch.randn(part.shape))
        assert all(torch.equal(now, then) for now, then in zip(watched, expected, strict=True)), f"result {k}"


def runs_on(layer: Recurrent, x: Tensor) -> bool:
    return "none (" not in rnnlab.nn.explain_backend(layer, x)


def cell_of(name: str, dtype: torch.dtype) -> Any:
    if name in ("opaque", "decay"):
        return make(name, I, H, dtype=dtype)
    if name == "handing":
        return Handing(I, H, dtype=dtype)
    kind, options = ALL[name]
    return kind(I, H, dtype=dtype, **options)


@runs
def test_results_of_any_cell(name, backend):
    dtype = torch.float64 if backend in ("reference", "eager") else torch.float32
    tried = 0
    for backwards in (False, True):
        options = {"go_backwards": backwards, "backend": backend}
        for num_steps, given in ((T, {}), (T, {"lengths": [T, 0]}), (1, {}), (T, {"reset": torch.ones(T, B).bool()})):
            layer = Recurrent(cell_of(name, dtype), return_all_states=True, **options)
            x = torch.randn(num_steps, B, I, dtype=dtype)
            if not runs_on(layer, x):
                continue
            start = layer.initial_state(B)
            assert_own_memory(layer(x, start, **given), x, start, list(layer.parameters()))
            tried += 1
    assert tried or backend != "reference"


def test_results_of_a_cell_known_by_its_forward():
    for given in ({}, {"lengths": [T, 0]}, {"clip_grad_step": 1.0}):
        layer = Recurrent(Delay(), return_all_states=True, **{k: v for k, v in given.items() if k != "lengths"})
        x, start = torch.randn(T, B, I), layer.initial_state(B)
        lengths = {"lengths": given["lengths"]} if "lengths" in given else {}
        assert_own_memory(layer(x, start, **lengths), x, start)


@pytest.mark.parametrize("name", [*NAMES, "handing"])
def test_results_of_a_step(name):
    cell = cell_of(name, torch.float64)
    x, start = torch.randn(B, I, dtype=torch.float64), cell.initial_state(B)
    assert_own_memory(cell(x, start), x, start, list(cell.parameters()))
    layer = Recurrent(cell)
    start = layer.initial_state(B)
    assert_own_memory(layer.step(x, start), x, start, list(cell.parameters()))


@every_kind
@pytest.mark.parametrize("backend", ["auto", *CPU_BACKENDS])
def test_results_of_torchs_layers(kind, backend):
    for both in (False, True):
        layer = build(rnnlab.nn, kind, I, H, 2, bidirectional=both, backend=backend)
        for num_steps, options in ((T, {}), (T, {"lengths": [T, 0]}), (1, {})):
            x, hx = torch.randn(num_steps, B, I), random_state(layer, B)
            assert_own_memory(layer(x, hx, **options), x, hx, list(layer.parameters()))
    layer = build(rnnlab.nn, kind, I, H, backend=backend)
    x, hx = torch.randn(B, I), random_state(layer, B)
    assert_own_memory(layer.step(x, hx), x, hx)


def test_states_that_are_carried_or_learned():
    layer = Recurrent(rnnlab.nn.MinGRUCell(I, H), stateful=True)
    x = torch.randn(T, B, I)
    assert_own_memory(layer(x), layer.get_carry())
    carry = ((torch.randn(B, H),),)
    layer.set_carry(carry)
    assert_own_memory(carry, layer.get_carry())
    learned = Recurrent(rnnlab.nn.MinGRUCell(I, H), learn_initial_state=True)
    assert_own_memory(learned.initial_state(1), list(learned.parameters()))
