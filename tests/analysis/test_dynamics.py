"""States as vectors: the maps are those of the modules, and their derivatives autograd's."""

import pytest
import torch

import rnnlab.nn as rnn
from rnnlab.analysis.dynamics import Dynamics
from tests.tolerances import FLOAT64

CELLS = ("ElmanCell", "GatedLSTMCell", "GatedGRUCell", "LSTMCell", "NARXCell", "LayerNormLSTMCell", "LRUCell")
MODULES = {name: lambda name=name: getattr(rnn, name)(3, 4) for name in CELLS} | {
    "RNN": lambda: rnn.RNN(3, 4),
    "LSTM": lambda: rnn.LSTM(3, 4, num_layers=2),
    "GRU": lambda: rnn.GRU(3, 4, batch_first=True),
    "Recurrent": lambda: rnn.Recurrent([rnn.GRUCell(3, 5), rnn.CIFGCell(5, 2)]),
}


@pytest.fixture(params=MODULES)
def module(request):
    return MODULES[request.param]()


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_steps_are_those_of_the_module(module):
    flow, x = Dynamics(module), random(6, 3)
    layer = (module if hasattr(module, "step") else rnn.Recurrent(module)).double()
    state = layer.initial_state(1)
    for x_t, h in zip(x, flow.run(x)[1:], strict=True):
        _, state = layer.step(x_t[None], state)
        torch.testing.assert_close(flow.pack(state)[0], h, **FLOAT64)


def test_packing_and_unpacking_is_nothing(module):
    flow = Dynamics(module)
    h = random(5, flow.size)
    assert torch.equal(flow.pack(flow.unpack(h)), h)


def test_jacobian_is_autograds_and_products_are_its(module):
    flow = Dynamics(module)
    h, x, vectors = random(2, flow.size), random(3), random(5, flow.size)
    jacobian = flow.jacobian(h, x)
    whole = torch.autograd.functional.jacobian(lambda row: flow.step(row[None], x)[0], h[1])
    torch.testing.assert_close(jacobian[1], whole, **FLOAT64)
    torch.testing.assert_close(flow.push(h[1], x, vectors), vectors @ jacobian[1].T, **FLOAT64)
    torch.testing.assert_close(flow.pull(h[1], x, vectors), vectors @ jacobian[1], **FLOAT64)


def test_each_row_has_its_input():
    flow = Dynamics(rnn.GRUCell(3, 4))
    h, x = random(2, 4), random(2, 3)
    torch.testing.assert_close(flow.jacobian(h, x)[1], flow.jacobian(h[1:], x[1])[0], **FLOAT64)


def test_single_precision_is_taken_as_double(module):
    flow = Dynamics(module)
    h, x, vectors = torch.randn(2, flow.size), torch.randn(3), torch.randn(5, flow.size)
    assert torch.equal(flow.run(x[None], h[0]), flow.run(x[None], h[0].double()))
    assert torch.equal(flow.jacobian(h, x), flow.jacobian(h.double(), x))
    assert torch.equal(flow.push(h[1], x, vectors), flow.push(h[1].double(), x, vectors.double()))
    assert torch.equal(flow.pull(h[1], x, vectors), flow.pull(h[1].double(), x, vectors.double()))


def test_inference_mode_is_refused_by_name():
    flow = Dynamics(rnn.GRUCell(3, 4))
    h = torch.zeros(2, 4)
    with torch.no_grad():
        assert flow.jacobian(h).shape == (2, 4, 4)
    with torch.inference_mode():
        assert flow.run(torch.zeros(5, 3)).shape == (6, 4)
        with pytest.raises(RuntimeError, match="leaves nothing to differentiate: use torch.no_grad"):
            flow.jacobian(h)


def test_the_module_stays_as_it_is():
    layer = rnn.LSTM(3, 4, dropout=0.5, num_layers=2)
    Dynamics(layer)
    assert layer.training and layer.backend == "auto"
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in layer.parameters())


def test_what_does_not_run_onwards_is_refused():
    with pytest.raises(ValueError, match="starts at the end"):
        Dynamics(rnn.GRU(3, 4, bidirectional=True))
    with pytest.raises(TypeError, match="no recurrent cell"):
        Dynamics(torch.nn.Linear(3, 4))


@pytest.mark.parametrize(("h", "x"), [((2, 3), (3,)), ((2, 4), (1,)), ((4,), (3,))])
def test_other_widths_are_refused(h, x):
    with pytest.raises(ValueError, match=r"a step takes states \(B, 4\) and inputs \(B, 3\) or \(3,\)"):
        Dynamics(rnn.GRU(3, 4)).step(torch.zeros(h), torch.zeros(x))


@pytest.mark.parametrize(("inputs", "h"), [((5, 2, 3), None), ((5, 4), None), ((5, 3), (2, 4)), ((5, 3), (3,))])
def test_batches_and_other_widths_are_refused(inputs, h):
    with pytest.raises(ValueError, match=r"a run takes inputs \(T, 3\) of one row and its state \(4,\), got"):
        Dynamics(rnn.GRU(3, 4)).run(torch.zeros(inputs), None if h is None else torch.zeros(h))
