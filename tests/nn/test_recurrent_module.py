"""`Recurrent` as a module: what it is built from, backends, transforms, copies, and what it refuses."""

import copy
import functools
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence

import rnnlab.nn
from rnnlab.nn.cells import LRUCell, MinGRUCell
from rnnlab.nn.explain import explain_backend
from rnnlab.nn.recurrent import Recurrent
from tests.nn.plain import (
    CHAINS,
    DTYPE,
    KINDS,
    Decay,
    Leaky,
    Opaque,
    assert_close,
    factory,
    flags,
    gradients,
    make,
    plainly,
    randn,
)

T, B = 6, 3


def test_second_gradients():
    for kind in ("leaky", "decay", "opaque"):
        layer, x, mask = Recurrent(make(kind, 2, 2)), randn(3, 1, 2).requires_grad_(), flags(3, 1)
        assert torch.autograd.gradgradcheck(lambda x, layer=layer, mask=mask: layer(x, mask=mask)[0], x)


def test_parametrised_weights():
    cell = make("gru")
    plain = copy.deepcopy(cell)
    nn.utils.parametrizations.weight_norm(cell, "weight_hh")
    with torch.no_grad():
        plain.weight_hh.copy_(cell.weight_hh)
    x = randn(T, B, 3)
    output = Recurrent(cell)(x)[0]
    assert_close(output, plainly(plain, x)[0])
    output.sum().backward()
    assert cell.parametrizations.weight_hh.original0.grad is not None


def test_factories():
    layer = Recurrent(functools.partial(Opaque, hidden_size=4), 2, bidirectional=True, input_size=3)
    assert [cell.input_size for cell in layer.cells] == [3, 3, 8, 8]
    layer = Recurrent([Leaky(3, 5), lambda size: Decay(size, 2)], bidirectional=True, merge="sum")
    assert [(cell.input_size, cell.hidden_size) for cell in layer.cells] == [(3, 5), (3, 5), (5, 2), (5, 2)]
    assert layer(torch.zeros(2, 3, 3))[0].shape == (2, 3, 2)


def test_copies_of_a_cell_draw_their_own_weights():
    layer = Recurrent(Opaque(4, 4), 2)
    assert not torch.equal(layer.cells[0].read.weight, layer.cells[1].read.weight)
    cell = Recurrent(rnnlab.nn.RNNCell(3, 4, nonlinearity="relu", bias=False), 2).cells[1]
    assert (cell.input_size, cell.nonlinearity, cell.bias_ih) == (4, "relu", None)
    cell = Recurrent(Leaky(3, 4, bias="single", dtype=DTYPE), 2).cells[1]
    assert (cell.input_size, cell.bias, cell.weight_ih.dtype) == (4, "single", DTYPE)


def test_backends_by_name():
    x = torch.zeros(T, B, 3)
    for backend in ("eager", "fused", "aten"):
        layer = Recurrent(Opaque(3, 4), backend=backend)
        with pytest.raises(RuntimeError, match=f'backend="{backend}".*Opaque states no gate maths'):
            layer(x)
        assert explain_backend(layer).startswith("Recurrent: none (")
    assert explain_backend(Recurrent(Opaque(3, 4))) == "Recurrent: reference (plain loop: Opaque states no gate maths)"
    with pytest.raises(RuntimeError, match="aten.*rnnlab.nn.LSTM"):
        Recurrent(nn.LSTMCell(3, 4), backend="aten")(x)
    with pytest.raises(RuntimeError, match="fused.*float64"):
        Recurrent(Leaky(3, 4), backend="fused").double()(x.double())
    assert "linear in its state" in explain_backend(Recurrent(Decay(3, 4)), x)
    assert "clip_grad_step" in explain_backend(Recurrent(Decay(3, 4), clip_grad_step=1.0))
    assert "asked for by name" in explain_backend(Recurrent(nn.GRUCell(3, 4), 2, backend="eager"), x, [3, 2, 1])
    with pytest.raises(ValueError, match="Unknown backend 'cudnn'"):
        Recurrent(Leaky(3, 4), backend="cudnn")


def test_autocast_is_that_of_the_layers():
    ours, theirs = Recurrent(nn.LSTMCell(3, 4), backend="eager"), rnnlab.nn.LSTM(3, 4, backend="eager")
    theirs.load_state_dict({f"{name}_l0": weight for name, weight in ours.cells[0].state_dict().items()})
    x = torch.randn(T, B, 3)
    with torch.autocast("cpu", torch.bfloat16):
        output, (state,) = ours(x)
        expected, (h_n, c_n) = theirs(x)
        for kind in ("opaque", "decay", "leaky"):
            assert Recurrent(make(kind, dtype=torch.float32), zoneout=0.2)(x, mask=flags(T, B))[0].isfinite().all()
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected)
    assert torch.equal(state.h, h_n[0]) and torch.equal(state.c, c_n[0])


@pytest.mark.parametrize("kind", [*CHAINS, "decay", "opaque"])
def test_transforms_of_functions(kind):
    layer = Recurrent(factory(kind), 2, input_size=3)
    x, weights = randn(T, B, 3), dict(layer.named_parameters())

    def loss(weights, row):
        return torch.func.functional_call(layer, weights, (row,))[0].square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 1))(weights, x)
    for row in range(B):
        expected = torch.autograd.grad(loss(weights, x[:, row]), list(weights.values()))
        assert_close([grad[row] for grad in found.values()], list(expected))


def test_copies_pickles_and_state_dicts(tmp_path):
    layer = Recurrent(make("torch-lstm"), 2, True, norm="layer", learn_initial_state=True, zoneout={"c": 0.1}).eval()
    x = randn(T, B, 3)
    expected = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(other(x), expected, rtol=0, atol=0)
    fresh = Recurrent(make("torch-lstm"), 2, True, norm="layer", learn_initial_state=True, zoneout={"c": 0.1}).eval()
    torch.save(layer.state_dict(), tmp_path / "weights.pt")
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert_close(fresh(x), expected, rtol=0, atol=0)
    assert {"cells.0.weight_ih", "cells.3.bias_hh", "learned.h_l0", "learned.c_l1_reverse"} <= set(fresh.state_dict())


def test_repr_shows_what_was_asked_for():
    text = repr(Recurrent(Leaky(3, 4), 2, True, dropout=0.5, zoneout={"h": 0.1}, backend="eager"))
    assert "num_layers=2, bidirectional=True, dropout=0.5, zoneout={'h': 0.1}, backend='eager'" in text
    assert "2 x Leaky(3, 4)" in text


def test_moves_to_another_dtype_and_device():
    layer = Recurrent(Leaky(3, 4), 2, norm="layer", learn_initial_state=True).to(DTYPE)
    assert layer(randn(T, B, 3))[0].dtype == DTYPE
    output, state = layer.to("meta")(torch.zeros(T, B, 3, dtype=DTYPE, device="meta"))
    assert output.shape == (T, B, 4) and state[0].h.device.type == "meta"


BAD_ARGUMENTS = [
    ({"num_layers": 0}, ValueError, "num_layers must be greater than zero"),
    ({"num_layers": 1.5}, TypeError, "num_layers should be of type int"),
    ({"merge": "average"}, ValueError, "Unknown merge 'average'"),
    ({"norm": "group", "num_layers": 2}, ValueError, "Unknown norm 'group'"),
    ({"recurrent_dropout": 1.5}, ValueError, r"recurrent_dropout should be a probability in \[0, 1\], got: 1.5"),
    ({"zoneout": -0.1}, ValueError, "zoneout should be a probability"),
    ({"zoneout": (0.1, 0.2)}, ValueError, "zoneout has 2 rates, the cell has 1 states: h"),
    ({"zoneout": {"c": 0.1}}, ValueError, "zoneout names c; the states are h"),
    ({"clip_grad_step": 0}, ValueError, "clip_grad_step should be a positive number, got: 0"),
    ({"checkpoint_steps": 0}, ValueError, "checkpoint_steps must be greater than zero"),
    ({"stateful": True, "bidirectional": True}, ValueError, "stateful"),
    ({"stateful": True, "go_backwards": True}, ValueError, "stateful"),
    ({"go_backwards": True, "bidirectional": True}, ValueError, "go backwards already"),
    ({"residual": True}, ValueError, "no layer's output is as wide as its input"),
    ({"residual": True, "bidirectional": True, "merge": "none"}, ValueError, "residual needs one output"),
]


@pytest.mark.parametrize("options, error, message", BAD_ARGUMENTS, ids=lambda value: str(value)[:40])
def test_refuses_arguments(options, error, message):
    with pytest.raises(error, match=message):
        Recurrent(Leaky(3, 4), **options)


@pytest.mark.parametrize("name", ["recurrent_dropout", "candidate_dropout", "weight_dropout"])
@pytest.mark.parametrize("kind", ["opaque", "decay"])
def test_refuses_noise_that_a_cell_cannot_have(name, kind):
    lacks = "that states its gate maths" if kind == "opaque" else "with "  # a scan has no product with the state
    with pytest.raises(ValueError, match=f"{name} needs a cell {lacks}.*; {KINDS[kind].__name__} "):
        Recurrent(make(kind), **{name: 0.1})


class Bare(nn.Module):
    """A cell with a parameter that nobody can draw anew."""

    input_size = hidden_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def initial_state(self, batch_size, device=None, dtype=None):
        return torch.zeros(batch_size, 4)


def test_refuses_what_is_no_cell():
    for cell, error, message in (
        (nn.Linear(3, 4), TypeError, "Linear is no recurrent cell: it has no input_size"),
        (nn.LSTM(3, 4), TypeError, "LSTM is a layer; Recurrent takes a cell, such as LSTMCell"),
        (Leaky, ValueError, "pass input_size=; or make a cell of the class Leaky"),
        ("lstm", TypeError, "expected a cell or a function of input_size, got: str"),
        (lambda size: Leaky(size, 4), ValueError, "pass input_size="),
        (lambda size: 3, ValueError, "pass input_size="),
        ([Leaky(3, 4), Leaky(3, 4)], ValueError, "layer 1 reads 4 features, its cell has input_size=3"),
        ([], ValueError, "a list of 0 cells"),
        (Bare(), TypeError, "initial_state should return a NamedTuple"),
    ):
        with pytest.raises(error, match=message):
            Recurrent(cell)
    with pytest.raises(ValueError, match="num_layers=3 does not go with a list of 2 cells"):
        Recurrent([Leaky(3, 4), Leaky(4, 4)], 3)
    with pytest.raises(ValueError, match="reads 4 features, Opaque has input_size=3: give a list of cells"):
        Recurrent(Opaque(3, 4), 2)
    with pytest.raises(ValueError, match="Bare has no reset_parameters"):
        Recurrent(Bare(), 2)


def test_warns_of_options_between_layers_that_are_not_there():
    for options in ({"dropout": 0.5}, {"norm": "layer"}):
        with pytest.warns(UserWarning, match="does nothing with num_layers=1"):
            Recurrent(Leaky(3, 4), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Recurrent(Leaky(3, 4), 2, dropout=0.5, norm="layer")


def test_refuses_calls():
    layer, x = Recurrent(nn.LSTMCell(3, 4), 2), torch.zeros(T, B, 3)
    every = Recurrent(nn.LSTMCell(3, 4), return_all_states=True)
    good = layer.initial_state(B)
    truth = torch.ones(T, B, dtype=torch.bool)
    for call, error, message in (
        (lambda: layer(x[..., :2]), RuntimeError, "Expected 3, got 2"),
        (lambda: layer(x.double()), ValueError, "does not match weight dtype"),
        (lambda: layer(x[None]), ValueError, "Expected input to be 2D or 3D, got 4D"),
        (lambda: layer(x[:0]), RuntimeError, "sequence length to be larger than 0"),
        (lambda: layer(x, lengths=[1, 2, 3], mask=truth), ValueError, "give one of them"),
        (lambda: layer(x, lengths=[1, 2, 7]), ValueError, "at most T = 6, got 7 in row 2"),
        (lambda: layer(x[:, 0], lengths=[3]), ValueError, "lengths go with batched input"),
        (lambda: layer(x, mask=truth.t()), ValueError, r"mask should have shape \(6, 3\).*got \(3, 6\)"),
        (lambda: layer(x, mask=truth.float()), TypeError, "mask should be a boolean tensor, got: dtype torch.float32"),
        (lambda: layer(x, reset=[True]), TypeError, "reset should be a boolean tensor, got: list"),
        (lambda: layer(x, torch.zeros(2, B, 4)), TypeError, "hx should be a tuple of 2 states.*got: Tensor"),
        (lambda: layer(x, good[:1]), RuntimeError, "hx should be a tuple of 2 states.*got 1"),
        (lambda: layer(x, (good[0], 3)), TypeError, "got int in it"),
        (lambda: layer(x, (good[0], good[1][:1])), RuntimeError, r"hx\[1\] should hold 2 tensors \(h, c\), got 1"),
        (lambda: layer(x, layer.initial_state(2)), RuntimeError, r"Expected hx\[0\].h size \(3, 4\), got \[2, 4\]"),
        (lambda: layer(x[:, 0], good), RuntimeError, r"Expected hx\[0\].h size \(4,\), got \[3, 4\]"),
        (lambda: layer(x, [tuple(p.double() for p in s) for s in good]), RuntimeError, r"hx\[0\].h dtype"),
        (lambda: layer(pack_padded_sequence(x, torch.tensor([6, 4, 2])), reset=truth), ValueError, "padded input"),
        (
            lambda: every(pack_padded_sequence(x, torch.tensor([6, 4, 2]))),
            ValueError,
            "return_all_states goes with padded",
        ),
    ):
        with pytest.raises(error, match=message):
            call()


def test_refuses_a_state_that_changes_its_form():
    class Growing(Opaque):
        def forward(self, x_t, state):
            y, state = super().forward(x_t, state)
            return y, (*state, y)

    with pytest.raises(RuntimeError, match="Growing took 2 states and returned 3"):
        Recurrent(Growing(3, 4))(torch.zeros(T, B, 3))


@pytest.mark.parametrize("options", [{"clip_grad_step": 0.1}, {"zoneout": 0.4, "recurrent_dropout": 0.4}], ids=str)
def test_transforms_of_functions_with_additions(options):
    layer = Recurrent(factory("gru"), input_size=3, **options)
    x, weights = randn(T, B, 3), dict(layer.named_parameters())

    def loss(weights, row):
        torch.manual_seed(0)
        return torch.func.functional_call(layer, weights, (row,))[0].square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 1), randomness="same")(weights, x)
    for row in range(B):
        expected = torch.autograd.grad(loss(weights, x[:, row]), list(weights.values()))
        assert_close([grad[row] for grad in found.values()], list(expected))


def test_states_pickle():
    _, state = Recurrent(make("torch-lstm"), 2)(randn(T, B, 3))
    state = tuple(each._make(part.detach() for part in each) for each in state)
    loaded = pickle.loads(pickle.dumps(state))
    assert [type(each) for each in loaded] == [type(each) for each in state]
    assert_close(loaded, state, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["torch-lstm", "gru", "decay", "opaque"])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_flags_may_be_written_into_before_backward(kind, backend):
    found = []
    for then in (lambda flag: None, lambda flag: flag.logical_not_()):
        torch.manual_seed(0)
        layer = Recurrent(factory(kind), input_size=3, backend=backend)
        x, mask, reset = randn(T, B, 3), flags(T, B), flags(T, B, p=0.3)
        output, _ = layer(x, mask=mask, reset=reset)
        then(mask), then(reset)
        found.append(gradients(layer, output))
    assert_close(found[1], found[0], rtol=0, atol=0)


def test_refuses_hooks_that_nothing_would_call():
    cell = make("gru")
    prune.l1_unstructured(cell, "weight_hh", 0.5)
    with pytest.raises(RuntimeError, match="a hook before its forward, which Recurrent does not call"):
        Recurrent(cell)(randn(T, B, 3))
    looped = make("opaque")
    prune.l1_unstructured(looped.read, "weight", 0.5)
    Recurrent(looped)(randn(T, B, 3))


@pytest.mark.parametrize(
    "compute", [prune.random_unstructured, torch.nn.utils.spectral_norm, torch.nn.utils.weight_norm]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_steps_refuse_hooks_that_they_would_not_call(compute):
    options = {"amount": 0.5} if compute is prune.random_unstructured else {}
    layer = compute(rnnlab.nn.GRU(3, 4), "weight_hh_l0", **options)
    layer(torch.zeros(2, 3, 3))
    with pytest.raises(RuntimeError, match="GRU has a hook before its forward, which step does not call: "):
        layer.step(torch.zeros(2, 3))
    recurrent = Recurrent(make("gru"))
    recurrent.register_forward_pre_hook(lambda *call: None)
    with pytest.raises(RuntimeError, match="Recurrent has a hook before its forward, which step does not call: "):
        recurrent.step(randn(B, 3))


def test_casts_keep_complex_states_complex():
    layer = Recurrent(LRUCell(3, 4), stateful=True).eval()
    layer(torch.randn(T, B, 3))
    wide = copy.deepcopy(layer).double()
    assert wide.get_carry()[0][0].dtype == torch.complex128
    assert wide(randn(T, B, 3))[1][0].h.dtype == torch.complex128
    learned = Recurrent(LRUCell(3, 4), learn_initial_state=True).double()
    assert learned.initial_state(B)[0].h.dtype == torch.complex128
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half.get_carry()[0][0].dtype == half(torch.zeros(T, B, 3).bfloat16())[1][0].h.dtype == torch.complex64


@pytest.mark.parametrize("kind", ["torch-lstm", "gru", "decay"])
def test_export_unrolls_the_plain_loop(kind):
    layer, x = Recurrent(KINDS[kind](3, 4)).eval(), torch.randn(T, B, 3)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x)[0], layer(x)[0])


def test_scans_follow_autocast():
    layer = Recurrent(MinGRUCell(3, 4), 2)
    with torch.autocast("cpu", torch.bfloat16):
        output, (state, _) = layer(torch.randn(T, B, 3))
    # The sum over time keeps its precision; what it gives out is in the dtype asked for.
    assert output.dtype == torch.bfloat16 and state.h.dtype == torch.float32


def test_reset_parameters_draws_anew_and_forgets_what_was_learned():
    layer = Recurrent(rnnlab.nn.GRUCell(3, 4), num_layers=2, norm="layer", learn_initial_state=True)
    before = {name: value.detach().clone() for name, value in layer.named_parameters()}
    with torch.no_grad():
        for value in layer.learned.values():
            value.fill_(3.0)
    assert [name for name, _ in layer.named_parameters()] == list(before)
    layer.reset_parameters()
    assert all((value == 0).all() for value in layer.learned.values())
    assert not torch.equal(layer.cells[0].weight_hh, before["cells.0.weight_hh"])
    rnnlab.nn.Bidirectional(layer)  # which draws a second layer anew


@pytest.mark.parametrize("option", ["batch_first", "residual", "stateful", "go_backwards", "learn_initial_state"])
def test_flags_are_bools(option):
    with pytest.raises(TypeError, match=f"{option} should be of type bool, got: str"):
        Recurrent(rnnlab.nn.GRUCell(4, 4), **{option: "no"})


def test_input_of_another_type():
    with pytest.raises(TypeError, match="expected a Tensor or a PackedSequence, got list"):
        Recurrent(rnnlab.nn.GRUCell(4, 4))([1, 2])
