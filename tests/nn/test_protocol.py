"""Module protocol: copies, pickles, devices, hooks, functional calls and replaced weights work as on torch.nn."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import skip_init
from torch.nn.utils.parametrizations import weight_norm

import rnnlab.nn
from tests.nn.cases import (
    BACKENDS,
    CELLS,
    KINDS,
    both_libraries,
    build,
    every_kind,
    named,
    pair,
    states,
    tolerance,
    working_dtype,
)
from tests.tolerances import FLOAT64

X = torch.linspace(-1, 1, 30, dtype=torch.float64).view(5, 2, 3)

every_module = pytest.mark.parametrize("kind", KINDS + CELLS)
every_backend = pytest.mark.parametrize("backend", ["auto", *BACKENDS])


def outputs(module: Any, x: Any = None) -> list[torch.Tensor]:
    """The tensors that a layer or a cell returns for x, or for X in its own dtype."""
    x = X.to(next(module.parameters()).dtype) if x is None else x
    if hasattr(module, "num_layers"):
        return list(named(module(x)).values())
    return list(states(module(x[0])))


@every_module
def test_deepcopy_is_equal_and_separate(kind):
    module = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64)
    outputs(module)
    other = copy.deepcopy(module)
    before = outputs(module)
    torch.testing.assert_close(outputs(other), before, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    torch.testing.assert_close(outputs(module), before, rtol=0, atol=0)
    assert not torch.equal(outputs(other)[0], before[0])


@every_module
def test_pickle(kind):
    module = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64, backend="eager")
    other = pickle.loads(pickle.dumps(module))
    torch.testing.assert_close(outputs(other), outputs(module), rtol=0, atol=0)
    assert other.backend == "eager"


@every_module
def test_whole_module_save_and_weights_only_state_dict(kind):
    module = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    torch.testing.assert_close(outputs(torch.load(file, weights_only=False)), outputs(module), rtol=0, atol=0)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(outputs(other), outputs(module), rtol=0, atol=0)


@both_libraries
@every_kind
def test_pickles_without_proj_size(library, kind):
    module = build(library, kind, 3, 4, dtype=torch.float64)
    state = {name: value for name, value in module.__getstate__().items() if name != "proj_size"}
    other = type(module).__new__(type(module))
    other.__setstate__(state)
    assert other.proj_size == 0
    torch.testing.assert_close(outputs(other), outputs(module), rtol=0, atol=0)


@both_libraries
@every_kind
def test_replicas_use_the_weights_they_are_given(library, kind):
    module = build(library, kind, 3, 4, dtype=torch.float64)
    replica = module._replicate_for_data_parallel()
    doubled = {name: (2 * p).detach() for name, p in module.named_parameters()}
    for name, weight in doubled.items():
        setattr(replica, name, weight)
    expected = build(library, kind, 3, 4, dtype=torch.float64)
    expected.load_state_dict(doubled)
    torch.testing.assert_close(outputs(replica, X), outputs(expected), **FLOAT64)


@both_libraries
@every_module
def test_meta_device_and_to_empty(library, kind):
    module = build(library, kind, 3, 4, device="meta")
    for tensor in outputs(module, torch.zeros(5, 2, 3, device="meta")):
        assert tensor.device.type == "meta"
    real = build(library, kind, 3, 4)
    module = module.to_empty(device="cpu")
    module.load_state_dict(real.state_dict())
    torch.testing.assert_close(outputs(module, X.float()), outputs(real, X.float()))


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "aten"])
def test_meta_shapes_equal_real_shapes(kind, backend):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True, "backend": backend}
    meta = build(rnnlab.nn, kind, 3, 4, **options, device="meta")(torch.zeros(5, 2, 3, device="meta"))
    real = build(rnnlab.nn, kind, 3, 4, **options)(torch.zeros(5, 2, 3))
    assert [value.shape for value in named(meta).values()] == [value.shape for value in named(real).values()]


@every_module
def test_skip_init(kind):
    cls, keywords = getattr(rnnlab.nn, kind.partition("_")[0]), {}
    if kind.endswith("RELU"):
        keywords = {"nonlinearity": "relu"}
    module = skip_init(cls, 3, 4, **keywords)
    module.load_state_dict(build(rnnlab.nn, kind, 3, 4).state_dict())
    assert all(p.device.type == "cpu" for p in module.parameters())
    assert torch.isfinite(outputs(module, X.float())[0]).all()


@every_module
def test_conversion_moves_the_weights_in_use(kind):
    ours, theirs = pair(kind, 3, 4, dtype=torch.float32)
    outputs(ours, X.float())
    torch.testing.assert_close(outputs(ours.double()), outputs(theirs.double()), **FLOAT64)
    assert all(p.dtype == torch.float64 for group in getattr(ours, "all_weights", []) for p in group)


@every_module
@every_backend
def test_functional_call(kind, backend):
    ours, theirs = pair(kind, 3, 4, backend=backend)
    x = X.to(working_dtype(backend))
    x = x if kind in KINDS else x[0]
    weights = {name: torch.randn_like(p, requires_grad=True) for name, p in theirs.named_parameters()}
    gradients = []
    for module in (ours, theirs):
        result = functional_call(module, weights, (x,))
        first = result if isinstance(result, torch.Tensor) else result[0]
        gradients.append((first, torch.autograd.grad(first.sum(), list(weights.values()))))
        assert all(p.grad is None for p in module.parameters())
    torch.testing.assert_close(*gradients, **tolerance(backend))
    torch.testing.assert_close(outputs(ours), outputs(theirs), **tolerance(backend))


@every_kind
@every_backend
def test_weight_norm(kind, backend):
    x = X.to(working_dtype(backend))
    ours, theirs = pair(kind, 3, 4, 2, backend=backend)
    for module in (ours, theirs):
        weight_norm(module, "weight_hh_l0")
        weight_norm(module, "weight_ih_l1")
        nn.init.constant_(module.parametrizations.weight_hh_l0.original0, 0.3)
        module(x)[0].square().sum().backward()
    torch.testing.assert_close(outputs(ours), outputs(theirs), **tolerance(backend))
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert "parametrizations.weight_hh_l0.original0" in expected
    torch.testing.assert_close({name: p.grad for name, p in ours.named_parameters()}, expected, **tolerance(backend))


@every_kind
@every_backend
def test_weight_drop_style_replacement(kind, backend):
    x = X.to(working_dtype(backend))
    ours, theirs = pair(kind, 3, 4, backend=backend)
    ours(x)
    mask = torch.randint(0, 2, theirs.weight_hh_l0.shape).to(x)
    gradients = []
    for module in (ours, theirs):
        raw = module.weight_hh_l0
        del module._parameters["weight_hh_l0"]
        module.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.detach().clone()))
        for scale in (1.0, 2.0):  # the replacement is made anew before each call
            module.weight_hh_l0 = scale * mask * module.weight_hh_l0_raw
            module.zero_grad()
            output = module(x)[0]
            output.sum().backward()
        gradients.append((output, module.weight_hh_l0_raw.grad, module.weight_ih_l0.grad))
    torch.testing.assert_close(*gradients, **tolerance(backend))


@every_kind
@every_backend
def test_data_may_be_set_in_place(kind, backend):
    x = X.to(working_dtype(backend))
    ours, theirs = pair(kind, 3, 4, backend=backend)
    ours(x)
    for module in (ours, theirs):
        module.weight_hh_l0.data = torch.full_like(module.weight_hh_l0, 0.1)
        module.bias_ih_l0.data.fill_(0.2)
    torch.testing.assert_close(outputs(ours), outputs(theirs), **tolerance(backend))


@every_kind
@every_backend
def test_an_optimiser_step_follows_torch(kind, backend):
    x = X.to(working_dtype(backend))
    ours, theirs = pair(kind, 3, 4, 2, backend=backend)
    for module in (ours, theirs):
        optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
        for _ in range(3):
            optimiser.zero_grad()
            module(x)[0].square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), **tolerance(backend))


@every_module
def test_hooks_are_called(kind):
    module, seen = build(rnnlab.nn, kind, 3, 4, dtype=torch.float64), []
    module.register_forward_pre_hook(lambda *_: seen.append("before"))
    module.register_forward_hook(lambda *_: seen.append("after"))
    module.register_full_backward_hook(lambda *_: seen.append("backward"))
    outputs(module, X.clone().requires_grad_())[0].sum().backward()
    assert seen == ["before", "after", "backward"]


@every_module
def test_train_and_eval_switch_the_flag(kind):
    module = build(rnnlab.nn, kind, 3, 4)
    assert module.training
    assert not module.eval().training
    assert nn.Sequential(module).train()[0].training


@pytest.mark.parametrize(
    ("module", "name"),
    [("gated", "GatedCell"), ("research", "NARX"), ("research.scan", "LRUCell")],
)
def test_pickles_find_classes_where_they_were(module, name):
    """A pickle of a whole module names the modules of its classes."""
    assert pickle.loads(f"crnnlab.nn.{module}\n{name}\n.".encode()) is getattr(rnnlab.nn, name)
