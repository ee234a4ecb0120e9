"""Cells of one's own: learnable constants on every backend, and mistakes are told when the class is made."""

import pytest
import torch
from torch import nn

from rnnlab.nn import GatedCell, Recurrent
from rnnlab.nn.cells.base import ChainCell, gate_weights
from rnnlab_kernels.cells.chain import Chain, Gates, Product
from rnnlab_kernels.cells.lstm import LSTM
from rnnlab_kernels.cells.vocabulary import abs, sigmoid, tanh, where
from tests.kernels.problems import assert_within_ratio
from tests.tolerances import EPS, FLOAT64, RATIO


class Threshold(GatedCell):
    """A state that is handed on by a rate of each unit; c counts what passes a threshold of each unit."""

    gates, states, carried, constants = ("n",), ("h", "c"), ("c",), ("rate", "level")

    @staticmethod
    def gates_fwd(gates, carried):
        (n,) = gates
        c_prev, rate, level = carried
        c = sigmoid(rate) * c_prev + where(abs(n) > level, n, 0.1 * n)
        return (tanh(c) * level, c), ()


def outcome(cell, x, backend):
    y, (last,) = Recurrent(cell, backend=backend)(x, lengths=[4, 2, 5])
    return y, *torch.autograd.grad(y.square().sum() + last.c.sum(), (x, *cell.parameters()))


def test_constants_are_parameters_with_gradients():
    cell = Threshold(3, 4, dtype=torch.float64)
    assert [name for name, _ in cell.named_parameters()][-2:] == ["rate", "level"] and cell.rate.shape == (4,)
    x = torch.randn(5, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(outcome(cell, x, "eager"), outcome(cell, x, "reference"), **FLOAT64)
    layer = Recurrent(cell, num_layers=2, bidirectional=True)
    assert sum(name.endswith("rate") for name, _ in layer.named_parameters()) == 4


@pytest.mark.parametrize(
    "backend",
    ["fused", *(pytest.param(name, marks=pytest.mark.interpret) for name in ("triton", "step", "sequence"))],
)
def test_constants_on_each_backend(backend):
    if backend == "fused":
        pytest.importorskip("numba")
    cell = Threshold(3, 4)
    exact = Threshold(3, 4, dtype=torch.float64)
    exact.load_state_dict(cell.state_dict())
    x = torch.randn(5, 3, 3, requires_grad=True)
    expected = outcome(exact, x.detach().double().requires_grad_(), "reference")
    names = ("output", "x", *(name for name, _ in cell.named_parameters()))
    found, same_dtype = outcome(cell, x, backend), outcome(cell, x, "reference")
    for name, *values in zip(names, found, same_dtype, expected, strict=True):
        assert_within_ratio(*values, name, RATIO, EPS[torch.float32])


def two(gates, carried):
    z, n = gates
    (h_prev,) = carried
    return (sigmoid(z) * h_prev + tanh(n),), ()


def declare(**changes):
    """Make a class of two gates with something changed."""
    given = {"gates": ("z", "n"), "carried": ("h",), "gates_fwd": two, **changes}
    return type("Odd", (GatedCell,), {k: staticmethod(v) if callable(v) else v for k, v in given.items()})


def bwd(dgates, dcarried):
    return lambda dstate, saved, carried, state: ((dstate[0],) * dgates, (dstate[0],) * dcarried)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"gates": "z"}, TypeError, r"gates of 'Odd' must be a tuple of names, got: 'z': with a comma, \('z',\)"),
        ({"states": ["h"]}, TypeError, r"states of 'Odd' must be a tuple of names, got: \['h'\]"),
        ({"gates": ("z", "z")}, ValueError, "gates of 'Odd' must be different names, got 'z' twice"),
        ({"carried": ("c",)}, ValueError, r"carried of 'Odd' has 'c', which is neither a state \(h\) nor a constant"),
        ({"carried": ("h", "u")}, ValueError, "has 'u', which is neither"),
        ({"states": ("c", "h")}, ValueError, "states of 'Odd' must begin with 'h'"),
        ({"states": ("h", "c")}, ValueError, "'c' of 'Odd' must be in carried"),
        ({"split": 3}, ValueError, "split of 'Odd' must be between 0 and 2, got: 3"),
        ({"constants": "u"}, TypeError, "constants of 'Odd' must be a tuple"),
        ({"constants": ("weight_hh",)}, ValueError, "constants of 'Odd' has 'weight_hh', which cannot be the name"),
        ({"constants": ("h",)}, ValueError, "constants of 'Odd' has 'h'"),
        ({"constants": ("forward",)}, ValueError, "constants of 'Odd' has 'forward'"),
        ({"gates": ("z",)}, TypeError, "gates_fwd of 'Odd': not enough values .*; its gates are z; carried are h"),
        ({"gates": ("z", "r", "n")}, TypeError, "gates_fwd of 'Odd': too many values .* its gates are z, r, n"),
        ({"constants": ("u",)}, TypeError, "too many values .* carried are h, u"),
        ({"gates_fwd": lambda gates, carried: ((gates[2],), ())}, TypeError, "gates_fwd of 'Odd': tuple index out"),
        ({"gates_fwd": lambda gates, carried: gates[0]}, TypeError, r"gates_fwd of 'Odd' must return \(state, saved\)"),
        ({"gates_fwd": lambda gates, carried: (gates, ())}, TypeError, r"each of the states \(h\), not 2"),
        ({"gates_fwd": lambda gates: ((gates[0],), ())}, TypeError, r"must take \(gates, carried\), not \(gates\)"),
        ({"gates_fwd": lambda gates, carried: ((gelu(gates[0]),), ())}, TypeError, "'Odd': .*gelu, which is not def"),  # noqa: F821
        (
            {"gates_fwd": lambda gates, carried: ((torch.tanh(gates[0]),), ())},
            TypeError,
            r"torch's tanh \(nearest: tanh",
        ),
        ({"gates_fwd_dropped": two}, TypeError, "gates_fwd of 'Odd_dropped': too many values .* carried are h, mask"),
        ({"gates_bwd": bwd(2, 1), "saved": ("z",)}, TypeError, r"each of the saved \(z\), not 0"),
        ({"gates_bwd": bwd(1, 1)}, TypeError, r"gates_bwd of 'Odd' must return .* each of its gates \(z, n\), not 1"),
        ({"gates_bwd": bwd(2, 0)}, TypeError, r"each of its carried \(h\), not 0"),
        ({"gates_bwd": lambda dstate, saved: ()}, TypeError, r"must take \(dstate, saved, carried, state\), not \("),
    ],
    ids=lambda value: None if isinstance(value, type) else str(value)[:40],
)
def test_mistakes_are_told_when_the_class_is_made(changes, error, message):
    declare()
    with pytest.raises(error, match=message):
        declare(**changes)


def test_functions_that_are_not_static():
    with pytest.raises(
        TypeError, match=r"gates_fwd of 'Odd' must take \(gates, carried\), as a @staticmethod, not \(self, "
    ):
        type("Odd", (GatedCell,), {"gates": ("n",), "gates_fwd": lambda self, gates, carried: ((tanh(gates[0]),), ())})
    with pytest.raises(TypeError, match="in a class a @staticmethod, not a method"):
        type("Odd", (GatedCell,), {"gates": ("n",), "gates_fwd": classmethod(lambda cls, gates, carried: None)})


def test_a_gradient_by_hand_goes_with_its_own_forward():
    by_hand = declare(gates_bwd=lambda dstate, saved, carried, state: ((dstate[0],) * 2, (dstate[0],)))

    class Other(by_hand):
        @staticmethod
        def gates_fwd(gates, carried):
            return (carried[0] * gates[0] + tanh(gates[1]),), ()

    assert by_hand.chain.stages[-1].cell.gates_bwd is by_hand.gates_bwd
    assert Other.chain.stages[-1].cell.gates_bwd is not by_hand.gates_bwd
    only = type("Only", (declare(),), {"gates_bwd": staticmethod(by_hand.gates_bwd)})
    assert only.chain.stages[-1].cell.gates_bwd is by_hand.gates_bwd


STAGES = (Product("recurrent", ("h_prev",), "hh"), Gates(LSTM, ("h", "c"), ("c_prev",), "recurrent"))


@pytest.mark.parametrize(
    ("states", "stages", "message"),
    [
        (("h",), STAGES, r"chain 'odd': the stage that writes h, c reads 'c_prev'; there is h_prev, recurrent"),
        (("h", "c"), STAGES[1:], "reads 'recurrent'"),
        (("h", "m"), (STAGES[0], Gates(LSTM, ("h", "x"), ("m_prev",), "recurrent")), "what a step gives out reads 'm'"),
        (
            ("h", "c"),
            (STAGES[0], Gates(LSTM, ("h",), ("c_prev",), "recurrent")),
            r"out of the gate update 'lstm' .*\('h',",
        ),
        (("h", "c"), (STAGES[0], Gates(LSTM, ("h", "c"), (), "recurrent")), r"carried of the gate update 'lstm'"),
    ],
)
def test_chains_name_a_value_that_nothing_writes(states, stages, message):
    with pytest.raises(ValueError, match=message):
        Chain("odd", states, stages)


def test_weights_that_a_chain_needs_are_named_when_a_layer_is_made():
    class Lacking(ChainCell):
        chain = Threshold.chain

        def __init__(self, shape):
            super().__init__(3, 4)
            self.weight_ih, self.weight_hh = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(4, 4))
            self.rate, self.level = nn.Parameter(torch.zeros(4)), shape and nn.Parameter(torch.zeros(shape))

        def kernel_weights(self):
            return gate_weights(self) | {"rate": self.rate} | ({} if self.level is None else {"level": self.level})

    with pytest.raises(TypeError, match="the chain of Lacking needs 'level'; its kernel_weights has ih, hh, rate"):
        Recurrent(Lacking(None))
    with pytest.raises(TypeError, match=r"'level' of Lacking must be a vector \(H,\), got shape \(4, 1\)"):
        Recurrent(Lacking((4, 1)))
    Recurrent(Lacking((4,)))
