"""Modes: no_grad, inference, eval, autocast, dtypes, deterministic algorithms and torch.func transforms."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import rnnlab.nn
from tests.nn.cases import (
    BACKENDS,
    OWN_BACKENDS,
    assert_same_run,
    build,
    every_kind,
    named,
    pair,
    randn,
    random_state,
    run,
    tolerance,
    working_dtype,
)
from tests.tolerances import FLOAT64

every_backend = pytest.mark.parametrize("backend", ["auto", *BACKENDS])


@every_kind
@every_backend
def test_no_grad_keeps_no_graph(kind, backend):
    module, x = build(rnnlab.nn, kind, 3, 4, 2, backend=backend), torch.randn(5, 2, 3, requires_grad=True)
    expected = named(module(x))
    with torch.no_grad():
        values = named(module(x))
    for name, value in values.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, expected[name])
    assert all(value.requires_grad for value in expected.values())


@every_kind
@every_backend
def test_inference_mode(kind, backend):
    module, x = build(rnnlab.nn, kind, 3, 4, 2, backend=backend), torch.randn(5, 2, 3)
    expected = named(module(x))
    with torch.inference_mode():
        values = named(module(x))
        assert all(value.is_inference() for value in values.values())
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name].detach())


@every_kind
@every_backend
def test_backward_in_eval_mode(kind, backend):
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True, dropout=0.5, backend=backend)
    x = randn(5, 2, 3, backend=backend)
    assert_same_run(run(ours.eval(), x), run(theirs.eval(), x), **tolerance(backend))


@every_kind
@every_backend
def test_no_gradient_where_nothing_needs_one(kind, backend):
    module = build(rnnlab.nn, kind, 3, 4, backend=backend).requires_grad_(False)
    assert not any(value.requires_grad for value in named(module(torch.randn(5, 2, 3))).values())


AUTOCAST_FORMS = ["dense", "packed", "unbatched", "bfloat16 input", "float32 state", "lengths"]
AUTOCAST_CASES = [(b, f) for b in ("auto", "reference", "eager", "aten") for f in AUTOCAST_FORMS]
AUTOCAST_CASES.remove(("aten", "lengths"))


@every_kind
@pytest.mark.parametrize("backend, form", AUTOCAST_CASES)
def test_autocast_has_one_rule(kind, backend, form):
    module = build(rnnlab.nn, kind, 3, 4, 2, bidirectional=True, backend=backend)
    x, lengths, keywords, hx = torch.randn(5, 2, 3), torch.tensor([5, 3]), {}, None
    x = x[:, 0] if form == "unbatched" else x.bfloat16() if form == "bfloat16 input" else x
    if form == "packed":
        x = pack_padded_sequence(x, lengths)
    if form == "lengths":
        keywords = {"lengths": lengths}
    if form == "float32 state":
        hx = random_state(module, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = named(module(x, hx, **keywords))
    assert {name: value.dtype for name, value in values.items()} == dict.fromkeys(values, torch.bfloat16)
    x = x.float() if isinstance(x, Tensor) else x
    for name, value in named(module(x, hx, **keywords)).items():
        torch.testing.assert_close(values[name].float(), value, rtol=0.05, atol=0.05)


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
def test_gradients_under_autocast_have_the_dtype_of_their_leaves(kind, backend):
    module, x = build(rnnlab.nn, kind, 3, 4, 2, backend=backend), torch.randn(5, 2, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module(x)[0].float().square().mean()
    loss.backward()
    for leaf in (x, *module.parameters()):
        assert leaf.grad.dtype == torch.float32
        assert leaf.grad.abs().sum() > 0


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference", "eager"])
def test_dtypes(kind, dtype, backend):
    module = build(rnnlab.nn, kind, 3, 4, 2, bidirectional=True, dtype=dtype, backend=backend)
    exact = build(rnnlab.nn, kind, 3, 4, 2, bidirectional=True, dtype=working_dtype(backend), backend="reference")
    exact.load_state_dict(module.state_dict())
    x, hx = torch.randn(5, 2, 3).to(dtype), random_state(module, 2)
    values, gradients = run(module, x, hx)
    wide = tuple(s.double() for s in hx) if kind == "LSTM" else hx.double()
    exact_values, exact_gradients = run(exact, x.double(), wide)
    bound = 0.05 if dtype == torch.bfloat16 else 0.01 if dtype == torch.float16 else 1e-9
    for actual, expected in ((values, exact_values), (gradients, exact_gradients)):
        for name, value in actual.items():
            assert value.dtype == dtype
            torch.testing.assert_close(value.double(), expected[name], rtol=bound, atol=5 * bound, msg=name)


@pytest.mark.parametrize("kind", ["RNN_TANH", "GRU", "LSTM"])
def test_complex_numbers(kind):
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True, dtype=torch.complex64)
    x = torch.randn(5, 2, 3, dtype=torch.complex64)
    for module in (ours, theirs):
        module(x)[0].abs().sum().backward()
    torch.testing.assert_close(named(ours(x)), named(theirs(x)), rtol=1e-4, atol=1e-4)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, yours.grad, rtol=1e-3, atol=1e-3)


@every_kind
@every_backend
def test_deterministic_algorithms(kind, backend):
    torch.use_deterministic_algorithms(True)
    module, x = build(rnnlab.nn, kind, 3, 4, 2, backend=backend), torch.randn(5, 2, 3)
    packed = pack_padded_sequence(x, torch.tensor([2, 5]), enforce_sorted=False)
    for given in (x, packed):
        module.zero_grad()
        named(module(given))["output"].sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in module.parameters())


@every_kind
@pytest.mark.parametrize("backend", ["auto", *OWN_BACKENDS])
def test_deterministic_algorithms_with_lengths(kind, backend):
    torch.use_deterministic_algorithms(True)
    module, x = build(rnnlab.nn, kind, 3, 4, 2, backend=backend), torch.randn(5, 2, 3)
    module(x, lengths=torch.tensor([2, 5]))[0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "aten"])
def test_func_grad_and_jacrev(kind, backend):
    ours, theirs = pair(kind, 3, 4, backend=backend)
    x = randn(5, 2, 3, backend=backend)
    for transform in (torch.func.grad, torch.func.jacrev):
        actual, expected = (transform(lambda a, m=m: m(a)[0].square().sum())(x) for m in (ours, theirs))
        torch.testing.assert_close(actual, expected, **tolerance(backend))


# The first forward-mode call of a process compiles torch's own decompositions: torch/_decomp/decompositions_for_jvp.py.
ignore_jit = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@ignore_jit
@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_forward_mode(kind, backend):
    ours, theirs = pair(kind, 3, 4, 2, backend=backend)
    x, tangent, upstream = randn(3, 5, 2, 3).unbind()
    upstream = randn(5, 2, 4)
    _, pushed = torch.func.jvp(lambda a: ours(a)[0], (x,), (tangent,))
    (pulled,) = torch.autograd.grad(theirs(x.requires_grad_())[0], x, upstream)
    torch.testing.assert_close((upstream * pushed).sum(), (pulled * tangent).sum(), **FLOAT64)


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_vmap(kind, backend):
    ours, theirs = pair(kind, 3, 4, 2, backend=backend)
    x = randn(3, 5, 2, 3)
    actual = torch.vmap(lambda a: ours(a)[0])(x)
    torch.testing.assert_close(actual, torch.stack([theirs(a)[0] for a in x]), **FLOAT64)
    per_sample = torch.vmap(torch.func.grad(lambda a: ours(a)[0].square().sum()))(x)
    expected = torch.func.grad(lambda a: theirs(a)[0].square().sum())(x[1])
    torch.testing.assert_close(per_sample[1], expected, **FLOAT64)


@ignore_jit
@every_kind
@pytest.mark.parametrize("transform", ["jvp", "vmap"])
def test_eager_refuses_transforms_and_names_the_reference(kind, transform):
    module, x = build(rnnlab.nn, kind, 3, 4, backend="eager"), torch.randn(5, 2, 3)
    with pytest.raises(RuntimeError, match="eager.*reference"):
        if transform == "jvp":
            torch.func.jvp(lambda a: module(a)[0], (x,), (x,))
        else:
            torch.vmap(lambda a: module(a)[0])(x[None])
