"""Dropout: between layers only, in training only, one fresh mask for each element and step."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import rnnlab.nn
from tests.nn.cases import assert_same_run, build, every_kind, named, pair, randn, run, tolerance, working_dtype
from tests.tolerances import FLOAT64

every_backend = pytest.mark.parametrize("backend", ["auto", "reference", "eager", "aten"])


def pass_through(num_layers: int, dropout: float, **options) -> tuple[torch.nn.Module, Tensor]:
    """A ReLU network whose every layer repeats its positive input, so that its output is input times masks."""
    module = build(rnnlab.nn, "RNN_RELU", 8, 8, num_layers, dropout=dropout, dtype=torch.float64, **options)
    for name, parameter in module.named_parameters():
        torch.nn.init.zeros_(parameter)
        if name.startswith("weight_ih"):
            torch.nn.init.eye_(parameter)
    return module, torch.rand(20, 30, 8, dtype=torch.float64) + 0.5


@every_backend
@pytest.mark.parametrize("num_layers", [2, 3])
def test_mask_is_between_layers_and_scaled(num_layers, backend):
    module, x = pass_through(num_layers, 0.25, backend=backend)
    mask = module(x)[0] / x
    kept = (4 / 3) ** (num_layers - 1)
    assert ((mask == 0) | torch.isclose(mask, torch.tensor(kept, dtype=working_dtype(backend)))).all()
    share = (mask == 0).double().mean().item()
    assert abs(share - (1 - 0.75 ** (num_layers - 1))) < 0.03, "4800 draws: three standard deviations are 0.02"


@every_backend
def test_mask_is_fresh_for_each_step_row_and_unit(backend):
    module, x = pass_through(2, 0.5, backend=backend)
    mask = (module(x)[0] / x).ne(0)
    for dim in range(3):
        slices = mask.unbind(dim)
        assert not any(torch.equal(a, b) for a, b in zip(slices, slices[1:], strict=False))
    assert not torch.equal((module(x)[0] / x).ne(0), mask), "the next call draws its own mask"


@every_backend
def test_gradient_passes_through_the_same_mask(backend):
    module, x = pass_through(2, 0.5, backend=backend)
    x.requires_grad_()
    output, _ = module(x)
    output.sum().backward()
    torch.testing.assert_close(x.grad, (output / x).detach(), **tolerance(backend))


@every_kind
@every_backend
def test_eval_mode_and_p_zero_drop_nothing(kind, backend):
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True, dropout=0.5, backend=backend)
    x = randn(5, 2, 3, backend=backend)
    assert_same_run(run(ours.eval(), x), run(theirs.eval(), x), **tolerance(backend))
    ours.dropout = theirs.dropout = 0.0
    assert_same_run(run(ours.train(), x), run(theirs.train(), x), **tolerance(backend))


@every_kind
@every_backend
def test_p_one_feeds_zeros_to_the_next_layer(kind, backend):
    ours, theirs = pair(kind, 3, 4, 3, bidirectional=True, dropout=1.0, backend=backend)
    x = randn(5, 2, 3, backend=backend)
    assert_same_run(run(ours, x), run(theirs, x), **tolerance(backend))


@every_kind
@every_backend
def test_same_seed_same_result(kind, backend):
    module, x = build(rnnlab.nn, kind, 3, 4, 2, dropout=0.5, backend=backend), torch.randn(5, 2, 3)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(named(module(x))["output"])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@every_kind
@every_backend
def test_states_of_the_first_layer_are_not_dropped(kind, backend):
    ours, theirs = pair(kind, 3, 4, 2, dropout=0.5, backend=backend)
    x = randn(5, 2, 3, backend=backend)
    torch.testing.assert_close(named(ours(x))["h_n"][0], named(theirs(x))["h_n"][0], **tolerance(backend))


@every_kind
def test_dropout_works_with_lengths_and_packed_input(kind):
    module = build(rnnlab.nn, kind, 3, 16, 2, dropout=0.5)
    x, lengths = torch.randn(5, 2, 3), torch.tensor([2, 5])
    output, _ = module(x, lengths=lengths)
    assert output[2:, 0].eq(0).all()
    assert not torch.equal(module(x, lengths=lengths)[0], output)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    assert not torch.equal(module(packed)[0].data, module(packed)[0].data)


@every_kind
@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_steps_drop_what_sequences_drop(kind, dropout):
    ours, _ = pair(kind, 3, 4, 2, dropout=dropout)
    x, state, outputs = randn(5, 2, 3), None, []
    for x_t in x:
        y_t, state = ours.step(x_t, state)
        outputs.append(y_t)
    torch.testing.assert_close(named((torch.stack(outputs), state)), named(ours(x)), **FLOAT64)
    ours.eval()
    torch.testing.assert_close(ours.step(x[0])[0], ours(x[:1])[0][0], **FLOAT64)
