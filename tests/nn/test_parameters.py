"""Parameters: torch.nn's names, order, shapes and random numbers, and state_dicts that exchange both ways."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import rnnlab.nn
from tests.nn.cases import (
    CELLS,
    KINDS,
    KINDS_AND_OPTIONS,
    both_libraries,
    build,
    every_kind,
    named,
    pair,
    randn,
    tolerance,
)
from tests.tolerances import FLOAT64

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


def expected_shapes(kind: str, options: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The rule in the contract's words, for input_size 5 and hidden_size 7."""
    rows, proj = GATES[kind] * 7, options.get("proj_size", 0)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(options["num_layers"]):
        for suffix in ("", "_reverse") if options["bidirectional"] else ("",):
            width = 5 if layer == 0 else (proj or 7) * (2 if options["bidirectional"] else 1)
            shapes[f"weight_ih_l{layer}{suffix}"] = (rows, width)
            shapes[f"weight_hh_l{layer}{suffix}"] = (rows, proj or 7)
            if options["bias"]:
                shapes[f"bias_ih_l{layer}{suffix}"] = (rows,)
                shapes[f"bias_hh_l{layer}{suffix}"] = (rows,)
            if proj:
                shapes[f"weight_hr_l{layer}{suffix}"] = (proj, 7)
    return shapes


@both_libraries
@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
@pytest.mark.parametrize("more_layers", [0, 1])
def test_names_order_and_shapes(library, kind, options, more_layers):
    options = options | {"num_layers": options["num_layers"] + more_layers}
    module = build(library, kind, 5, 7, **options)
    expected = list(expected_shapes(kind, options).items())
    assert [(name, tuple(p.shape)) for name, p in module.named_parameters()] == expected
    assert [(name, tuple(p.shape)) for name, p in module.state_dict().items()] == expected
    assert module._flat_weights_names == [name for name, _ in expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
def test_same_seed_same_weights(kind, options, dtype):
    modules, following = [], []
    for library in (nn, rnnlab.nn):
        torch.manual_seed(3)
        modules.append(build(library, kind, 5, 7, **options, dtype=dtype))
        following.append(torch.rand(()))
    theirs, ours = (module.state_dict() for module in modules)
    assert list(theirs) == list(ours)
    for name in theirs:
        assert ours[name].dtype == dtype
        assert torch.equal(theirs[name], ours[name]), name
    assert torch.equal(*following), "construction draws other random numbers than torch.nn"


@pytest.mark.parametrize("kind", KINDS + CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_reset_parameters_draws_torch_numbers(kind, bias):
    ours, theirs = pair(kind, 3, 5, bias=bias)
    for module in (ours, theirs):
        torch.manual_seed(5)
        module.reset_parameters()
    for (name, mine), (other, yours) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(mine, yours)
        assert mine.abs().max() <= 1 / math.sqrt(5)


@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
def test_state_dict_goes_both_ways(kind, options):
    ours = build(rnnlab.nn, kind, 5, 7, **options, dtype=torch.float64)
    theirs = build(nn, kind, 5, 7, **options, dtype=torch.float64)
    x = randn(3, 2, 5)
    before = named(theirs(x))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for name, value in named(ours(x)).items():
        torch.testing.assert_close(value, before[name], **FLOAT64)
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for name, value in named(theirs(x)).items():
        torch.testing.assert_close(named(ours(x))[name], value, **FLOAT64)


@both_libraries
@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_strict_loading(library, kind):
    module = build(library, kind, 3, 4)
    state = module.state_dict()
    first = next(iter(state))
    with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{first}"'):
        module.load_state_dict({name: value for name, value in state.items() if name != first})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "other"'):
        module.load_state_dict({**state, "other": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=f"size mismatch for {first}"):
        module.load_state_dict({**state, first: torch.zeros(2, 2)})


@both_libraries
def test_all_weights_is_a_list_for_each_layer_and_direction(library):
    module = library.LSTM(3, 4, 2, bidirectional=True, proj_size=2)
    assert [len(group) for group in module.all_weights] == [5, 5, 5, 5]
    assert [weight for group in module.all_weights for weight in group] == list(module.parameters())
    assert [name for group in module._all_weights for name in group] == list(module.state_dict())
    assert all(isinstance(weight, nn.Parameter) for group in module.all_weights for weight in group)


@both_libraries
@every_kind
def test_flatten_parameters_changes_nothing(library, kind):
    module = build(library, kind, 3, 4, 2)
    before = [(p, p.data_ptr()) for p in module.parameters()]
    assert module.flatten_parameters() is None
    assert all(p is q and p.data_ptr() == at for p, (q, at) in zip(module.parameters(), before, strict=True))


@every_kind
def test_assigning_a_parameter_changes_the_weight_that_is_used(kind):
    ours, theirs = pair(kind, 3, 4, dtype=torch.float32)
    x, weight = torch.randn(5, 2, 3), torch.randn_like(theirs.weight_hh_l0)
    ours(x)
    for module in (ours, theirs):
        module.weight_hh_l0 = nn.Parameter(weight.clone())
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    assert ours.all_weights[0][1] is ours.weight_hh_l0


@both_libraries
@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_assigning_a_plain_tensor_is_refused(library, kind):
    module = build(library, kind, 3, 4)
    name = list(module.state_dict())[1]
    with pytest.raises(TypeError, match=f"cannot assign .* as parameter '{name}'"):
        setattr(module, name, torch.zeros(4, 4))


@every_kind
def test_a_refused_assignment_leaves_the_layer_as_it_was(kind):
    module, x = build(rnnlab.nn, kind, 3, 4), torch.randn(5, 2, 3)
    before = module(x)[0]
    with pytest.raises(TypeError):
        module.weight_hh_l0 = torch.zeros(4, 4)
    torch.testing.assert_close(module(x)[0], before)


@both_libraries
@pytest.mark.parametrize("kind", KINDS)
def test_tied_biases(library, kind):
    module = build(library, kind, 3, 4)
    module.bias_hh_l0 = module.bias_ih_l0
    assert len(list(module.parameters())) == 3
    assert list(module.state_dict()) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", "aten"])
def test_tied_biases_add_up_their_gradients(kind, backend):
    ours, theirs = pair(kind, 3, 4, backend=backend)
    x = randn(5, 2, 3, backend=backend)
    for module in (ours, theirs):
        module.bias_hh_l0 = module.bias_ih_l0
        module(x)[0].square().sum().backward()
    torch.testing.assert_close(ours.bias_ih_l0.grad, theirs.bias_ih_l0.grad, **tolerance(backend))


REPR_OPTIONS = [
    {},
    {"num_layers": 2},
    {"bias": False},
    {"batch_first": True},
    {"num_layers": 3, "dropout": 0.5, "bidirectional": True},
    {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.1, "bidirectional": True},
]


@every_kind
@pytest.mark.parametrize("options", REPR_OPTIONS, ids=str)
def test_repr(kind, options):
    ours, theirs = pair(kind, 3, 4, **options)
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("options", REPR_OPTIONS, ids=str)
def test_repr_with_a_projection(options):
    ours, theirs = pair("LSTM", 3, 4, proj_size=2, **options)
    assert repr(ours) == repr(theirs)


@every_kind
def test_a_parametrised_weight_is_computed_once_a_call(kind):
    class Counted(nn.Module):
        seen = 0

        def forward(self, weight):
            self.seen += 1
            return weight

    layer, counted = build(rnnlab.nn, kind, 3, 4), Counted()
    torch.nn.utils.parametrize.register_parametrization(layer, "weight_ih_l0", counted)
    for call, x in ((layer, torch.randn(5, 2, 3)), (layer.step, torch.randn(2, 3))):
        counted.seen = 0
        call(x)
        assert counted.seen == 1
