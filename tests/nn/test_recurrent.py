"""`Recurrent`: any cell over time equals the plainest loop, for all masks, resets, directions and stacks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from rnnlab.nn.explain import explain_backend
from rnnlab.nn.recurrent import Recurrent
from tests.nn.plain import (
    DTYPE,
    Leaky,
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


def test_a_cell_without_a_product_is_one_loop_over_time():
    cell = make("indrnn", dtype=torch.float32)
    for backwards in (False, True):
        x, mask = torch.randn(T, B, 3), flags(T, B)
        layer = Recurrent(cell.float(), go_backwards=backwards, return_all_states=True, backend="fused")
        output, (last,), (states,) = layer(x, mask=mask)
        actual = gradients(cell, output)
        y, final, every = plainly(cell.double(), x.double(), mask=mask, reverse=backwards)
        close = {"rtol": 1e-5, "atol": 1e-6, "check_dtype": False}
        torch.testing.assert_close((output, last.h), (y, final[0]), **close)
        torch.testing.assert_close(states.h, torch.stack([state[0] for state in every]), **close)
        torch.testing.assert_close(actual, gradients(cell, y.float()), **close)


@pytest.mark.interpret
@pytest.mark.parametrize("kind", ["two", "decay", "indrnn"])
def test_equals_the_plain_loop_on_triton(kind):
    cell = make(kind, dtype=torch.float32)
    x, mask = torch.randn(4, 2, 3), flags(4, 2)
    reset = flags(4, 2, p=0.3) if kind == "two" else None
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
    expected = [torch.stack(parts) for parts in zip(*every, strict=True)]
    wanted = gradients(layer, y, *expected)
    for steps in (None, 2):
        layer.checkpoint_steps = steps
        output, (last,), (states,) = layer(x.transpose(0, 1), state, mask=mask.t(), reset=reset.t())
        assert_close(output.transpose(0, 1), y)
        assert_close(tuple(last), final)
        assert type(states) is type(last)
        turned = [part.transpose(0, 1) for part in states]
        assert_close(turned, expected)
        assert_close(gradients(layer, output.transpose(0, 1), *turned), wanted)


def test_all_states_of_a_stack():
    layer = Recurrent(make("torch-lstm"), 2, bidirectional=True, return_all_states=True, backend="eager")
    output, last, states = layer(randn(T, B, 3))
    assert len(states) == 4
    assert_close(torch.cat([states[2].h, states[3].h], -1), output)
    assert_close(states[1].c[0], last[1].c)


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
