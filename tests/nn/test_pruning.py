"""Magnitude pruning: what is pruned, that it stays so, and that nothing else changes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

import rnnlab.nn
from rnnlab.nn.pruning import (
    finish_pruning,
    han_schedule,
    magnitude_prune,
    masks,
    plain_state_dict,
    sensitivity,
    set_masks,
    sparsity,
)
from tests.tolerances import FLOAT64

LAYERS = {
    "LSTM": lambda **options: rnnlab.nn.LSTM(3, 8, 2, dtype=torch.float64, **options),
    "GRU": lambda **options: rnnlab.nn.GRU(3, 8, 2, bidirectional=True, dtype=torch.float64, **options),
    "RNN": lambda **options: rnnlab.nn.RNN(3, 8, dtype=torch.float64, **options),
    "projection": lambda **options: rnnlab.nn.LSTM(3, 8, proj_size=4, dtype=torch.float64, **options),
}
BACKENDS = ["aten", "eager", "reference"]


class OwnCell(nn.Module):
    """A cell that is read, not called, as `Recurrent` does."""

    gates = ("a",)
    hidden_size = 8

    def __init__(self):
        super().__init__()
        self.weight_ih = nn.Parameter(torch.randn(8, 3))
        self.weight_hh = nn.Parameter(torch.randn(8, 8))
        self.bias = nn.Parameter(torch.randn(8))


def copied(module):
    """A plain copy with the weights that a pruned module uses."""
    twin = copy.deepcopy(module)
    finish_pruning(twin)
    return twin


def train(module, x, optimizer, steps=2):
    for _ in range(steps):
        optimizer.zero_grad()
        module(x)[0].square().sum().backward()
        optimizer.step()


def test_the_smallest_weights_of_each_layer_go():
    layer = rnnlab.nn.LSTM(3, 8)
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    assert magnitude_prune(layer, 0.75) == {"weight_ih_l0": 0.75, "weight_hh_l0": 0.75, "total": 0.75}
    for name in ("weight_ih_l0", "weight_hh_l0"):
        pruned, mask = getattr(layer, name), masks(layer)[name]
        assert torch.equal(pruned, torch.where(mask, before[name], 0.0))
        assert before[name][~mask].abs().max() < before[name][mask].abs().min()
    assert torch.equal(layer.bias_ih_l0, before["bias_ih_l0"])


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_choice_is_that_of_torch_prune(scope):
    ours = nn.ModuleList([rnnlab.nn.GRU(3, 8), rnnlab.nn.LSTM(8, 4)])
    theirs = copy.deepcopy(ours)
    magnitude_prune(ours, 0.3, scope=scope)
    places = [(layer, name) for layer in theirs for name in ("weight_ih_l0", "weight_hh_l0")]
    if scope == "global":
        prune.global_unstructured(places, pruning_method=prune.L1Unstructured, amount=0.3)
    else:
        for layer, name in places:
            prune.l1_unstructured(layer, name, amount=0.3)
    for k, (layer, name) in enumerate(places):
        assert torch.equal(getattr(ours[k // 2], name), getattr(layer, name))


def test_global_scope_is_one_threshold():
    model = nn.ModuleDict({"small": rnnlab.nn.RNN(4, 8), "large": rnnlab.nn.RNN(4, 8)})
    with torch.no_grad():
        for parameter in model["small"].parameters():
            parameter.mul_(1e-3)
    found = magnitude_prune(model, 0.5, scope="global")
    assert found["small.weight_ih_l0"] == found["small.weight_hh_l0"] == 1.0
    assert found["large.weight_ih_l0"] == found["large.weight_hh_l0"] == 0.0
    assert found["total"] == 0.5


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_second_pruning_goes_on_from_the_first(scope):
    layer = rnnlab.nn.GRU(4, 8)
    magnitude_prune(layer, 0.5, scope=scope)
    first = {name: mask.clone() for name, mask in masks(layer).items()}
    assert magnitude_prune(layer, 0.25, scope=scope)["total"] == 0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1.0)  # what is masked is not considered, however large it has become
    assert magnitude_prune(layer, 0.75, scope=scope)["total"] == 0.75
    assert all((mask <= first[name]).all() for name, mask in masks(layer).items())


def test_who_waits_for_a_gradient_still_gets_it():
    """As DistributedDataParallel does, which asks autograd's node of a parameter and not the parameter."""
    layer, told = rnnlab.nn.GRU(3, 4), []
    node = layer.weight_hh_l0.expand_as(layer.weight_hh_l0).grad_fn.next_functions[0][0]
    node.register_hook(lambda *_: told.append(True))
    for change in (
        lambda: magnitude_prune(layer, 0.5),
        lambda: magnitude_prune(layer, 0.7),
        lambda: finish_pruning(layer),
    ):
        change()
        layer(torch.ones(5, 2, 3))[0].sum().backward()
    assert told == [True] * 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_pruned_layer_computes_what_a_plain_one_with_zeros_does(kind, backend):
    torch.manual_seed(0)
    layer = LAYERS[kind](backend=backend)
    magnitude_prune(layer, 0.6)
    twin, x = copied(layer), torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], twin(x)[0], **FLOAT64)
    for module in (layer, twin):
        module(x, lengths=None if backend == "aten" else [5, 3])[0].square().sum().backward()
    gradients = {
        name.replace("parametrizations.", "").removesuffix(".original"): p.grad for name, p in layer.named_parameters()
    }
    for name, parameter in twin.named_parameters():
        mask = masks(layer).get(name, torch.ones_like(parameter, dtype=torch.bool))
        torch.testing.assert_close(gradients[name], torch.where(mask, parameter.grad, 0.0), **FLOAT64)


OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, 0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("kind", LAYERS)
def test_masks_last_through_training(kind, optimiser):
    torch.manual_seed(0)
    layer, x = LAYERS[kind](), torch.randn(5, 2, 3, dtype=torch.float64)
    optimizer = OPTIMISERS[optimiser](layer.parameters())
    train(layer, x, optimizer)  # momentum from before the pruning moves masked parameters on
    found = magnitude_prune(layer, 0.5)
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    train(layer, x, optimizer)
    assert sparsity(layer) == found
    assert not any(torch.equal(parameter, before[name]) for name, parameter in layer.named_parameters())
    for name, mask in masks(layer).items():
        assert not getattr(layer, name)[~mask].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_use_the_weights_of_now(backend):
    torch.manual_seed(0)
    layer = rnnlab.nn.LSTM(3, 8, 2, dtype=torch.float64, backend=backend)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    magnitude_prune(layer, 0.5)
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        state, loss = layer.initial_state(2), 0.0
        for x_t in x:
            y_t, state = layer.step(x_t, state)
            loss = loss + y_t.square().sum()
        loss.backward()
        optimizer.step()
    state, outputs = layer.initial_state(2), []
    for x_t in x:
        y_t, state = layer.step(x_t, state)
        outputs.append(y_t)
    torch.testing.assert_close(torch.stack(outputs), layer(x)[0], **FLOAT64)
    torch.testing.assert_close(torch.stack(outputs), copied(layer)(x)[0], **FLOAT64)


@pytest.mark.parametrize("library", [rnnlab.nn, nn], ids=["rnnlab", "torch"])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell", "LSTM"])
def test_finished_modules_are_plain_again(library, kind):
    module = getattr(library, kind)(3, 8)
    parameters, names = list(module.parameters()), list(module.state_dict())
    x = torch.randn(2, 2, 3) if kind == "LSTM" else torch.randn(2, 3)
    magnitude_prune(module, 0.5)
    expected, plain = module(x)[0], plain_state_dict(module)
    assert names != list(module.state_dict())
    finish_pruning(module)
    assert type(module) is getattr(library, kind) and not masks(module)
    assert list(module.state_dict()) == names
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    assert plain.keys() == module.state_dict().keys()
    assert all(torch.equal(plain[name], value) for name, value in module.state_dict().items())
    assert sparsity(module)["total"] == 0.5
    torch.testing.assert_close(module(x)[0], expected)
    finish_pruning(module)  # nothing left to do


def test_a_cell_of_ones_own():
    model = nn.Sequential(nn.Linear(2, 2), OwnCell())
    assert magnitude_prune(model, 0.5, names=("weight_hh",)) == {"1.weight_hh": 0.5, "total": 0.5}
    assert list(masks(model)) == ["1.weight_hh"]
    magnitude_prune(model, 0.75)
    assert sparsity(model) == {"1.weight_ih": 0.75, "1.weight_hh": 0.75, "total": 0.75}
    finish_pruning(model)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight_ih", "1.weight_hh", "1.bias"]


def test_masks_and_states_travel():
    source, target, plain = (rnnlab.nn.GRU(3, 8, backend="aten") for _ in range(3))
    magnitude_prune(source, 0.5)
    plain.load_state_dict(plain_state_dict(source))
    set_masks(plain, masks(source))
    set_masks(target, masks(source))
    target.load_state_dict(source.state_dict())
    x = torch.randn(4, 2, 3)
    for module in (plain, target, copy.deepcopy(target)):
        assert torch.equal(module(x)[0], source(x)[0])
        assert sparsity(module)["total"] == 0.5
    with pytest.raises(ValueError, match="no weight called weight_ih_l1 of shape"):
        set_masks(target, {"weight_ih_l1": torch.ones(24, 8, dtype=torch.bool)})
    with pytest.raises(ValueError, match="no weight called weight_ih_l0 of shape"):
        set_masks(target, {"weight_ih_l0": torch.ones(2, 8, dtype=torch.bool)})


def test_copies_are_independent():
    layer, x = rnnlab.nn.GRU(3, 8, backend="aten"), torch.randn(4, 2, 3)
    magnitude_prune(layer, 0.5, names=("weight_hh",))
    expected, twin = layer(x)[0], copy.deepcopy(layer)
    magnitude_prune(twin, 0.5)
    assert masks(twin).keys() == {"weight_ih_l0", "weight_hh_l0"} and masks(layer).keys() == {"weight_hh_l0"}
    assert torch.equal(layer(x)[0], expected)
    finish_pruning(layer)
    assert torch.equal(layer(x)[0], expected)
    assert sparsity(twin)["total"] == 0.5 and not torch.equal(twin(x)[0], expected)


def test_schedule_prunes_the_same_share_of_what_is_left():
    amounts = han_schedule(0.9, 4)
    assert amounts[-1] == 0.9
    left = [1.0, *(1 - amount for amount in amounts)]
    assert [after / before for before, after in zip(left, left[1:], strict=False)] == pytest.approx([0.1**0.25] * 4)


def test_sensitivity_prunes_one_weight_at_a_time_and_puts_it_back():
    torch.manual_seed(0)
    layer = rnnlab.nn.LSTM(4, 8, 2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    seen = []

    def measure():
        seen.append([name for name, share in sparsity(layer).items() if share and name != "total"])
        return sparsity(layer)["total"]

    found = sensitivity(layer, measure, [0.0, 0.5])
    assert list(found) == ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]
    assert seen == [names for name in found for names in ([], [name])]
    assert found["weight_ih_l0"] == {0.0: 0.0, 0.5: 0.5 * 128 / 896}
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    magnitude_prune(layer, 0.5)
    with pytest.raises(ValueError, match="before pruning"):
        sensitivity(layer, measure, [0.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: magnitude_prune(rnnlab.nn.GRU(3, 4), 1.0), "amount must be at least 0 and below 1"),
        (lambda: sensitivity(rnnlab.nn.GRU(3, 4), float, [0.5, -0.5]), "amounts must lie between 0 and 1, got -0.5"),
        (lambda: magnitude_prune(rnnlab.nn.GRU(3, 4), 0.5, scope="all"), "scope must be one of layer, global"),
        (lambda: magnitude_prune(nn.Linear(3, 4), 0.5), "no recurrent weights called"),
        (lambda: magnitude_prune(weight_norm(rnnlab.nn.GRU(3, 4), "weight_hh_l0"), 0.5), "only plain weights"),
        (lambda: han_schedule(1.0, 2), "final must be between"),
        (lambda: han_schedule(0.5, 0), "rounds at least 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
