"""`Recurrent`: any cell over time equals the plainest loop, for all masks, resets, directions and stacks."""

import copy
import functools
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from rnnlab.nn.backend import explain_backend
from rnnlab.nn.recurrent import Recurrent
from tests.nn.plain import (
    CHAINS,
    DTYPE,
    KINDS,
    Decay,
    Leaky,
    Opaque,
    assert_close,
    every_kind,
    factory,
    flags,
    gradients,
    make,
    plainly,
    randn,
    zeros,
)

T, B = 6, 3
OPTIONS = {"plain": "", "masked": "mask", "reset": "reset", "both": "mask reset"}


def backends(kind: str) -> list[str]:
    return ["reference"] if kind == "opaque" else ["reference", "eager"]


@every_kind
@pytest.mark.parametrize("given", OPTIONS)
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backwards"])
def test_equals_the_plain_loop(kind, given, backwards):
    cell, x = make(kind), randn(T, B, 3).requires_grad_()
    state = tuple(torch.randn_like(part) for part in zeros(cell, B))
    mask = flags(T, B) if "mask" in OPTIONS[given] else None
    reset = flags(T, B, p=0.3) if "reset" in OPTIONS[given] else None
    seen = reset
    if backwards and reset is not None:  # nothing passes between t - 1 and t
        seen = torch.cat([reset[1:], torch.zeros(1, B, dtype=torch.bool)])
    y, final, _ = plainly(cell, x, state, mask=mask, reset=seen, reverse=backwards)
    expected = gradients(cell, y, *final) | {"input": x.grad.clone()}
    for backend in backends(kind):
        layer = Recurrent(cell, go_backwards=backwards, backend=backend)
        x.grad = None
        output, (found,) = layer(x, state, mask=mask, reset=reset)
        assert_close(output, y)
        assert_close(tuple(found), final)
        actual = gradients(cell, output, *found) | {"input": x.grad}
        assert_close(actual, expected)


@pytest.mark.parametrize("kind", ["leaky", "decay", "opaque"])
def test_equals_the_plain_loop_in_single_precision(kind):
    """Compiled gate maths and scans."""
    cell = make(kind, dtype=torch.float32)
    x, mask, reset = torch.randn(T, B, 3), flags(T, B), flags(T, B, p=0.3)
    layer = Recurrent(cell)
    output, (state,) = layer(x, mask=mask, reset=reset)
    assert ("fused" in explain_backend(layer)) == (kind != "opaque")
    y, final, _ = plainly(cell.double(), x.double(), mask=mask, reset=reset)
    torch.testing.assert_close(output, y.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tuple(state), tuple(part.float() for part in final), rtol=1e-5, atol=1e-6)


@pytest.mark.interpret
@pytest.mark.parametrize("kind", ["two", "decay"])
def test_equals_the_plain_loop_on_triton(kind):
    cell = make(kind, dtype=torch.float32)
    x, mask, reset = torch.randn(4, 2, 3), flags(4, 2), flags(4, 2, p=0.3)
    output, _ = Recurrent(cell, backend="triton")(x, mask=mask, reset=reset)
    y, _, _ = plainly(cell.double(), x.double(), mask=mask, reset=reset)
    torch.testing.assert_close(output, y.float(), rtol=1e-5, atol=1e-6)


@every_kind
def test_layers_and_directions_are_runs_of_their_cells(kind):
    layer = Recurrent(factory(kind), 2, input_size=3, bidirectional=True)
    x, mask = randn(T, B, 3), flags(T, B)
    output, state = layer(x, mask=mask)
    for number in range(2):
        both = [plainly(layer.cells[2 * number + k], x, mask=mask, reverse=k == 1) for k in range(2)]
        x = torch.cat([y for y, _, _ in both], -1)
        for k in range(2):
            assert_close(tuple(state[2 * number + k]), both[k][1])
    assert_close(output, x)


def test_cells_of_one_stack_start_with_different_weights():
    layer = Recurrent(Leaky(3, 4), 3, bidirectional=True)
    weights = [cell.weight_hh for cell in layer.cells]
    assert all(not torch.equal(a, b) for k, a in enumerate(weights) for b in weights[:k])
    assert [cell.input_size for cell in layer.cells] == [3, 3, 8, 8, 8, 8]


@pytest.mark.parametrize("kind, mode", [("LSTM", nn.LSTM), ("GRU", nn.GRU), ("RNN", nn.RNN)])
@pytest.mark.parametrize("library", [nn, rnnlab.nn], ids=["torch", "rnnlab"])
def test_torch_cells_equal_torch_layers(kind, mode, library):
    theirs = mode(3, 4, 2, bidirectional=True, dtype=DTYPE)
    ours = Recurrent(getattr(library, f"{kind}Cell")(3, 4, dtype=DTYPE), 2, bidirectional=True)
    for k, cell in enumerate(ours.cells):
        suffix = f"_l{k // 2}" + ("_reverse" if k % 2 else "")
        cell.load_state_dict({name: getattr(theirs, name + suffix) for name in cell.state_dict()})
    x = randn(T, B, 3)
    expected, hx = theirs(x)
    output, state = ours(x)
    assert_close(output, expected)
    for number, part in enumerate(hx if kind == "LSTM" else (hx,)):
        assert_close(torch.stack([one[number] for one in state]), part)

    packed = pack_padded_sequence(x, torch.tensor([2, 6, 4]), enforce_sorted=False)
    expected, hx = theirs(packed)
    output, state = ours(packed)
    assert_close(output.data, expected.data)
    assert torch.equal(output.sorted_indices, packed.sorted_indices)
    assert_close(torch.stack([one.h for one in state]), hx[0] if kind == "LSTM" else hx)
    assert_close(pad_packed_sequence(output)[0], ours(x, lengths=[2, 6, 4])[0])


@every_kind
def test_lengths_are_a_mask_and_each_row_its_own_run(kind):
    layer = Recurrent(factory(kind), 2, input_size=3, bidirectional=True)
    x, lengths = randn(T, B + 1, 3), [2, 6, 0, 4]
    mask = torch.arange(T)[:, None] < torch.tensor(lengths)
    junk = torch.where(mask[..., None], x, torch.tensor([float("nan"), float("inf"), 1e30], dtype=DTYPE))
    junk.requires_grad_()
    output, state = layer(junk, lengths=lengths)
    output.sum().backward()
    assert junk.grad[~mask].eq(0).all()
    assert junk.grad.isfinite().all()
    assert_close((output, state), layer(x, mask=mask))
    assert output[~mask].eq(0).all()
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        if not length:
            assert all(part[one].eq(0).all() for each in state for part in each)
            continue
        alone, last = layer(x[:length, one])
        assert_close(output[:length, one], alone)
        assert_close([tuple(part[one] for part in each) for each in state], [tuple(each) for each in last])


@every_kind
def test_resets_split_a_row_into_sequences(kind):
    layer = Recurrent(factory(kind), 2, input_size=3, bidirectional=True)
    x = randn(7, 1, 3)
    reset = torch.zeros(7, 1, dtype=torch.bool)
    reset[3] = reset[4] = True
    apart = torch.cat([layer(part)[0] for part in (x[:3], x[3:4], x[4:])])
    assert_close(layer(x, reset=reset)[0], apart)


MERGED = {
    "concat": lambda a, b: torch.cat([a, b], -1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "mean": lambda a, b: (a + b) / 2,
}


@pytest.mark.parametrize("merge", [*MERGED, "none"])
def test_merges(merge):
    layer = Recurrent(make("leaky"), 2, True, merge)
    x = randn(T, B, 3)
    inner = MERGED.get(merge, MERGED["concat"])(
        *(plainly(cell, x, reverse=k == 1)[0] for k, cell in enumerate(layer.cells[:2]))
    )
    expected = tuple(plainly(cell, inner, reverse=k == 1)[0] for k, cell in enumerate(layer.cells[2:]))
    assert_close(layer(x)[0], expected if merge == "none" else MERGED[merge](*expected))
    packed = pack_padded_sequence(x, torch.tensor([6, 4, 2]))
    output = layer(packed)[0]
    for one in output if merge == "none" else (output,):
        assert torch.equal(one.batch_sizes, packed.batch_sizes)


def test_cells_of_different_sizes_and_kinds():
    layer = Recurrent([make("leaky", 3, 5), make("opaque", 5, 2), make("decay", 2, 7)], residual=False)
    x, mask = randn(T, B, 3), flags(T, B)
    output, state = layer(x, mask=mask)
    for cell in layer.cells:
        x, _, _ = plainly(cell, x, mask=mask)
    assert_close(output, x)
    assert [len(each) for each in state] == [1, 2, 1]
    text = explain_backend(layer)
    assert "layer 0 eager" in text and "layer 1 reference (plain loop: Opaque states no gate maths)" in text
    again = layer(x[..., :3], state, mask=mask)[1]
    assert [type(each) for each in again] == [type(each) for each in state]


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


def test_residual_where_widths_agree():
    layer = Recurrent(make("leaky"), 3, residual=True)
    x, mask = randn(T, B, 3), flags(T, B)
    y = plainly(layer.cells[0], x, mask=mask)[0]
    for cell in layer.cells[1:]:
        y = y + plainly(cell, y, mask=mask)[0]
    output = layer(x, mask=mask)[0]
    assert_close(output, y)
    assert output[~mask].eq(0).all()


def test_layer_norm_between_layers():
    layer = Recurrent(make("leaky"), 2, norm="layer")
    nn.init.normal_(layer.norms[0].bias)
    x = randn(T, B, 3)
    y = layer.norms[0](plainly(layer.cells[0], x)[0])
    assert len(layer.norms) == 1
    assert_close(layer(x)[0], plainly(layer.cells[1], y)[0])


def test_batch_norm_counts_valid_steps_only():
    layer = Recurrent(make("leaky"), 2, norm="batch")
    alone = copy.deepcopy(layer.norms[0])
    x, mask = randn(T, B, 3), flags(T, B)
    inner = plainly(layer.cells[0], x, mask=mask)[0]
    normed = torch.zeros_like(inner)
    normed[mask] = alone(inner[mask])
    assert_close(layer(x, mask=mask)[0], plainly(layer.cells[1], normed, mask=mask)[0])
    assert_close(layer.norms[0].running_mean, alone.running_mean)
    layer.eval(), alone.eval()
    normed = alone(plainly(layer.cells[0], x)[0].flatten(0, 1)).view(T, B, 4)
    assert_close(layer(x)[0], plainly(layer.cells[1], normed)[0])


@every_kind
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backwards"])
def test_all_states_on_request(kind, backwards):
    layer = Recurrent(make(kind), go_backwards=backwards, return_all_states=True, batch_first=True)
    x, mask, reset = randn(T, B, 3), flags(T, B), flags(T, B, p=0.3)
    state = tuple(torch.randn_like(part) for part in zeros(layer.cells[0], B))
    seen = torch.cat([reset[1:], torch.zeros(1, B, dtype=torch.bool)]) if backwards else reset
    y, final, every = plainly(layer.cells[0], x, state, mask=mask, reset=seen, reverse=backwards)
    output, (last,), (states,) = layer(x.transpose(0, 1), state, mask=mask.t(), reset=reset.t())
    assert_close(output.transpose(0, 1), y)
    assert_close(tuple(last), final)
    assert type(states) is type(last)
    for found, expected in zip(states, zip(*every, strict=True), strict=True):
        assert_close(found.transpose(0, 1), torch.stack(expected))


def test_all_states_of_a_stack():
    layer = Recurrent(make("torch-lstm"), 2, bidirectional=True, return_all_states=True)
    output, last, states = layer(randn(T, B, 3))
    assert len(states) == 4
    assert_close(torch.cat([states[2].h, states[3].h], -1), output)
    assert_close(states[1].c[0], last[1].c)
    assert "reference" in explain_backend(layer)


@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backwards"])
def test_masked_steps_can_repeat_the_output(backwards):
    layer = Recurrent(make("decay"), go_backwards=backwards, zero_output_for_mask=False)
    x, mask = randn(8, 4, 3), flags(8, 4, p=0.5)
    expected, _, _ = plainly(layer.cells[0], x, mask=mask, reverse=backwards)
    last = torch.zeros_like(expected[0])
    for t in range(8)[:: -1 if backwards else 1]:
        last = torch.where(mask[t, :, None], expected[t], last)
        expected[t] = last
    assert_close(layer(x, mask=mask)[0], expected)


def test_repeated_outputs_of_both_directions_and_a_residual():
    both = Recurrent(make("leaky", 3, 3), bidirectional=True, merge="sum", residual=True, zero_output_for_mask=False)
    x, mask = randn(T, 1, 3), torch.tensor([True, True, False, False, True, False])[:, None]
    valid = x[mask[:, 0]]
    forward, backward = plainly(both.cells[0], valid)[0], plainly(both.cells[1], valid, reverse=True)[0]
    ahead, back = torch.tensor([0, 1, 1, 1, 2, 2]), torch.tensor([0, 1, 2, 2, 2, 3])
    expected = forward[ahead] + torch.cat([backward, torch.zeros(1, 1, 3)])[back] + valid[ahead]
    assert_close(both(x, mask=mask)[0], expected)


@every_kind
def test_initial_states_can_be_learned(kind):
    layer = Recurrent(factory(kind), 2, input_size=3, learn_initial_state=True)
    x = randn(T, B, 3)
    assert_close(layer(x)[0], Recurrent(list(layer.cells))(x)[0])
    with torch.no_grad():
        for parameter in layer.learned.values():
            parameter.normal_()
    assert_close(layer(x), layer(x, layer.initial_state(B)))
    layer(x)[0].sum().backward()
    assert all(parameter.grad is not None and parameter.grad.ne(0).any() for parameter in layer.learned.values())
    assert {"h_l0", "h_l1"} <= set(layer.learned)


@every_kind
def test_layouts(kind):
    layer = Recurrent(factory(kind), 2, input_size=3, bidirectional=True)
    x, mask, reset = randn(T, B, 3), flags(T, B), flags(T, B, p=0.3)
    output, state = layer(x, mask=mask, reset=reset)
    first = copy.deepcopy(layer)
    first.batch_first = True
    turned, same = first(x.transpose(0, 1), mask=mask.t(), reset=reset.t())
    assert_close((turned.transpose(0, 1), same), (output, state))
    alone, one = layer(x[:, 0], mask=mask[:, 0], reset=reset[:, 0])
    assert_close(alone, output[:, 0])
    assert_close([tuple(each) for each in one], [tuple(part[0] for part in each) for each in state])
    assert_close(layer(x[:, 0], one)[0], layer(x, state)[0][:, 0])


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
    with pytest.raises(
        ValueError, match=f"{name} needs a cell that states its gate maths; {KINDS[kind].__name__} does"
    ):
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
