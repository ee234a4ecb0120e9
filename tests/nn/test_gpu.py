"""Layers on a CUDA device: every backend against float64 on the CPU, no worse than torch in the same dtype."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnlab.nn
from tests.nn.cases import (
    SIZES,
    Run,
    assert_same_run,
    build,
    every_kind,
    every_size,
    map_state,
    named,
    random_state,
    run,
)
from tests.tolerances import EPS, RATIO

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
FLOAT32 = {"rtol": 1.3e-6, "atol": 1e-5}  # assert_close's own for float32, spelt out because values arrive as float64
BACKENDS = ["auto", "eager", "aten", "triton", "step", "sequence"]


def plain_and_fast(kind: str, backend: str, dtype: torch.dtype, **options: Any) -> tuple[Any, Any, Any]:
    """The plain loop in float64 on the CPU, the same loop on the GPU, and the backend there, with one state_dict."""
    fast = build(rnnlab.nn, kind, device=DEVICE, dtype=dtype, backend=backend, **options)
    loop = build(rnnlab.nn, kind, device=DEVICE, dtype=dtype, backend="reference", **options)
    exact = build(rnnlab.nn, kind, dtype=torch.float64, backend="reference", **options)
    for module in (loop, exact):
        module.load_state_dict(fast.state_dict())
    return exact, loop, fast


def on_the_host(result: Run) -> Run:
    """A run's values and gradients in float64 on the CPU."""
    values, gradients = ({name: tensor.cpu().double() for name, tensor in part.items()} for part in result)
    return values, gradients


@pytest.fixture
def forbid_waiting() -> Iterator[Callable[[], None]]:
    """A switch: from the call on, an operation that waits for the device raises."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@every_kind
@every_size
@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_is_close_to_float64(kind, sizes, backend):
    time, batch, inputs, hidden = sizes
    exact, _, fast = plain_and_fast(kind, backend, torch.float32, input_size=inputs, hidden_size=hidden, num_layers=2)
    x, hx = torch.randn(time, batch, inputs), random_state(exact, batch)
    expected = run(exact, x.double(), hx)
    actual = run(fast, x.to(DEVICE), map_state(lambda state: state.float().to(DEVICE), hx))
    assert_same_run(on_the_host(actual), expected, **FLOAT32)


@pytest.mark.parametrize("kind", ["RNN_TANH", "GRU", "LSTM"])  # rounding flips the derivative of ReLU at its kink
@pytest.mark.parametrize("sizes", SIZES[1:], ids=str)  # of a single number, the baseline may be right by luck
@pytest.mark.parametrize("backend", ["eager", "triton", "step", "sequence"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_error_in_half_precision_is_at_most_twice_that_of_the_plain_loop(kind, sizes, backend, dtype):
    time, batch, inputs, hidden = sizes
    options = {"input_size": inputs, "hidden_size": hidden, "bidirectional": True}
    exact, loop, fast = plain_and_fast(kind, backend, dtype, **options)
    x, hx = torch.randn(time, batch, inputs).to(dtype), random_state(exact, batch)
    hx = map_state(lambda state: state.to(dtype), hx)
    truth = run(exact, x.double(), map_state(torch.Tensor.double, hx))
    hx = map_state(lambda state: state.to(DEVICE), hx)
    plain, actual = (on_the_host(run(module, x.to(DEVICE), hx)) for module in (loop, fast))
    for expected, baseline, measured in zip(truth, plain, actual, strict=True):
        for name, value in expected.items():
            allowed = RATIO * (baseline[name] - value).abs().max() + EPS[dtype] * value.abs().max()
            assert (measured[name] - value).abs().max() <= allowed, name


@every_kind
@pytest.mark.parametrize("backend", ["auto", "eager", "triton"])
def test_lengths_on_the_device_wait_for_nothing(kind, backend, forbid_waiting):
    exact, _, fast = plain_and_fast(
        kind, backend, torch.float32, input_size=5, hidden_size=7, num_layers=2, bidirectional=True
    )
    x, lengths = torch.randn(6, 4, 5), torch.tensor([2, 6, 0, 4])
    expected = named(exact(x.double(), lengths=lengths))
    x, on_device = x.to(DEVICE), lengths.to(DEVICE)
    fast(x, lengths=on_device)
    forbid_waiting()
    actual = named(fast(x, lengths=on_device))
    torch.cuda.set_sync_debug_mode("default")
    for name, value in expected.items():
        torch.testing.assert_close(actual[name].cpu(), value.float())


@every_kind
@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_sequences(kind, backend):
    exact, _, fast = plain_and_fast(kind, backend, torch.float32, input_size=5, hidden_size=7, num_layers=2)
    packed = pack_padded_sequence(torch.randn(6, 4, 5), torch.tensor([2, 6, 1, 4]), enforce_sorted=False)
    expected, actual = run(exact, packed.double()), run(fast, packed.to(DEVICE))
    assert_same_run(on_the_host(actual), expected, **FLOAT32)


@every_kind
def test_backward_in_eval_mode(kind):
    module = build(rnnlab.nn, kind, 5, 7, 2, device=DEVICE).eval()
    module(torch.randn(6, 4, 5, device=DEVICE))[0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


@every_kind
@pytest.mark.parametrize("backend", ["auto", "eager", "triton"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_has_one_rule(kind, backend, dtype):
    module = build(rnnlab.nn, kind, 5, 7, 2, device=DEVICE, backend=backend)
    with torch.autocast("cuda", dtype=dtype):
        values = named(module(torch.randn(6, 4, 5, device=DEVICE)))
    assert {value.dtype for value in values.values()} == {dtype}


@every_kind
def test_a_module_moved_there_and_back_equals_torch(kind):
    ours, theirs = (build(library, kind, 5, 7).to(DEVICE) for library in (rnnlab.nn, nn))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(6, 4, 5, device=DEVICE)
    torch.testing.assert_close(named(ours(x)), named(theirs(x)))
    torch.testing.assert_close(named(ours.cpu()(x.cpu())), named(theirs.cpu()(x.cpu())))
