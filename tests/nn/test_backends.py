"""Backends: one state_dict, one result, whichever route runs; and a request that cannot be met says why."""

import os
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnlab.nn
from rnnlab.nn import Recurrent
from rnnlab_kernels import launch
from tests.nn.cases import (
    CELLS,
    KINDS,
    KINDS_AND_OPTIONS,
    assert_same_run,
    build,
    every_kind,
    named,
    randn,
    random_state,
    run,
    tolerance,
    working_dtype,
)

every_other = pytest.mark.parametrize(
    "backend", ["auto", "eager", "fused", "aten", pytest.param("triton", marks=pytest.mark.interpret)]
)
not_interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="under the interpreter triton takes CPU tensors"
)


def plain_and_other(kind: str, backend: str, **options: Any) -> tuple[Any, Any]:
    """A layer on the plain loop and one on another backend, with one state_dict."""
    plain = build(rnnlab.nn, kind, 5, 7, **options, dtype=working_dtype(backend), backend="reference")
    other = build(rnnlab.nn, kind, 5, 7, **options, dtype=working_dtype(backend), backend=backend)
    assert list(other.state_dict()) == list(plain.state_dict())
    other.load_state_dict(plain.state_dict())
    return plain, other


@pytest.mark.parametrize("kind, options", KINDS_AND_OPTIONS)
@every_other
def test_backends_agree_on_one_state_dict(kind, options, backend):
    plain, other = plain_and_other(kind, backend, **options)
    x, hx = randn(3, 2, 5, backend=backend), random_state(plain, 2)
    assert_same_run(run(other, x, hx), run(plain, x, hx), **tolerance(backend))


@every_kind
def test_few_steps_are_torchs_own(kind):
    layer = build(rnnlab.nn, kind, 3, 4)
    for shape in ((1, 1, 3), (1, 3)):
        assert ": aten (torch's layer" in rnnlab.nn.explain_backend(layer, torch.zeros(shape))
    layer.batch_first = True
    assert ": aten (torch's layer" in rnnlab.nn.explain_backend(layer, torch.zeros(64, 1, 3))


@every_kind
@every_other
@pytest.mark.parametrize("lengths", [[2, 5, 3], [5, 3, 2]], ids=["unsorted", "sorted"])
def test_packed_sequences_take_every_backend(kind, backend, lengths):
    plain, other = plain_and_other(kind, backend, num_layers=2, bidirectional=True)
    x, hx = randn(5, 3, 5, backend=backend), random_state(plain, 3)
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=lengths[0] == 5)
    assert_same_run(run(other, packed, hx), run(plain, packed, hx), **tolerance(backend))


@every_kind
@pytest.mark.parametrize("backend", ["auto", "reference", "eager", "aten"])
def test_two_runs_are_bitwise_equal(kind, backend):
    module = build(rnnlab.nn, kind, 5, 7, 2, bidirectional=True, backend=backend)
    x = torch.randn(4, 3, 5)
    first, second = run(module, x), run(module, x)
    for one, two in zip(first, second, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


@every_kind
@pytest.mark.parametrize("backend", ["reference", "eager", "aten"])
def test_explain_backend_names_the_route(kind, backend):
    module = build(rnnlab.nn, kind, 5, 7, backend=backend)
    assert backend in rnnlab.nn.explain_backend(module)
    assert backend in rnnlab.nn.explain_backend(module, torch.zeros(3, 2, 5))


@pytest.mark.parametrize("kind", KINDS + CELLS)
def test_explain_backend_of_auto_names_a_route_and_a_reason(kind):
    module = build(rnnlab.nn, kind, 5, 7)
    text = rnnlab.nn.explain_backend(module)
    assert any(name in text for name in ("eager", "fused", "aten", "triton"))
    assert len(text.split()) > 3


@pytest.mark.parametrize(
    ("make", "lengths", "words"),
    [
        (partial(rnnlab.nn.GRU, backend="reference"), None, "GRU: reference (plain loop: asked for by name)"),
        (partial(rnnlab.nn.GRU, backend="eager"), None, "GRU: eager (stepwise, gate maths by torch: asked"),
        (partial(rnnlab.nn.GRU, backend="aten"), None, "GRU: aten (torch's layer: asked"),
        (rnnlab.nn.LSTMCell, None, "LSTMCell: aten (torch's cell: "),
        (rnnlab.nn.LSTM, [3, 1], "LSTM: aten (torch's layer, states held in padding: "),
        (lambda i, h: Recurrent(rnnlab.nn.LRUCell(i, h), backend="eager"), None, "eager (scan, sequential: asked"),
        (lambda i, h: Recurrent(rnnlab.nn.MinGRUCell(i, h)), None, "fused (one compiled call over all steps: "),
        (lambda i, h: Recurrent(rnnlab.nn.LRUCell(i, h)), None, "fused (one compiled call over all steps: "),
        (lambda i, h: Recurrent(rnnlab.nn.LRUCell(i, h), zoneout=0.1), None, "fused (scan, numba: "),
        (lambda i, h: Recurrent(rnnlab.nn.IndRNNCell(i, h)), None, "fused (one compiled call over all steps: "),
        (
            lambda i, h: Recurrent(rnnlab.nn.IndRNNCell(i, h), zoneout=0.1),
            None,
            "fused (one compiled call over all steps: ",
        ),
    ],
)
def test_explain_backend_tells_what_a_backend_runs(make, lengths, words):
    if "fused" in words:
        pytest.importorskip("numba")
    module = make(5, 7)
    x = torch.zeros(2, 5) if isinstance(module, nn.RNNCellBase) else torch.zeros(3, 2, 5)
    assert words in rnnlab.nn.explain_backend(module, x, lengths)


@every_kind
def test_explain_backend_runs_nothing(kind):
    module = build(rnnlab.nn, kind, 5, 7)
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    rnnlab.nn.explain_backend(module, torch.zeros(3, 2, 5))
    assert not calls


@not_interpreted
@every_kind
def test_triton_without_a_gpu_says_why(kind):
    module = build(rnnlab.nn, kind, 5, 7, backend="triton")
    with pytest.raises((RuntimeError, ValueError), match="(?is)triton.*(cpu|cuda)"):
        module(torch.zeros(3, 2, 5))
    assert "triton" in rnnlab.nn.explain_backend(module, torch.zeros(3, 2, 5))


@pytest.mark.interpret
@every_kind
def test_triton_takes_cpu_tensors_under_the_interpreter(kind):
    module = build(rnnlab.nn, kind, 5, 7, backend="triton")
    assert named(module(torch.zeros(3, 2, 5)))["output"].shape == (3, 2, 7)


@every_kind
def test_aten_refuses_lengths_and_says_why(kind):
    module = build(rnnlab.nn, kind, 5, 7, backend="aten", dtype=torch.float64)  # an LSTM takes them in float32
    with pytest.raises((RuntimeError, ValueError), match="(?s)aten.*lengths|lengths.*aten"):
        module(torch.zeros(3, 2, 5, dtype=torch.float64), lengths=torch.tensor([3, 1]))


def test_available_backends_of_the_cpu():
    backends = rnnlab.nn.available_backends(torch.device("cpu"))
    assert list(backends) == ["reference", "eager", "fused", "aten", "triton", "step", "sequence"]
    assert not "".join(backends[name] for name in ("reference", "eager", "fused", "aten")), "nothing stands in the way"
    assert rnnlab.nn.available_backends("cpu") == backends


@not_interpreted
def test_available_backends_say_what_triton_needs():
    assert all("cpu" in rnnlab.nn.available_backends("cpu")[name] for name in ("triton", "step", "sequence"))


@every_kind
def test_backend_is_kept_by_the_module(kind):
    assert build(rnnlab.nn, kind, 5, 7, backend="eager").backend == "eager"
    assert build(rnnlab.nn, kind, 5, 7).backend == "auto"


@pytest.mark.skipif(not launch.has_numba(), reason="needs Numba")
def test_lstms_are_trained_by_the_compiled_call_where_that_is_faster():
    def backend(hidden: int, batch: int, num_steps: int = 17) -> str:
        return rnnlab.nn.explain_backend(rnnlab.nn.LSTM(3, hidden), torch.zeros(num_steps, batch, 3)).split(" ")[1]

    assert [backend(20, 8), backend(256, 32), backend(20, 7), backend(257, 32)] == ["fused", "fused", "aten", "aten"]
    assert backend(20, 8, num_steps=16) == "aten"
    assert backend(256, 256, num_steps=8) == "fused"  # few steps, but much in each
    ragged = rnnlab.nn.explain_backend(rnnlab.nn.LSTM(3, 20), torch.zeros(5, 8, 3), lengths=[5, 3] * 4)
    assert ragged.startswith("LSTM: fused")
    with torch.no_grad():
        assert backend(20, 32) == "aten"
        held = rnnlab.nn.explain_backend(rnnlab.nn.LSTM(3, 20), torch.zeros(5, 8, 3), lengths=[5, 3] * 4)
        assert held.startswith("LSTM: aten (torch's layer, states held in padding")
