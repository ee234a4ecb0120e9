"""What no step reads, or a reset cleared, touches nothing: neither results nor gradients, be it NaN or infinite."""

from typing import Any

import pytest
import torch
from torch import Tensor

import rnnlab.nn
from rnnlab.nn import Recurrent
from tests.nn.cases import build, every_kind, random_state
from tests.nn.research_equations import H, I
from tests.nn.test_own_memory import cell_of, leaves, runs, runs_on

T, B = 4, 3
BAD = [float("nan"), float("inf")]
# The interpreter computes with numpy, which warns where a NaN is made; here they are made on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


def spoiled(state: Any, rows: Any, bad: float) -> list[Any]:
    """Return random states with some rows set to a value."""
    parts = [torch.randn_like(part) for part in state]
    for part in parts:
        part[rows] = bad
    return [type(state)(*(part.requires_grad_() for part in parts))]


def finite(*values: Any) -> bool:
    return all(value is None or bool(torch.isfinite(value).all()) for value in leaves(values))


def gradients(loss: Tensor, layer: Any, *inputs: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, [*layer.parameters(), *inputs], allow_unused=True)
    return [grad for grad in found if grad is not None]


def total(*values: Tensor) -> Tensor:
    return torch.stack([value.real.sum() for value in values]).sum()


def layer_and_input(name: str, backend: str, backwards: bool) -> tuple[Any, Tensor]:
    dtype = torch.float64 if backend in ("reference", "eager") else torch.float32
    layer = Recurrent(cell_of(name, dtype), go_backwards=backwards, backend=backend, return_all_states=True)
    x = torch.randn(T, B, I, dtype=dtype)
    if not runs_on(layer, x):
        pytest.skip(f"{name} does not run on {backend}")
    return layer, x


both_ways = pytest.mark.parametrize("backwards", [False, True])


@runs
@both_ways
def test_states_of_rows_without_steps(name, backend, backwards):
    layer, x = layer_and_input(name, backend, backwards)
    for bad in BAD:
        hx, x = spoiled(layer.initial_state(B)[0], 1, bad), x.requires_grad_()
        output, (final,), (every,) = layer(x, hx, lengths=[T, 0, 2])
        good = [part[[0, 2]] for part in final]
        assert finite(output, good)
        assert all(torch.equal(a[1], b[1]) or bad != bad for a, b in zip(final, hx[0], strict=True))
        assert all(not torch.isfinite(part[1]).any() for part in final)  # it is held
        assert all(not torch.isfinite(part[:, 1]).any() for part in every)
        assert finite(gradients(total(output, *final), layer, x, *hx[0]))


@runs
@both_ways
def test_a_reset_clears_an_initial_state(name, backend, backwards):
    layer, x = layer_and_input(name, backend, backwards)
    mask, reset = torch.ones(T, B).bool(), torch.zeros(T, B).bool()
    first = T - 2 if backwards else 1  # the recurrence first holds the state, or takes no notice of it
    mask[T - 1 if backwards else 0, 1:] = False
    reset[first + 1 if backwards else first] = True  # in the reverse direction, before the step that precedes it
    reset[0 if not backwards else first + 1, 0] = True
    for bad in BAD:
        hx, x = spoiled(layer.initial_state(B)[0], slice(1, None), bad), x.requires_grad_()
        output, (final,), _ = layer(x, hx, mask=mask, reset=reset)
        assert finite(output, list(final))
        assert finite(gradients(total(output, *final), layer, x, *hx[0]))
        start = [type(hx[0])(*(torch.zeros_like(part) for part in hx[0]))]
        same, (last,), _ = layer(x, start, mask=mask, reset=reset)
        torch.testing.assert_close(output[:, 1:], same[:, 1:])
        torch.testing.assert_close([part[1:] for part in final], [part[1:] for part in last])


@runs
@both_ways
def test_a_reset_clears_what_a_step_left(name, backend, backwards):
    layer, x = layer_and_input(name, backend, backwards)
    cut = T // 2
    reset = torch.zeros(T, B).bool()
    reset[cut] = True
    after, before = (slice(0, cut), slice(cut, None)) if backwards else (slice(cut, None), slice(0, cut))
    broken = x.clone()
    broken[before] = float("nan")
    broken.requires_grad_()
    output, (final,), _ = layer(broken, reset=reset)
    expected, (last,), _ = layer(x[after])
    torch.testing.assert_close(output[after], expected)
    torch.testing.assert_close(list(final), list(last))
    (dx,) = torch.autograd.grad(total(output[after], *final), broken)
    assert finite(dx[after])
    # And the other way: an infinite gradient of a state does not reach the steps before the reset.
    x = x.requires_grad_()
    output, (final,), _ = layer(x, reset=reset)
    reached = [part for part in final if part.requires_grad]
    upstream = [torch.full_like(part, float("inf")) for part in reached]
    (dx,) = torch.autograd.grad([output[before], *reached], x, [torch.ones_like(output[before]), *upstream])
    assert finite(dx[before])


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", "fused"])
def test_states_of_rows_without_steps_in_torchs_layers(kind, backend):
    layer = build(rnnlab.nn, kind, I, H, 2, bidirectional=True, backend=backend)
    x, hx = torch.randn(T, B, I, requires_grad=True), random_state(layer, B)
    parts = leaves([hx])
    for part in parts:
        part[:, 1] = float("nan")
        part.requires_grad_()
    output, final = layer(x, hx, lengths=[T, 0, 2])
    assert finite(output, [part[:, [0, 2]] for part in leaves([final])])
    assert all(part[:, 1].isnan().all() for part in leaves([final]))
    assert finite(gradients(total(output, *leaves([final])), layer, x, *parts))
