"""`checkpoint_steps`: less is kept until backward, and no number changes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from rnnlab.nn.cells import GatedGRUCell
from rnnlab.nn.recurrent import Recurrent
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
