"""torch.func over parameters: ensembles by vmap, gradients per sample, and refusals that name the way out."""

import copy

import pytest
import torch
from torch.func import functional_call, grad, hessian, stack_module_state, vmap

import rnnlab.nn
from tests.nn.cases import build, every_cell, every_kind, named, pair, randn
from tests.tolerances import FLOAT64

every_route = pytest.mark.parametrize("backend", ["auto", "reference"])
TRANSFORMS = {
    "vmap over inputs": lambda module, x: vmap(lambda a: module(a)[0])(torch.stack([x, x])),
    "vmap over parameters": lambda module, x: vmap(lambda weights: functional_call(module, weights, (x,))[0])(
        {name: torch.stack([weight, weight]) for name, weight in module.named_parameters()}
    ),
    "grad": lambda module, x: grad(lambda a: module(a)[0].sum())(x),
}


def loss_of(module, weights, *inputs, **options):
    """The loss of a module with other weights; sensitive to output and final state."""
    values = named(functional_call(module, weights, inputs, options))
    return sum(value.sin().sum() for value in values.values())


@every_route
@every_kind
@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 0, 3])], ids=["full", "lengths"])
def test_vmap_over_an_ensemble(kind, backend, lengths):
    members = [
        build(rnnlab.nn, kind, 3, 4, 2, bidirectional=True, dtype=torch.float64, backend=backend) for _ in range(3)
    ]
    weights, buffers = stack_module_state(members)
    skeleton, x = copy.deepcopy(members[0]).to("meta"), randn(5, 3, 3)
    options = {} if lengths is None else {"lengths": lengths}
    actual = vmap(lambda w, b: named(functional_call(skeleton, (w, b), (x,), options)))(weights, buffers)
    expected = [named(member(x, **options)) for member in members]
    for name, value in actual.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in expected]), **FLOAT64)


@every_route
@every_kind
def test_gradients_of_an_ensemble_on_its_own_inputs(kind, backend):
    members = [build(rnnlab.nn, kind, 3, 4, 2, dtype=torch.float64, backend=backend) for _ in range(3)]
    weights, _ = stack_module_state(members)
    skeleton, x = copy.deepcopy(members[0]).to("meta"), randn(3, 5, 2, 3)
    actual = vmap(grad(lambda w, a: loss_of(skeleton, w, a)))(weights, x)
    for k, member in enumerate(members):
        loss_of(member, dict(member.named_parameters()), x[k]).backward()
        for name, parameter in member.named_parameters():
            torch.testing.assert_close(actual[name][k], parameter.grad, **FLOAT64)


@every_route
@every_kind
@pytest.mark.parametrize("proj_size", [0, 2])
def test_per_sample_gradients(kind, backend, proj_size):
    options = {"proj_size": proj_size} if kind == "LSTM" and proj_size else {}
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True, backend=backend, **options)
    x = randn(5, 4, 3)
    weights = {name: parameter.detach() for name, parameter in ours.named_parameters()}
    actual = vmap(grad(lambda w, row: loss_of(ours, w, row.unsqueeze(1))), (None, 1))(weights, x)
    for k in range(4):
        theirs.zero_grad()
        loss_of(theirs, dict(theirs.named_parameters()), x[:, k : k + 1]).backward()
        for name, parameter in theirs.named_parameters():
            torch.testing.assert_close(actual[name][k], parameter.grad, **FLOAT64)


@every_route
@every_cell
def test_per_sample_gradients_of_cells(kind, backend):
    module, x = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64, backend=backend), randn(5, 3)
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def loss(weights, row):
        state = functional_call(module, weights, (row,))
        return (state[0] if isinstance(state, tuple) else state).sin().sum()

    actual = vmap(grad(loss), (None, 0))(weights, x)
    for k in range(5):
        expected = torch.autograd.grad(loss(dict(module.named_parameters()), x[k]), list(module.parameters()))
        for name, value in zip(weights, expected, strict=True):
            torch.testing.assert_close(actual[name][k], value, **FLOAT64)


# Forward mode compiles torch's own decompositions at its first call: torch/_decomp/decompositions_for_jvp.py.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@every_route
@every_kind
def test_hessian_of_the_input(kind, backend):
    ours, theirs = pair(kind, 2, 3, backend=backend)
    x = randn(3, 1, 2)
    actual = hessian(lambda a: ours(a)[0].sin().sum())(x)
    expected = torch.autograd.functional.hessian(lambda a: theirs(a)[0].sin().sum(), x)
    torch.testing.assert_close(actual, expected, **FLOAT64)


@every_kind
def test_dropout_under_vmap_follows_its_randomness(kind):
    module = build(rnnlab.nn, kind, 3, 4, 2, dropout=0.5, backend="reference")
    x = torch.randn(5, 2, 3).expand(2, 5, 2, 3)
    same = vmap(lambda a: module(a)[0], randomness="same")(x)
    different = vmap(lambda a: module(a)[0], randomness="different")(x)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(different[0], different[1])


@every_kind
@pytest.mark.parametrize("backend", ["eager", "fused", pytest.param("triton", marks=pytest.mark.interpret)])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_hand_written_backward_passes_refuse_transforms(kind, backend, transform):
    module, x = build(rnnlab.nn, kind, 3, 4, backend=backend), torch.randn(5, 2, 3)
    message = f'backend="{backend}" cannot run this call: functorch transforms .* need the reference'
    with pytest.raises(RuntimeError, match=message):
        TRANSFORMS[transform](module, x)
    module.backend = "reference"
    assert TRANSFORMS[transform](module, x).isfinite().all()
