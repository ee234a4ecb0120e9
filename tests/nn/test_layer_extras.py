"""What RNN, LSTM and GRU have beyond torch's: resets and regularisers, against a plain loop with the same masks.

Letters: T time, B batch, I input_size, H hidden_size, P proj_size or H, L layers, D directions.
"""

import copy
import pickle
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from rnnlab.nn.cells import ElmanCell, GatedGRUCell, GatedLSTMCell
from rnnlab.nn.explain import explain_backend
from rnnlab.nn.options import WEIGHT, Regularisation
from rnnlab.nn.recurrent import Recurrent
from rnnlab_kernels.launch import has_numba
from rnnlab_kernels.schedules.noise.masks import draw_seed
from tests.covering import few
from tests.nn.cases import assert_same_run, build, map_state, named, random_state, states
from tests.nn.plain_layer import bits, plainly
from tests.tolerances import FLOAT64

DTYPE = torch.float64
T, B, I, H, P = 6, 3, 3, 4, 0.4  # noqa: E741
States = tuple[Tensor, ...]
KINDS = ("RNN_TANH", "GRU", "LSTM")
RATES: dict[str, dict[str, Any]] = {
    name: {name: P}
    for name in ("input_dropout", "output_dropout", "recurrent_dropout", "candidate_dropout", "weight_dropout")
}
RATES["zoneout"] = {"zoneout": 0.3}
ALL = {name: p for options in RATES.values() for name, p in options.items()}
LENGTHS = [6, 0, 4]

every_kind = pytest.mark.parametrize("kind", KINDS)
every_rate = pytest.mark.parametrize("options", [*RATES.values(), ALL], ids=[*RATES, "all"])


def options_of(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an Elman network cannot have."""
    return {name: p for name, p in options.items() if name != "candidate_dropout" or not kind.startswith("RNN")}


def make(kind: str, num_layers: int = 2, bidirectional: bool = True, dtype: Any = DTYPE, **options: Any) -> Any:
    options = options_of(kind, options)
    return build(rnnlab.nn, kind, I, H, num_layers, bidirectional=bidirectional, dtype=dtype, **options)


def inputs(module: Any, batch: int = B) -> tuple[Tensor, Any]:
    """Draw an input (T, B, I) and a state, both with gradients."""
    hx = map_state(lambda state: state.requires_grad_(), random_state(module, batch))
    return torch.randn(T, batch, I, dtype=DTYPE).requires_grad_(), hx


def with_gradients(module: Any, x: Tensor, hx: Any, result: Any) -> Any:
    """Return what a call gave out, and the gradients of input, states and parameters."""
    values = named(result)
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(value.shape, generator=generator, dtype=value.dtype) for value in values.values()]
    leaves = {"input": x, **{f"hx{k}": s for k, s in enumerate(states(hx))}, **dict(module.named_parameters())}
    found = torch.autograd.grad(list(values.values()), list(leaves.values()), upstream)
    return {name: value.detach() for name, value in values.items()}, dict(zip(leaves, found, strict=True))


def seeded(call: Any, *args: Any, seed: int = 3, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return call(*args, **kwargs)


@every_kind
@every_rate
@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_equals_a_plain_loop_with_the_same_masks(kind, options, backend):
    module = make(kind, backend=backend, **options)
    x, hx = inputs(module)
    reset = torch.rand(T, B) < 0.3
    expected = with_gradients(module, x, hx, seeded(plainly, module, x, hx, LENGTHS, reset))
    actual = with_gradients(module, x, hx, seeded(module, x, hx, lengths=LENGTHS, reset=reset))
    assert_same_run(actual, expected, **FLOAT64)
    module.eval()
    expected = with_gradients(module, x, hx, plainly(module, x, hx, LENGTHS, reset))
    assert_same_run(with_gradients(module, x, hx, module(x, hx, lengths=LENGTHS, reset=reset)), expected, **FLOAT64)


@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_a_projecting_lstm_with_rates_by_name(backend):
    module = make("LSTM", proj_size=2, backend=backend, **ALL | {"zoneout": {"c": 0.3}})
    assert module.regularisation.zoneout == (0.0, 0.3)
    x, hx = inputs(module)
    expected = with_gradients(module, x, hx, seeded(plainly, module, x, hx))
    assert_same_run(with_gradients(module, x, hx, seeded(module, x, hx)), expected, **FLOAT64)


@every_kind
@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_gradients_are_clamped_at_each_step(kind, backend):
    module, limit = make(kind, backend=backend, clip_grad_step=0.05), 0.05
    x, hx = inputs(module)
    reset = torch.rand(T, B) < 0.2
    free = make(kind, backend=backend)
    free.load_state_dict(module.state_dict())
    expected = with_gradients(module, x, hx, plainly(module, x, hx, LENGTHS, reset, limit))
    actual = with_gradients(module, x, hx, module(x, hx, lengths=LENGTHS, reset=reset))
    assert_same_run(actual, expected, **FLOAT64)
    loose = with_gradients(free, x, hx, free(x, hx, lengths=LENGTHS, reset=reset))
    torch.testing.assert_close(loose[0], actual[0], rtol=0, atol=0)
    assert not torch.allclose(loose[1]["weight_hh_l0"], actual[1]["weight_hh_l0"])


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", "aten"])
def test_what_is_off_changes_no_bit_and_draws_no_number(kind, backend):
    plain = make(kind, backend=backend)
    off = make(kind, backend=backend, **dict.fromkeys(ALL, 0.0), clip_grad_step=None)
    assert off.regularisation == plain.regularisation == Regularisation()
    off.load_state_dict(plain.state_dict())
    x, hx = inputs(plain)
    before = torch.get_rng_state()
    actual, expected = (with_gradients(module, x, hx, module(x, hx)) for module in (off, plain))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_run(actual, expected, rtol=0, atol=0)


@every_kind
@every_rate
def test_training_draws_by_the_seed_and_evaluation_draws_nothing(kind, options):
    if not options_of(kind, options):
        options = {"zoneout": 0.5}  # an Elman network has no candidate
    module = make(kind, **options)
    x, hx = inputs(module)
    first, same, other = (seeded(module, x, hx, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, same) and not torch.equal(first, other)
    module.eval()
    before = torch.get_rng_state()
    assert torch.equal(module(x, hx)[0], module(x, hx)[0])
    assert torch.equal(torch.get_rng_state(), before)
    plain = make(kind).eval()
    plain.load_state_dict(module.state_dict())
    assert torch.allclose(plain(x, hx)[0], module(x, hx)[0]) == ("zoneout" not in options)


def test_zoneout_in_evaluation_is_the_expectation_of_one_step():
    """One step of an Elman network is linear in the mask, so that its mean over masks is the step with their mean."""
    module = make("RNN_TANH", 1, False, zoneout=0.3)
    h = torch.randn(1, 20_000, H, dtype=DTYPE)[:, :1].expand(1, 20_000, H)
    x = torch.randn(1, 1, I, dtype=DTYPE).expand(1, 20_000, I)
    mean = module(x, h)[0].mean(1)
    span = (h[0, 0] - make_plain(module)(x[:, :1], h[:, :1])[0][0, 0]).abs().max().item()
    error = (mean - module.eval()(x[:, :1], h[:, :1].contiguous())[0][0]).abs().max().item()
    assert error < 4 * span * (0.3 * 0.7 / 20_000) ** 0.5, "four standard deviations of the mean"


def make_plain(module: Any) -> Any:
    """Return the layer without regularisers and with the same weights."""
    plain = copy.deepcopy(module)
    plain.regularisation = Regularisation()
    return plain


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
@pytest.mark.parametrize("layout", ["time first", "batch first", "unbatched"])
def test_resets_split_a_row_into_sequences_in_both_directions(kind, backend, layout):
    module = make(kind, backend=backend, batch_first=layout == "batch first")
    x, reset = torch.randn(T, 1, I, dtype=DTYPE), torch.zeros(T, 1, dtype=torch.bool)
    reset[2] = reset[3] = True
    turn = {"time first": lambda v: v, "batch first": lambda v: v.transpose(0, 1), "unbatched": lambda v: v[:, 0]}
    output, final = module(turn[layout](x), reset=turn[layout](reset))
    module.batch_first = False
    pieces = [module(part) for part in (x[:2], x[2:3], x[3:])]
    torch.testing.assert_close(output, turn[layout](torch.cat([piece[0] for piece in pieces])), **FLOAT64)
    forward, backward = states(pieces[-1][1]), states(pieces[0][1])
    for mine, ahead, back in zip(states(final), forward, backward, strict=True):
        expected = torch.stack([(back if k % 2 else ahead)[k] for k in range(4)])
        torch.testing.assert_close(mine, expected[:, 0] if layout == "unbatched" else expected, **FLOAT64)


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
def test_resets_beyond_a_rows_length_do_nothing(kind, backend):
    module = make(kind, backend=backend)
    x, hx = inputs(module)
    inside = torch.arange(T)[:, None] < torch.tensor(LENGTHS)
    reset = torch.rand(T, B) < 0.4
    reset[0] = False
    found = [module(x, hx, lengths=LENGTHS, reset=flags) for flags in (reset, reset & inside, reset | ~inside)]
    assert_same_run((named(found[1]), {}), (named(found[0]), {}), rtol=0, atol=0)
    assert_same_run((named(found[2]), {}), (named(found[0]), {}), rtol=0, atol=0)
    for state, given in zip(states(found[2][1]), states(hx), strict=True):
        assert torch.equal(state[:, 1], given[:, 1]), "a row of length zero keeps its state"
    for row, length in ((0, 6), (2, 4)):
        one = slice(row, row + 1)
        start = map_state(lambda state, one=one: state[:, one], hx)
        alone, last = module(x[:length, one], start, reset=reset[:length, one])
        torch.testing.assert_close(found[2][0][:length, one], alone, **FLOAT64)
        for mine, theirs in zip(states(found[2][1]), states(last), strict=True):
            torch.testing.assert_close(mine[:, one], theirs, **FLOAT64)


@every_kind
def test_packed_sequences_are_regularised_like_padded_ones(kind):
    module = make(kind, **ALL, clip_grad_step=1.0)
    x, hx = inputs(module)
    lengths = torch.tensor([6, 4, 1])
    output, final = seeded(module, pack_padded_sequence(x, lengths), hx)
    actual = with_gradients(module, x, hx, (pad_packed_sequence(output)[0], final))
    expected = with_gradients(module, x, hx, seeded(module, x, hx, lengths=lengths))
    assert_same_run(actual, expected, **FLOAT64)
    unsorted = pack_padded_sequence(x, torch.tensor([4, 6, 1]), enforce_sorted=False)
    assert seeded(module, unsorted, hx)[0].data.isfinite().all()


@every_kind
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
def test_steps_in_evaluation_equal_one_call(kind, num_layers, backend):
    module = make(kind, num_layers, False, backend=backend, **ALL, clip_grad_step=1.0).eval()
    x, hx = inputs(module)
    expected, state, outputs = module(x, hx), hx, []
    for x_t in x:
        y_t, state = module.step(x_t, state)
        outputs.append(y_t)
    assert_same_run((named((torch.stack(outputs), state)), {}), (named(expected), {}), **FLOAT64)


@every_kind
def test_a_step_in_training_is_regularised(kind):
    module = make(kind, 1, False, recurrent_dropout=1.0, weight_dropout=0.0)
    x, hx = inputs(module)
    y, state = module.step(x[0], hx)
    expected, last = module(x[:1], hx)
    torch.testing.assert_close(named((y, state)), named((expected[0], last)), **FLOAT64)
    assert not torch.allclose(y, make_plain(module).step(x[0], hx)[0])


@pytest.mark.parametrize("proj_size", [0, 2])
@every_kind
def test_one_seed_draws_the_masks_of_recurrent(kind, proj_size):
    if proj_size and kind != "LSTM":
        return
    projection = {"proj_size": proj_size} if proj_size else {}
    layer = make(kind, **projection, **ALL)
    cell_type = {"RNN_TANH": ElmanCell, "GRU": GatedGRUCell, "LSTM": GatedLSTMCell}[kind]
    cell = cell_type(I, H, dtype=DTYPE, **projection)
    other = Recurrent(cell, 2, True, **options_of(kind, ALL))
    parameters = layer.parameters()
    for mine in other.cells:
        mine.load_state_dict({name: next(parameters).detach() for name, _ in mine.named_parameters()})
    x, lengths = torch.randn(T, B, I, dtype=DTYPE), torch.tensor(LENGTHS)
    expected, finals = seeded(other, x, lengths=lengths)
    actual, hidden = seeded(layer, x, lengths=lengths)
    torch.testing.assert_close(actual, expected, **FLOAT64)
    for k, parts in enumerate(zip(*finals, strict=True)):
        torch.testing.assert_close(states(hidden)[k], torch.stack(parts), **FLOAT64)


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", "aten"])
def test_weight_dropout_overwrites_no_parameter(kind, backend):
    module = make(kind, 1, False, weight_dropout=P, backend=backend)
    before = copy.deepcopy(module.state_dict())
    x, hx = inputs(module)
    expected = seeded(plainly, module, x, hx)
    output, final = seeded(module, x, hx)
    torch.testing.assert_close(named((output, final)), named(expected), **FLOAT64)
    output.sum().backward()
    assert list(module.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    torch.manual_seed(3)
    mask = bits(draw_seed(), WEIGHT, *module.weight_hh_l0.shape, p=P).bool()
    assert module.weight_hh_l0.grad[~mask].eq(0).all() and module.weight_hh_l0.grad[mask].ne(0).any()


@pytest.mark.skipif(not has_numba(), reason="needs Numba")
@pytest.mark.parametrize("kind", few(["GRU", "LSTM"], ["GRU"]))
def test_compiled_loops_take_transposed_states_and_resets(kind):
    """Where(reset, ...) of a transposed mask is transposed, too, beside masks that are not."""
    options = {"num_layers": 1, "bidirectional": False, "batch_first": True, "candidate_dropout": P}
    module = make(kind, dtype=torch.float32, backend="fused", **options)
    x, reset = torch.randn(B, T, I), torch.rand(B, T) < 0.3
    hx = map_state(lambda state: state.transpose(1, 2).contiguous().transpose(1, 2), random_state(module, B))
    results = []
    for backend in ("fused", "reference"):
        module.backend = backend
        leaf = x.clone().requires_grad_()
        results.append(with_gradients(module, leaf, None, seeded(module, leaf, hx, reset=reset)))
    assert_same_run(*results)


def test_refuses_arguments():
    for options, error, message in (
        ({"zonout": 0.1}, TypeError, "unexpected keyword argument 'zonout'. Did you mean 'zoneout'?"),
        ({"drop_out": 0.1}, TypeError, "got an unexpected keyword argument 'drop_out'"),
        ({"recurrent_dropout": 1.5}, ValueError, r"recurrent_dropout should be a probability in \[0, 1\], got: 1.5"),
        ({"input_dropout": True}, ValueError, "input_dropout should be a probability"),
        ({"weight_dropout": "0.1"}, ValueError, "weight_dropout should be a probability"),
        ({"zoneout": -0.1}, ValueError, "zoneout should be a probability"),
        ({"zoneout": (0.1, 0.2, 0.3)}, ValueError, "zoneout has 3 rates, the cell has 2 states: h, c"),
        ({"zoneout": {"m": 0.1}}, ValueError, "zoneout names m; the states are c, h"),
        ({"clip_grad_step": 0}, ValueError, "clip_grad_step should be a positive number, got: 0"),
    ):
        with pytest.raises(error, match=message):
            rnnlab.nn.LSTM(I, H, **options)
    with pytest.raises(ValueError, match="candidate_dropout needs a cell with a candidate"):
        rnnlab.nn.RNN(I, H, candidate_dropout=0.1)


def test_refuses_calls():
    module, x, truth = rnnlab.nn.GRU(I, H), torch.zeros(T, B, I), torch.ones(T, B, dtype=torch.bool)
    packed = pack_padded_sequence(x, torch.tensor([6, 4, 2]))
    for call, error, message in (
        (lambda: module(x, reset=truth.float()), TypeError, "reset should be a boolean tensor, got: dtype torch.float"),
        (lambda: module(x, reset=[True] * T), TypeError, "reset should be a boolean tensor, got: list"),
        (lambda: module(x, reset=truth.t()), ValueError, r"reset should have shape \(6, 3\).*got \(3, 6\)"),
        (lambda: module(x[:, 0], reset=truth), ValueError, r"reset should have shape \(6,\).*got \(6, 3\)"),
        (lambda: module(x, reset=truth.to("meta")), RuntimeError, "Input and reset are not on the same device"),
        (lambda: module(packed, reset=truth), ValueError, "a PackedSequence brings its own lengths"),
    ):
        with pytest.raises(error, match=message):
            call()
    for options, given, words in (
        ({"zoneout": 0.1}, {}, "zoneout"),
        ({"clip_grad_step": 1.0}, {}, "clipping of gradients between steps"),
        ({"candidate_dropout": 0.1}, {}, "dropout with one mask a sequence or inside the recurrence"),
        ({}, {"reset": truth}, "resets"),
    ):
        aten = rnnlab.nn.GRU(I, H, backend="aten", **options)
        with pytest.raises(RuntimeError, match=f"torch's own kernels know no {words}"):
            aten(x, **given)
    rnnlab.nn.GRU(I, H, backend="aten", candidate_dropout=0.1).eval()(x)


def test_the_explanation_of_a_backend_gives_the_reason():
    for options, words in (
        ({"zoneout": 0.1}, "torch's own kernels know no zoneout"),
        ({"clip_grad_step": 1.0}, "know no clipping of gradients between steps"),
        ({"input_dropout": 0.1}, "know no dropout with one mask a sequence or inside the recurrence"),
    ):
        assert words in explain_backend(rnnlab.nn.LSTM(I, H, **options))
    module = rnnlab.nn.LSTM(I, H, recurrent_dropout=0.1, weight_dropout=0.1)
    assert "LSTM: aten" not in explain_backend(module)
    assert explain_backend(module.eval()) == explain_backend(rnnlab.nn.LSTM(I, H).eval())
    plain = rnnlab.nn.LSTM(I, H)  # dropout of weights is no other recurrence
    assert explain_backend(rnnlab.nn.LSTM(I, H, weight_dropout=0.1)) == explain_backend(plain)


@every_kind
def test_a_batch_size_that_is_a_symbol_has_a_backend(kind):
    x = FakeTensorMode(shape_env=ShapeEnv()).from_tensor(torch.zeros(T, B, I))
    module = build(rnnlab.nn, kind, I, H)
    assert not isinstance(x.shape[1], int)
    assert ": aten (" in explain_backend(module, x)
    assert x.fake_mode.shape_env.guards == []


@every_kind
def test_layers_pickled_without_regularisers_load(kind):
    module = make(kind).eval()
    old = {name: value for name, value in module.__getstate__().items() if name not in ("regularisation", "backend")}
    loaded = type(module).__new__(type(module))
    loaded.__setstate__(old)
    assert loaded.regularisation == Regularisation() and loaded.backend == "auto"
    x, hx = inputs(module)
    assert torch.equal(loaded(x, hx)[0], module(x, hx)[0])
    module = make(kind, **ALL, clip_grad_step=0.5)
    for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert other.regularisation == module.regularisation
        assert torch.equal(seeded(other, x, hx)[0], seeded(module, x, hx)[0])


def test_repr_shows_what_was_asked_for():
    text = repr(rnnlab.nn.LSTM(I, H, 2, zoneout={"c": 0.1}, weight_dropout=0.2, clip_grad_step=1.0, backend="eager"))
    assert text == (
        "LSTM(3, 4, num_layers=2, backend=eager, weight_dropout=0.2, zoneout=(0.0, 0.1), clip_grad_step=1.0)"
    )
    assert repr(rnnlab.nn.GRU(I, H, input_dropout=0.0)) == repr(torch.nn.GRU(I, H))


def test_states_of_any_form_are_detached():
    pair = namedtuple("pair", "h c")
    leaf = torch.zeros(2, requires_grad=True)
    found = rnnlab.nn.detach_state((pair(leaf * 1, leaf * 2), (leaf * 3, pair(leaf, (leaf,))), leaf))
    assert type(found) is tuple and type(found[0]) is pair and type(found[1]) is tuple and type(found[1][1]) is pair
    assert not any(part.requires_grad for part in (*found[0], found[1][0], found[1][1].h, found[1][1].c[0], found[2]))
    assert (
        type(rnnlab.nn.detach_state(rnnlab.nn.Recurrent(rnnlab.nn.LSTMCell(I, H), 2).initial_state(B))[1].c) is Tensor
    )
