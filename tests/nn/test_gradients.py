"""Gradients: every leaf by name, for every upstream gradient, against torch.nn."""

import pytest
import torch
from torch import Tensor

import rnnlab.nn
from tests.nn.cases import (
    BACKENDS,
    KINDS,
    KINDS_AND_OPTIONS,
    assert_same_run,
    build,
    every_kind,
    every_size,
    map_state,
    named,
    pair,
    randn,
    random_state,
    run,
    states,
    tolerance,
    working_dtype,
)

every_backend = pytest.mark.parametrize("backend", BACKENDS)


@every_size
@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
@pytest.mark.parametrize("backend", ["eager", "reference"])
def test_matches_torch(kind, options, sizes, backend):
    time, batch, inputs, hidden = sizes
    if hidden == 1:
        options = {name: value for name, value in options.items() if name != "proj_size"}
    ours, theirs = pair(kind, inputs, hidden, **options, backend=backend)
    x, hx = randn(time, batch, inputs, backend=backend), random_state(theirs, batch)
    assert_same_run(run(ours, x, hx), run(theirs, x, hx), **tolerance(backend))


@every_kind
@every_size
@pytest.mark.parametrize("backend", ["auto", "aten", pytest.param("triton", marks=pytest.mark.interpret)])
def test_matches_torch_in_float32(kind, sizes, backend):
    time, batch, inputs, hidden = sizes
    ours, theirs = pair(kind, inputs, hidden, bidirectional=True, backend=backend, dtype=torch.float32)
    x, hx = torch.randn(time, batch, inputs), random_state(theirs, batch)
    assert_same_run(
        run(ours, x, hx),
        run(theirs, x, hx),
    )


UPSTREAM = [("output",), ("h_n",), ("output", "h_n")]
KINDS_AND_UPSTREAM = [
    pytest.param(kind, into, id=f"{kind}-{'+'.join(into)}")
    for kind in KINDS
    for into in (*UPSTREAM, *([("c_n",), ("output", "c_n"), ("h_n", "c_n")] if kind == "LSTM" else []))
]


@every_backend
@pytest.mark.parametrize("kind, into", KINDS_AND_UPSTREAM)
@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "hx"])
def test_each_upstream_gradient_alone(kind, backend, into, with_state):
    ours, theirs = pair(kind, 5, 7, bidirectional=True, backend=backend)
    x, hx = randn(3, 2, 5, backend=backend), random_state(theirs, 2) if with_state else None
    assert_same_run(run(ours, x, hx, into=into), run(theirs, x, hx, into=into), **tolerance(backend))


@every_kind
@every_backend
@pytest.mark.parametrize("form", ["expanded", "transposed", "sliced"])
def test_upstream_gradients_of_any_strides(kind, backend, form):
    ours, theirs = pair(kind, 5, 7, backend=backend)
    x = randn(3, 2, 5, backend=backend)
    upstream = {
        "expanded": randn(1, backend=backend).expand(3, 2, 7),
        "transposed": randn(2, 3, 7, backend=backend).transpose(0, 1),
        "sliced": randn(3, 2, 14, backend=backend)[..., ::2],
    }[form]
    kept = upstream.clone()
    gradients = []
    for module in (ours, theirs):
        leaf = x.clone().requires_grad_()
        module(leaf)[0].backward(upstream)
        gradients.append({"input": leaf.grad, **{name: p.grad for name, p in module.named_parameters()}})
    torch.testing.assert_close(*gradients, **tolerance(backend))
    assert torch.equal(upstream, kept), "backward wrote over its incoming gradient"


@every_kind
@every_backend
@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l1", "bias_ih_l0", "input", "all weights", "all but hx"])
def test_leaves_that_need_no_gradient(kind, backend, frozen):
    ours, theirs = pair(kind, 5, 7, 2, backend=backend)
    x, hx = randn(3, 2, 5, backend=backend), random_state(theirs, 2)
    gradients = []
    for module in (ours, theirs):
        leaf, state = x.clone().requires_grad_(frozen not in ("input", "all but hx")), map_state(Tensor.clone, hx)
        map_state(Tensor.requires_grad_, state)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name != frozen and not frozen.startswith("all"))
        output, final = module(leaf, state)
        (output.sum() + sum(tensor.square().sum() for tensor in states(final))).backward()
        leaves = {"input": leaf, "h_0": states(state)[0], **dict(module.named_parameters())}
        gradients.append({name: tensor.grad for name, tensor in leaves.items()})
    assert [name for name, g in gradients[0].items() if g is None] == [n for n, g in gradients[1].items() if g is None]
    for name, gradient in gradients[1].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[0][name], gradient, **tolerance(backend))


@every_kind
@every_backend
def test_retain_graph_twice_is_equal(kind, backend):
    module = build(rnnlab.nn, kind, 5, 7, 2, bidirectional=True, backend=backend, dtype=working_dtype(backend))
    x = randn(3, 2, 5, backend=backend).requires_grad_()
    values = named(module(x))
    kept = {name: value.detach().clone() for name, value in values.items()}
    loss = sum(value.square().sum() for value in values.values())
    leaves = [x, *module.parameters()]
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(values[name], kept[name]) for name in kept)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, leaves)


@every_kind
@every_backend
def test_gradients_accumulate(kind, backend):
    module = build(rnnlab.nn, kind, 5, 7, backend=backend, dtype=working_dtype(backend))
    x = randn(3, 2, 5, backend=backend)
    module(x)[0].sum().backward()
    once = [p.grad.clone() for p in module.parameters()]
    module(x)[0].sum().backward()
    for parameter, gradient in zip(module.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, **tolerance(backend))


@every_kind
@every_backend
def test_gradients_of_two_parameters_share_no_memory(kind, backend):
    module = build(rnnlab.nn, kind, 5, 7, 2, bidirectional=True, backend=backend)
    module(torch.randn(3, 2, 5))[0].sum().backward()
    gradients = [p.grad for p in module.parameters()]
    assert len({gradient.untyped_storage().data_ptr() for gradient in gradients}) == len(gradients)


@every_kind
@every_backend
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l0"])
def test_changing_a_weight_before_backward_is_noticed(kind, backend, name):
    module = build(rnnlab.nn, kind, 5, 7, backend=backend)
    output, _ = module(torch.randn(3, 2, 5, requires_grad=True))
    with torch.no_grad():
        getattr(module, name).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@every_kind
@every_backend
@pytest.mark.parametrize("batch", [1, 0])
def test_batches_of_one_and_none(kind, backend, batch):
    ours, theirs = pair(kind, 5, 7, 2, bidirectional=True, backend=backend)
    x, hx = randn(3, batch, 5, backend=backend), random_state(theirs, batch)
    assert_same_run(run(ours, x, hx), run(theirs, x, hx), **tolerance(backend))


@every_kind
@every_backend
@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched(kind, backend, batch_first):
    ours, theirs = pair(kind, 5, 7, 2, bidirectional=True, batch_first=batch_first, backend=backend)
    x, hx = randn(3, 5, backend=backend), random_state(theirs, None)
    assert_same_run(run(ours, x, hx), run(theirs, x, hx), **tolerance(backend))


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", "aten"])
def test_bias_gradients_come_in_equal_pairs_but_for_the_candidate_of_the_gru(kind, backend):
    module = build(rnnlab.nn, kind, 5, 7, backend=backend, dtype=working_dtype(backend))
    module(randn(3, 2, 5, backend=backend))[0].square().sum().backward()
    equal = slice(0, 14) if kind == "GRU" else slice(None)
    torch.testing.assert_close(module.bias_ih_l0.grad[equal], module.bias_hh_l0.grad[equal], **tolerance(backend))
    if kind == "GRU":
        assert not torch.allclose(module.bias_ih_l0.grad[14:], module.bias_hh_l0.grad[14:])


@every_kind
@pytest.mark.parametrize("backend", ["eager", "reference"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_output_and_final_state_may_be_changed_in_place(kind, backend, ragged):
    layer = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64, backend=backend)
    x, lengths = torch.randn(5, 2, 3, dtype=torch.float64), [5, 3] if ragged else None
    plain, _ = layer(x, lengths=lengths)
    expected = torch.autograd.grad(plain.tanh().sum(), layer.weight_hh_l0)
    output, state = layer(x, lengths=lengths)
    (state if torch.is_tensor(state) else state[0]).zero_()
    actual = torch.autograd.grad(output.tanh_().sum(), layer.weight_hh_l0)
    torch.testing.assert_close(actual, expected)
