"""Research cells against their equations (research_equations.py) in float64, and what all of them promise."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from rnnlab.nn import init
from rnnlab.nn.cells import (
    CIFGCell,
    ElmanCell,
    GatedGRUCell,
    GatedLSTMCell,
    IndRNNCell,
    JordanCell,
    LayerNormLSTMCell,
    LRUCell,
    MinGRUCell,
    MinLSTMCell,
    NARXCell,
    SelectiveLRUCell,
    StateSpaceCell,
)
from rnnlab.nn.recurrent import Recurrent
from tests.nn.research_equations import ALL, NARX_OPTIONS, OPTIONS, B, H, I, O, Step, T, narx_equations, norm
from tests.tolerances import FLOAT64

every_cell = pytest.mark.parametrize("name", ALL)


def build(name: str, **more: Any) -> Any:
    """Return a float64 cell, all parameters random: gains and shifts too."""
    kind, options = ALL[name]
    cell = kind(I, H, **{"dtype": torch.float64, **options, **more})
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return cell


def random_state(cell: Any) -> Any:
    zeros = cell.initial_state(B)
    return type(zeros)(*(torch.randn_like(value) for value in zeros))


def unrolled(step: Step, cell: Any, x: Tensor, state: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    outputs = []
    for x_t in x:
        y, state = step(cell, x_t, state)
        outputs.append(y)
    return torch.stack(outputs), tuple(state)


def expected_of(name: str, cell: Any, x: Tensor, state: Any) -> tuple[Tensor, ...]:
    if name in NARX_OPTIONS:
        return (narx_equations(cell, x),)
    y, final = unrolled(OPTIONS[name][2], cell, x, state)
    return y, *final


def assert_gradients_agree(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], inputs: dict[str, Tensor]) -> None:
    seeds = [torch.randn_like(value) for value in expected]
    found = [
        torch.autograd.grad(values, list(inputs.values()), seeds, allow_unused=True) for values in (actual, expected)
    ]
    for key, ours, theirs in zip(inputs, *found, strict=True):
        assert (ours is None) == (theirs is None), key
        if ours is not None:
            torch.testing.assert_close(ours, theirs, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("bias", [True, "single", False])
@every_cell
def test_steps_compute_the_equations(name, bias):
    cell = build(name, **({} if name.startswith("lru") else {"bias": bias}))
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    state = cell.initial_state(B) if name in NARX_OPTIONS else random_state(cell)
    expected = expected_of(name, cell, x, state)
    y, final = unrolled(lambda cell, x_t, state: cell(x_t, state), cell, x, state)
    actual = (y, *final)[: len(expected)]
    torch.testing.assert_close(actual, expected, **FLOAT64)
    assert_gradients_agree(actual, expected, {"x": x, **dict(cell.named_parameters())})


@every_cell
def test_recurrent_computes_the_equations(name):
    cell = build(name)
    layer = Recurrent(cell)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    state = cell.initial_state(B) if name in NARX_OPTIONS else random_state(cell)
    state = type(state)(*(value.requires_grad_() for value in state))
    expected = expected_of(name, layer.cells[0], x, state)
    y, (final,) = layer(x, (state,))
    actual = (y, *final)[: len(expected)]
    torch.testing.assert_close(actual, expected, **FLOAT64)
    inputs = {"x": x, **dict(layer.cells[0].named_parameters())}
    inputs |= {} if name in NARX_OPTIONS else {f"{key}_0": value for key, value in state._asdict().items()}
    assert_gradients_agree(actual, expected, inputs)


@every_cell
def test_step_passes_gradcheck(name):
    cell = build(name)
    x, state = torch.randn(B, I, dtype=torch.float64, requires_grad=True), random_state(cell)
    leaves = (x, *(value.requires_grad_() for value in state))

    def step(x, *state):
        y, new = cell(x, type(cell.initial_state(1))(*state))
        return y, *new

    assert torch.autograd.gradcheck(step, leaves)


@every_cell
def test_state_is_a_named_tuple_and_steps_equal_one_run(name):
    cell = build(name)
    state = cell.initial_state(B)
    names = state._fields
    assert cell.chain is None or names == cell.chain.states
    assert all(value.shape[0] == B and not value.any() for value in state)
    assert cell.initial_state(1, dtype=torch.float32)[0].dtype in (torch.float32, torch.complex64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    y, last = cell(x[0])
    assert type(last) is type(state) and y.shape == (B, getattr(cell, "output_size", H))
    layer = Recurrent(cell)
    y, final = layer(x)
    first, middle = layer(x[:2])
    second, end = layer(x[2:], middle)
    torch.testing.assert_close(torch.cat([first, second]), y, **FLOAT64)
    torch.testing.assert_close(tuple(end[0]), tuple(final[0]), **FLOAT64)


@every_cell
def test_resets_and_lengths_forget_and_hold(name):
    layer = Recurrent(build(name))
    x = torch.randn(T, B, I, dtype=torch.float64)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[3] = True
    y, _ = layer(x, reset=reset)
    torch.testing.assert_close(y, torch.cat([layer(x[:3])[0], layer(x[3:])[0]]), **FLOAT64)
    y, final = layer(x, lengths=[T, 2])
    short, end = layer(x[:2, 1:])
    torch.testing.assert_close(y[:2, 1:], short, **FLOAT64)
    torch.testing.assert_close(tuple(v[1:] for v in final[0]), tuple(end[0]), **FLOAT64)


@every_cell
def test_construction(name):
    kind, options = ALL[name]
    torch.manual_seed(3)
    cell = kind(I, H, **options)
    before = {key: value.clone() for key, value in cell.state_dict().items()}
    assert all(value.isfinite().all() for value in before.values())
    torch.manual_seed(3)
    cell.reset_parameters()
    if name != "state-space" and name != "state-space-identity":  # whose Linear layers draw first
        assert all(torch.equal(value, before[key]) for key, value in cell.state_dict().items())
    if not name.startswith("lru"):
        ones = {key for key, value in before.items() if (value == 1).all()}
        assert ones == {key for key in before if key.startswith("gain")}
        bound = max(H**-0.5, 1) if "learned" in name or "indrnn" in name else H**-0.5
        assert all(value.abs().max() <= bound for key, value in before.items() if key not in ones)
    assert all(weight.is_meta for weight in kind(I, H, device="meta", **options).parameters())
    double = kind(I, H, dtype=torch.float64, **options)
    assert all(weight.dtype == torch.float64 for weight in double.parameters())
    assert cell.extra_repr().startswith(f"{I}, {H}")


@every_cell
def test_copies_and_pickles(name):
    cell = build(name)
    x = torch.randn(B, I, dtype=torch.float64)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        torch.testing.assert_close(other(x)[0], cell(x)[0], rtol=0, atol=0)
    fresh = build(name)
    fresh.load_state_dict(cell.state_dict())
    torch.testing.assert_close(fresh(x)[0], cell(x)[0], rtol=0, atol=0)
    wider = cell.respawn(I + 1)
    assert wider.input_size == I + 1 and wider(torch.randn(B, I + 1, dtype=torch.float64))[0].shape == cell(x)[0].shape


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ElmanCell(I, H), nn.RNNCell(I, H)),
        (ElmanCell(I, H, "relu"), nn.RNNCell(I, H, nonlinearity="relu")),
        (GatedLSTMCell(I, H), nn.LSTMCell(I, H)),
        (GatedGRUCell(I, H), nn.GRUCell(I, H)),
    ],
    ids=["tanh", "relu", "lstm", "gru"],
)
def test_torchs_cells_exchange_state_dicts(ours, theirs):
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(B, I)
    expected = theirs(x)
    torch.testing.assert_close(ours(x)[1][0], expected[0] if isinstance(expected, tuple) else expected)


def test_same_seed_gives_torchs_weights():
    torch.manual_seed(0)
    theirs = nn.LSTM(I, H, proj_size=O)
    torch.manual_seed(0)
    ours = GatedLSTMCell(I, H, proj_size=O)
    assert [tuple(a.shape) for a in ours.parameters()] == [tuple(a.shape) for a in theirs.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_initialisers_find_the_gates():
    cell = init.initialise(CIFGCell(I, H), bias="zeros", forget_bias=1.5)
    assert cell.bias_ih.tolist() == [1.5] * H + [0.0] * 2 * H and not cell.bias_hh.any()
    cell = init.initialise(LayerNormLSTMCell(I, H), forget_bias=1.0, recurrent={"g": "identity"})
    assert cell.bias_ih.view(4, H).tolist() == [[0.0] * H, [1.0] * H, [0.0] * H, [0.0] * H]
    assert torch.equal(cell.weight_hh[2 * H : 3 * H], torch.eye(H))


def test_jordan_decay():
    fixed, learned = JordanCell(I, H, O, decay=0.25), JordanCell(I, H, O, decay=0.25, learnable=True)
    assert "decay" not in fixed.state_dict() and fixed.kernel_weights()["decay"].tolist() == [0.25] * O
    torch.testing.assert_close(learned.kernel_weights()["decay"], torch.full((O,), 0.25))
    later = JordanCell(I, H, O, decay=0.25, device="meta").to_empty(device="cpu")
    assert later.kernel_weights()["decay"].tolist() == [0.25] * O
    assert learned.decay_logit.requires_grad and fixed.double().decay.dtype == torch.float64


class Twice(MinGRUCell):
    """A minGRU that gives out twice its state."""

    def outputs(self, h, x):
        return 2 * h


class Slow(MinLSTMCell):
    """A minLSTM that remembers all."""

    def coefficients(self, x):
        a, b = super().coefficients(x)
        return torch.ones_like(a), b


@pytest.mark.parametrize("cell", [Twice, Slow])
def test_what_a_subclass_computes_is_computed_on_every_backend(cell):
    layer, x = Recurrent(cell(3, 4)), torch.randn(5, 2, 3)
    found = []
    for layer.backend in ("reference", "eager", "fused"):
        found.append(layer(x))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.parametrize(
    "options",
    [{}, {"zoneout": 0.3}, {"return_all_states": True}, {"num_layers": 2, "bidirectional": True}],
    ids=["plain", "zoneout", "all-states", "both-ways"],
)
@pytest.mark.parametrize("cell", [IndRNNCell, MinGRUCell, MinLSTMCell, LRUCell, SelectiveLRUCell])
def test_what_a_cpu_walks_in_single_precision_is_the_plain_loop(cell, options):
    layer, x = Recurrent(cell(3, 4), **options), torch.randn(7, 5, 3, requires_grad=True)
    mask, reset = torch.rand(7, 5) < 0.7, torch.rand(7, 5) < 0.3
    found = []
    for layer.backend in ("reference", "fused"):
        torch.manual_seed(3)
        output, state, *every = layer(x, mask=mask, reset=reset)
        parts = [part for layer_state in state for part in layer_state] + [
            part for states in every for part in states[0]
        ]
        values = [torch.view_as_real(part) if part.is_complex() else part for part in (output, *parts)]
        total = sum((value * torch.linspace(1, 2, value.numel()).view_as(value)).sum() for value in values)
        grads = torch.autograd.grad(total, [x, *layer.parameters()])
        found.append([value.detach() for value in (*values, *grads)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", [MinGRUCell, MinLSTMCell, LRUCell, SelectiveLRUCell])
def test_what_a_cpu_walks_under_autocast(cell):
    layer, x = Recurrent(cell(3, 4)), torch.randn(7, 5, 3)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(x)
        layer.backend = "eager"
        expected, _ = layer(x)
    assert output.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected, rtol=0.02, atol=0.02)


def test_scans_run_compiled_in_double_precision():
    layer, x = Recurrent(MinGRUCell(3, 4), backend="fused").double(), torch.randn(5, 2, 3, dtype=torch.float64)
    fused = layer(x)
    layer.backend = "reference"
    torch.testing.assert_close(fused, layer(x))


def test_min_lstm_is_finite_where_both_gates_vanish():
    cell = MinLSTMCell(1, 1, bias=False)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[-1.0], [-1.0], [1.0]]))
    a, b = cell.coefficients(torch.tensor([[500.0]]))
    assert a.item() == 0.5 and b.item() == 250.0


def test_lru_starts_on_the_ring_and_keeps_variance():
    cell = LRUCell(3, 500, r_min=0.4, r_max=0.8, max_phase=math.pi / 4, dtype=torch.float64)
    eigenvalues = cell.eigenvalues()
    assert (eigenvalues.abs() > 0.4 - 1e-6).all() and (eigenvalues.abs() < 0.8).all()
    assert (eigenvalues.angle() >= 0).all() and (eigenvalues.angle() <= math.pi / 4).all()
    torch.testing.assert_close(cell.gamma_log.exp() ** 2, 1 - eigenvalues.abs() ** 2)
    # Uniform on the ring: the squared radius is uniform.
    assert abs((eigenvalues.abs() ** 2).mean() - (0.16 + 0.64) / 2) < 0.03
    _, (state,) = Recurrent(cell)(torch.randn(60, 64, 3, dtype=torch.float64))
    assert 0.8 < state.h.abs().pow(2).mean() < 1.2


def test_a_selective_lru_starts_as_an_lru_and_then_turns_as_its_input_says():
    torch.manual_seed(1)
    plain = LRUCell(I, H)
    torch.manual_seed(1)
    cell, x = SelectiveLRUCell(I, H), torch.randn(7, B, I)
    assert torch.equal(cell.coefficients(x)[0], plain.coefficients(x)[0])
    torch.testing.assert_close(Recurrent(cell)(x)[0], Recurrent(plain)(x)[0])
    with torch.no_grad():
        cell.weight_theta.normal_()
    turned, eigenvalues = cell.coefficients(x)[0], cell.eigenvalues()
    torch.testing.assert_close(turned.abs(), eigenvalues.abs().expand_as(turned))
    torch.testing.assert_close(turned / eigenvalues, torch.exp(1j * (x @ cell.weight_theta.T)))
    cell.reset_parameters()
    assert not cell.weight_theta.any() and type(cell.respawn(5)) is SelectiveLRUCell


def test_lru_in_half_precision_keeps_single_precision_states():
    cell = LRUCell(I, H, dtype=torch.bfloat16)
    y, state = cell(torch.randn(B, I, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16 and state.h.dtype == torch.complex64


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ElmanCell(I, H, "selu"), ValueError, "nonlinearity='selu'.*'tanh', 'relu', 'sigmoid', 'identity'"),
        (lambda: IndRNNCell(I, H, "sigmoid"), ValueError, "nonlinearity='sigmoid'"),
        (lambda: JordanCell(I, H, decay=1.0), ValueError, r"\[0, 1\), got: 1.0"),
        (lambda: JordanCell(I, H, decay=0.0, learnable=True), ValueError, "to be learned"),
        (lambda: JordanCell(I, H, output_size=0), ValueError, "output_size must be at least 1"),
        (lambda: GatedLSTMCell(I, H, proj_size=H), ValueError, "proj_size must be smaller than hidden_size"),
        (lambda: GatedLSTMCell(I, H, proj_size=-1), ValueError, "proj_size must be at least 0"),
        (lambda: GatedGRUCell(I, H, bias="double"), TypeError, "bias should be True, False or 'single'"),
        (lambda: CIFGCell(I, 0), ValueError, "hidden_size must be greater than zero"),
        (lambda: CIFGCell(I, 1.5), TypeError, "hidden_size should be of type int, got: float"),
        (lambda: LayerNormLSTMCell(I, H, norm_cell="inside"), ValueError, "norm_cell='inside'.*'output', 'state'"),
        (lambda: StateSpaceCell(I, H, transition_size=2.0), TypeError, "transition_size should be of type int"),
        (lambda: NARXCell(I, H, output_taps=0), ValueError, "output_taps must be at least 1"),
        (lambda: NARXCell(I, H, O).forced(torch.zeros(T, B, I), torch.zeros(T, B, 1)), ValueError, r"\(5, 2, 2\)"),
        (lambda: LRUCell(I, H, r_min=0.9, r_max=0.5), ValueError, "r_min < r_max"),
        (lambda: LRUCell(I, H, max_phase=7.0), ValueError, "max_phase"),
        (lambda: MinGRUCell(0, H), ValueError, "input_size must be at least 1"),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_layer_norms_of_torch_and_of_the_equations_agree():
    a, gain, shift = torch.randn(3, H, dtype=torch.float64), torch.rand(H), torch.rand(H)
    expected = layer_norm(a, (H,), gain.double(), shift.double())
    torch.testing.assert_close(norm(a, gain.double(), shift.double()), expected, **FLOAT64)
