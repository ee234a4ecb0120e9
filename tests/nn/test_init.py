"""Initialisers by name."""

import math

import pytest
import torch
from torch import nn

import rnnlab.nn
from rnnlab.nn.init import initialise, recurrent_modules


class CoupledCell(nn.Module):
    """Parameters of a cell with torch's names and its own gates; some recurrent weights are of another size."""

    gates = ("f", "g", "o")

    def __init__(self, input_size, hidden_size, names=("bias",)):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.randn(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.randn(3 * hidden_size, hidden_size))
        self.weight_hh_depth = nn.Parameter(torch.randn(hidden_size, hidden_size))
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.randn(3 * hidden_size)))
        self.norm = nn.LayerNorm(hidden_size)


def test_orthogonal_and_glorot_act_on_the_whole_kernel():
    layer = initialise(rnnlab.nn.LSTM(3, 8), input="glorot", recurrent="orthogonal", bias="zeros")
    torch.testing.assert_close(layer.weight_hh_l0.t() @ layer.weight_hh_l0, torch.eye(8))
    bound = (6 / (3 + 4 * 8)) ** 0.5
    assert 0.8 * bound < layer.weight_ih_l0.abs().max() <= bound
    assert not layer.bias_ih_l0.any() and not layer.bias_hh_l0.any()


@pytest.mark.parametrize("library", [rnnlab.nn, torch.nn], ids=["rnnlab", "torch"])
@pytest.mark.parametrize("wrap", [False, True], ids=["layer", "inside"])
def test_forget_bias_is_the_sum_of_both_biases_in_every_layer_and_direction(library, wrap):
    layer = library.LSTM(3, 4, num_layers=2, bidirectional=True)
    initialise(torch.nn.Sequential(layer) if wrap else layer, forget_bias=1.5)
    for suffix in ("l0", "l1", "l0_reverse", "l1_reverse"):
        total = getattr(layer, f"bias_ih_{suffix}") + getattr(layer, f"bias_hh_{suffix}")
        assert (total[4:8] == 1.5).all() and not (total[:4] == 1.5).any()


def test_other_cells_have_no_forget_gate():
    plain, given = (rnnlab.nn.GRU(3, 4) for _ in range(2))
    given.load_state_dict(plain.state_dict())
    initialise(given, forget_bias=1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), given.parameters(), strict=True))


def test_identity_stacks_squares():
    layer = initialise(rnnlab.nn.RNN(5, 4, nonlinearity="relu"), recurrent="identity")
    assert torch.equal(layer.weight_hh_l0, torch.eye(4))


def test_numbers_are_those_of_torch_init_in_the_order_of_the_parameters():
    layers = [rnnlab.nn.LSTM(3, 4, num_layers=2) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    torch.manual_seed(5)
    initialise(layers[0], input="glorot", recurrent="orthogonal", bias="zeros", forget_bias=1.0)
    torch.manual_seed(5)
    for name, parameter in layers[1].named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
            parameter.data[4:8] = float(name.startswith("bias_ih"))
    assert all(torch.equal(a, b) for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True))


def test_by_gate_acts_on_the_block_of_each_gate():
    layer = rnnlab.nn.LSTM(3, 8)
    before = layer.weight_hh_l0.detach().clone()
    initialise(layer, input={"*": "glorot"}, recurrent={"f": "zeros", "g": "identity(0.5)", "o": "orthogonal"})
    i, f, g, o = layer.weight_hh_l0.detach().chunk(4)
    assert torch.equal(i, before[:8])
    assert not f.any() and torch.equal(g, 0.5 * torch.eye(8))
    torch.testing.assert_close(o @ o.t(), torch.eye(8))
    bound = math.sqrt(6 / (3 + 8))
    assert 0.8 * bound < layer.weight_ih_l0.abs().max() <= bound


def test_bias_by_gate():
    layer = initialise(rnnlab.nn.GRU(3, 4), bias={"z": "zeros"})
    assert [bool(block.any()) for block in layer.bias_ih_l0.chunk(3)] == [True, False, True]


@pytest.mark.parametrize("wanted", ["normal(1.5)", {"name": "normal", "s": 1.5}, {"*": "normal(1.5)"}], ids=str)
def test_normal_has_variance_s_over_n(wanted):
    torch.manual_seed(0)
    layer = initialise(rnnlab.nn.RNN(3, 200), recurrent=wanted)
    weight = layer.weight_hh_l0.detach()
    # 40,000 draws: the standard error of the variance is 0.7% of it, that of the mean a 200th of the deviation.
    assert float(weight.var() * 200) == pytest.approx(1.5, rel=0.03)
    assert abs(float(weight.mean())) < 4 / 200 * math.sqrt(1.5 / 200)
    # Girko's circular law: the spectrum fills the disc of radius sqrt(s).
    assert float(torch.linalg.eigvals(weight).abs().max()) == pytest.approx(math.sqrt(1.5), rel=0.1)


def test_scaled_identity_in_every_gate():
    layer = initialise(rnnlab.nn.GRU(4, 4), input={"name": "identity", "scale": 2}, recurrent="identity(0.5)")
    assert torch.equal(layer.weight_ih_l0, 2 * torch.eye(4).repeat(3, 1))
    assert torch.equal(layer.weight_hh_l0, torch.eye(4).repeat(3, 1) / 2)


@pytest.mark.parametrize("library", [rnnlab.nn, torch.nn], ids=["rnnlab", "torch"])
def test_chrono_spreads_time_constants_up_to_the_longest(library):
    torch.manual_seed(0)
    layer = initialise(library.LSTM(3, 500, bidirectional=True), bias="zeros", chrono=100.0)
    for suffix in ("l0", "l0_reverse"):
        i, f, g, o = (getattr(layer, f"bias_ih_{suffix}") + getattr(layer, f"bias_hh_{suffix}")).detach().chunk(4)
        assert torch.equal(i, -f) and not g.any() and not o.any()
        span = f.exp()  # U(1, 99): mean 50, standard error 28.3 / sqrt(500)
        assert 1 <= span.min() < 5 and 95 < span.max() <= 99
        assert abs(float(span.mean()) - 50) < 4 * 28.3 / math.sqrt(500)
    assert not torch.equal(layer.bias_ih_l0, layer.bias_ih_l0_reverse)


def test_chrono_of_a_gru_is_in_z():
    layer = initialise(rnnlab.nn.GRU(3, 50), bias="zeros", chrono=100.0)
    r, z, n = layer.bias_ih_l0.detach().chunk(3)
    assert not r.any() and not n.any() and not layer.bias_hh_l0.any()
    assert (z >= 0).all() and z.max() > 3


@pytest.mark.parametrize(
    "make",
    [
        rnnlab.nn.LSTMCell,
        rnnlab.nn.GRUCell,
        rnnlab.nn.GatedLSTMCell,
        rnnlab.nn.CIFGCell,
        rnnlab.nn.PeepholeLSTMCell,
        rnnlab.nn.LayerNormLSTMCell,
        rnnlab.nn.GatedGRUCell,
        rnnlab.nn.LayerNormGRUCell,
        rnnlab.nn.MinGRUCell,
        rnnlab.nn.MinLSTMCell,
    ],
)
def test_chrono_is_how_much_of_a_state_a_step_keeps(make):
    """By what an input of zeros leaves of a state: time constants 1 / (1 - kept) are U(2, T_max)."""
    torch.manual_seed(0)
    hidden = 400
    cell = initialise(make(3, hidden), input="zeros", recurrent="zeros", bias="zeros", chrono=100.0).double()
    for name, parameter in cell.named_parameters():
        if name.startswith("peephole"):
            nn.init.zeros_(parameter)
    layer = rnnlab.nn.Recurrent(cell, backend="reference")
    (state,) = layer.initial_state(1)
    kept = layer(torch.zeros(1, 1, 3, dtype=torch.float64), (type(state)(*map(torch.ones_like, state)),))[1][0][-1]
    constants = 1 / (1 - kept.detach())
    assert 2 - 1e-9 <= constants.min() < 6 and 96 < constants.max() <= 100 + 1e-9
    assert abs(float(constants.mean()) - 51) < 4 * 28.3 / math.sqrt(hidden)


def test_chrono_of_a_cell_of_ones_own_that_says_what_keeps():
    class Leaky(CoupledCell):
        keeps = ("f", -1)

    cell = initialise(Leaky(3, 50, ("bias",)), bias="zeros", chrono=100.0)
    assert (cell.bias[:50] <= 0).all() and cell.bias[:50].min() < -3


def test_chrono_leaves_layers_without_such_a_gate_alone_beside_one():
    model = nn.Sequential(rnnlab.nn.RNN(3, 4), rnnlab.nn.GRU(3, 4))
    before = [parameter.detach().clone() for parameter in model[0].parameters()]
    initialise(model, chrono=100.0)
    assert all(torch.equal(a, b) for a, b in zip(model[0].parameters(), before, strict=True))
    assert (model[1].bias_ih_l0[4:8] >= 0).all()


@pytest.mark.parametrize("names", [("bias",), ("bias_ih",), ("bias_ih", "bias_hh"), ()], ids="+".join)
def test_a_cell_that_names_its_gates(names):
    cell = CoupledCell(3, 4, names)
    depth = cell.weight_hh_depth.detach().clone()
    initialise(nn.Sequential(cell), recurrent={"f": "zeros"}, bias="zeros", forget_bias=2.0)
    assert not cell.weight_hh[:4].any() and cell.weight_hh[4:].all()
    assert torch.equal(cell.weight_hh_depth, depth), "not all the gates' rows"
    total = sum((getattr(cell, name).detach() for name in names), torch.zeros(12))
    assert total.tolist() == ([2.0] * 4 if names else [0.0] * 4) + [0.0] * 8
    assert cell.norm.weight.all()
    initialise(cell, recurrent="zeros", chrono=10.0 if names else None)
    assert not cell.weight_hh_depth.any()
    for name in names:
        bias = getattr(cell, name)
        assert not bias[4:].any() and (bias[:4].all() or name == "bias_hh")


def test_recurrent_modules_are_found_by_name():
    model = nn.ModuleDict({"encoder": nn.LSTM(3, 4), "head": nn.Linear(4, 4), "cell": CoupledCell(3, 4)})
    assert [name for name, _ in recurrent_modules(model)] == ["encoder", "cell"]
    assert [name for name, _ in recurrent_modules(model["cell"])] == [""]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (rnnlab.nn.LSTM(1, 4), {"input": "identity"}),
        (rnnlab.nn.LSTM(3, 4, proj_size=2), {"recurrent": "identity"}),
        (torch.nn.Linear(2, 2), {}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": "orthonormal"}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": None}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": {"r": {"z": "zeros"}}}),
        (rnnlab.nn.GRU(3, 4), {"bias": "orthogonal"}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": {"f": "zeros"}}),
        (rnnlab.nn.LSTM(3, 4, proj_size=2), {"recurrent": {"g": "identity"}}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": "zeros(1)"}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": {"name": "normal", "scale": 1}}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": "normal(x)"}),
        (rnnlab.nn.GRU(3, 4), {"recurrent": "normal(-1)"}),
        (rnnlab.nn.GRU(3, 4), {"chrono": 2.0}),
        (rnnlab.nn.RNN(3, 4), {"chrono": 9.0}),
        (rnnlab.nn.GRU(3, 4, bias=False), {"chrono": 9.0}),
        (rnnlab.nn.LSTM(3, 4), {"chrono": 9.0, "forget_bias": 1.0}),
    ],
    ids=str,
)
def test_initialise_refuses(module, arguments):
    expected = "identity needs|expected a recurrent|Unknown initialiser|Unknown gate|chrono"
    with pytest.raises(ValueError, match=expected):
        initialise(module, **arguments)


def test_parametrised_weights_are_refused():
    layer = torch.nn.utils.parametrizations.weight_norm(rnnlab.nn.GRU(3, 4), "weight_hh_l0")
    with pytest.raises(ValueError, match=r"GRU has parametrised or pruned weights \(weight_hh_l0\)"):
        initialise(layer, recurrent="zeros")
