"""`checkpoint_steps`: less is kept until backward, and no number changes."""

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnnlab.nn import cells
from rnnlab.nn.cells import GatedGRUCell
from rnnlab.nn.recurrent import Recurrent
from rnnlab_kernels.schedules.node import nothing_kept
from tests.nn.plain import (
    CHAINS,
    DTYPE,
    assert_close,
    every_kind,
    factory,
    flags,
    gradients,
    make,
    randn,
)

T, B, P = 5, 3, 0.4


@every_kind
@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_checkpointing_changes_no_gradient(kind, steps):
    options = {"recurrent_dropout": P, "weight_dropout": P} if kind in CHAINS else {}
    whole = Recurrent(factory(kind), 2, input_size=3, bidirectional=True, zoneout=P, clip_grad_step=1.0, **options)
    parts = copy.deepcopy(whole)
    parts.checkpoint_steps = steps
    x, mask, reset, found = randn(T, B, 3), flags(T, B), flags(T, B, p=0.3), []
    for layer in (whole, parts):
        torch.manual_seed(0)
        leaf = x.clone().requires_grad_()
        output, state = layer(leaf, mask=mask, reset=reset)
        grads = gradients(layer, output, *(part for each in state for part in each))
        found.append((output, [tuple(each) for each in state], grads, leaf.grad))
    assert_close(found[1], found[0])


def test_checkpointing_a_cell_that_draws_numbers_of_its_own():
    cell = make("opaque")
    cell.read = nn.Sequential(cell.read, nn.Dropout(0.5))
    found = []
    for steps in (None, 2):
        torch.manual_seed(0)
        found.append(gradients(cell, Recurrent(cell, checkpoint_steps=steps)(torch.ones(T, B, 3, dtype=DTYPE))[0]))
    assert_close(found[1], found[0])


class DroppedOutput(GatedGRUCell):
    """A cell with a kernel that draws numbers of its own outside of the recurrence."""

    def outputs(self, y):
        return nn.functional.dropout(y, P)


def test_checkpointing_what_a_cell_draws_around_the_recurrence():
    cell, found = DroppedOutput(3, 4, dtype=DTYPE), []
    for steps in (None, T):
        torch.manual_seed(0)
        found.append(gradients(cell, Recurrent(cell, checkpoint_steps=steps)(torch.ones(T, B, 3, dtype=DTYPE))[0]))
    assert_close(found[1], found[0])


@pytest.mark.parametrize("kind", ["gru", "decay", "opaque"])
def test_checkpointing_uses_the_parameters_of_the_call(kind):
    layer, x, found = Recurrent(factory(kind), input_size=3), randn(T, B, 3), []
    given = {name: (2 * weight.detach()).requires_grad_() for name, weight in layer.named_parameters()}
    for steps in (None, 2):
        layer.checkpoint_steps = steps
        output = torch.func.functional_call(layer, given, (x,))[0]
        found.append(torch.autograd.grad(output.square().sum(), list(given.values())))
    assert_close(found[1], found[0])

    output = layer(x)[0]
    with torch.no_grad():
        next(layer.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_checkpointing_keeps_less_until_backward():
    kept_numbers = []
    for steps in (None, 4):
        layer = Recurrent(make("opaque"), checkpoint_steps=steps)
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(randn(64, B, 3))
        kept_numbers.append(count)
    assert kept_numbers[1] < kept_numbers[0] / 4


SINGLE = {
    "lstm": lambda: cells.GatedLSTMCell(3, 4),
    "projection": lambda: cells.GatedLSTMCell(3, 4, proj_size=2),
    "layer norm": lambda: cells.LayerNormLSTMCell(3, 4),
    "reset before": lambda: cells.GatedGRUCell(3, 4, reset_after=False),
    "jordan": lambda: cells.JordanCell(3, 4),
    "indrnn": lambda: cells.IndRNNCell(3, 4),
    "min_gru": lambda: cells.MinGRUCell(3, 4),
}


def eighths(values):
    """Return values whose products add up without rounding, in whatever order BLAS takes them for so many rows."""
    return (8 * values).round() / 8


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("reverse", [False, True])
def test_compiled_windows_give_the_numbers_of_the_whole(name, reverse):
    layer, x, found = Recurrent(SINGLE[name](), zoneout=P, bidirectional=reverse), eighths(torch.randn(T, B, 3)), []
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(eighths(parameter))
    mask, reset = flags(T, B), flags(T, B, p=0.3)
    for steps in (None, 1, 2):
        layer.checkpoint_steps = steps
        torch.manual_seed(0)
        leaf = x.clone().requires_grad_()
        output, state = layer(leaf, mask=mask, reset=reset)
        grads = gradients(layer, output, *(part for each in state for part in each))
        found.append((output, [tuple(each) for each in state], grads, leaf.grad))
    for windows in found[1:]:
        assert torch.equal(windows[0], found[0][0])
        assert_close(windows, found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SINGLE)
def test_nothing_is_kept_of_a_pass_that_is_run_again(name):
    layer, steps = Recurrent(SINGLE[name]()), 64
    found = []
    for context in (nullcontext, nothing_kept):
        kept: dict[int, int] = {}
        shapes: list[tuple[torch.Size, torch.dtype]] = []

        def pack(tensor: Tensor, kept: dict[int, int] = kept, shapes: list[Any] = shapes) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            shapes.append((tensor.shape, tensor.dtype))
            return tensor

        x = torch.randn(steps, B, 3, generator=torch.Generator().manual_seed(0))
        with context(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = layer(x)[0]
        found.append((output, shapes, sum(kept.values())))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[1][2] <= found[0][2] - steps * B * 4 * 4  # the states at least
