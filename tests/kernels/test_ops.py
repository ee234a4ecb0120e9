"""The operators of torch.library: torch's own checks of schema, fake kernels and autograd, for each engine."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rnnlab_kernels import launch, ops
from rnnlab_kernels.cells import CELLS, CHAINS
from rnnlab_kernels.cells.bind import CELLS_BY_KEY, Cell, find
from rnnlab_kernels.cells.chain import Chain, as_chain, without_product
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.indrnn import INDRNN_TANH
from rnnlab_kernels.cells.min_rnn import MIN_LSTM
from rnnlab_kernels.cells.vocabulary import tanh
from rnnlab_kernels.schedules.additions import Additions, Noise
from rnnlab_kernels.schedules.engines import ENGINES, Call
from rnnlab_kernels.schedules.reference import reference
from tests.conftest import INTERPRETING
from tests.covering import few
from tests.kernels.test_chains import make

KITS = ["eager", *(["fused"] if launch.has_numba() else [])]
NOISE = Additions(torch.tensor([[[True], [False], [True]]] * 4), Noise(3, 0.3, 0.3, (0.2, 0.2), first=2), 0.1)


class Recorder:
    """What `ops.call` is called with."""

    def __init__(self, monkeypatch: Any) -> None:
        self.arguments: list[Any] = []
        original = ops.call

        def call(*arguments: Any) -> list[Tensor]:
            self.arguments.append(arguments)
            return original(*arguments)

        monkeypatch.setattr(ops, "call", call)


def checked(recorder: Recorder, leaves_gaps: bool = False) -> None:
    """Hold both operators against torch's checks, for what was recorded last.

    `leaves_gaps`: some of what is kept, such as that of masked steps, is never written or read, and differs between
    two runs.
    """
    engine, config, tensors = recorder.arguments[-1]
    leaves = [value.detach().requires_grad_(value.is_floating_point() or value.is_complex()) for value in tensors]
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    checks += [] if leaves_gaps else ["test_aot_dispatch_dynamic"]
    torch.library.opcheck(torch.ops.rnnlab.run.default, (leaves, engine, config, True), test_utils=checks)
    torch.library.opcheck(torch.ops.rnnlab.run.default, (tensors, engine, config, False), test_utils=checks)
    every = torch.ops.rnnlab.run(tensors, engine, config, True)
    count = ENGINES[engine].num_results(ops.decoded(engine, config, tensors)[0])
    kept = every if ENGINES[engine].keeps_results else every[count:]
    needed = [leaf.requires_grad for leaf in leaves]
    arguments = (tensors, kept, [torch.ones_like(value) for value in every[:count]], [True] * count, needed)
    backward = torch.ops.rnnlab.run_backward.default
    found = backward(*arguments, engine, config)
    again = backward(*arguments, engine, config)
    torch.testing.assert_close(again, found, rtol=0, atol=0)
    checks = ["test_faketensor", *([] if engine == "onednn" else ["test_schema"])]  # its workspace has scratch in it
    torch.library.opcheck(backward, (*arguments, engine, config), test_utils=checks)


@pytest.mark.interpret
@pytest.mark.slow
@pytest.mark.parametrize("additions", [Additions(), NOISE], ids=["plain", "noise"])
@pytest.mark.parametrize("name", ("lstm", "cifg", "layer_norm_lstm", "peephole_lstm", "narx1"))
def test_interpreted_recurrence(name, additions, monkeypatch):
    _recurrence("pointwise", name, additions, monkeypatch)


@pytest.mark.skipif(INTERPRETING, reason="kernels are interpreted here")
@pytest.mark.parametrize("additions", few([Additions(), NOISE], [NOISE]), ids=["plain", "noise"])
@pytest.mark.parametrize(
    "name", few(("lstm", "gru", "cifg", "layer_norm_lstm", "peephole_lstm", "narx1"), ("layer_norm_lstm",))
)
@pytest.mark.parametrize("kit", few(KITS, KITS[-1:]))
def test_recurrence(kit, name, additions, monkeypatch):
    _recurrence(kit, name, additions, monkeypatch)


def _recurrence(kit: str, name: str, additions: Additions, monkeypatch: Any) -> None:
    chain: Chain = CHAINS[name] if name in CHAINS else as_chain(CELLS[name])
    if name in CHAINS:
        inputs = make(name, (4, 3, 2, 5)).to(torch.float32).inputs
    else:
        rows, size = CELLS[name].num_gates * 5, {"ih": 2, "hh": 5}
        inputs = {"x": torch.randn(4, 3, 2), **{key: torch.randn(rows, n) / 3 for key, n in size.items()}}
        inputs |= {f"{state}_0": torch.randn(3, 5) for state in chain.states}
    named = {key: value.detach() for key, value in inputs.items()}
    x, state_0 = named.pop("x"), tuple(named.pop(f"{state}_0") for state in chain.states)
    if additions.noise is not None:
        additions = additions._replace(noise=additions.noise._replace(zoneout=(0.2,) * len(state_0)))
    recorder = Recorder(monkeypatch)
    output, *state_n = ops.run_call(
        Call("recurrence", kit, chain, (*named,), additions=additions), [x, *named.values(), *state_0]
    )
    torch.testing.assert_close((output, tuple(state_n)), reference(chain, x, state_0, named, additions=additions))
    checked(recorder)


def _plain(gates, carried):
    return (carried[0] + gates[0],), ()


def _dropped(gates, carried):
    return (carried[0] + tanh(gates[0]) * carried[1],), ()


@pytest.mark.skipif(INTERPRETING, reason="kernels are interpreted here")
@pytest.mark.parametrize("kit", few(KITS, ["eager"]))
def test_a_cell_that_keeps_more_when_candidates_are_dropped(kit, monkeypatch):
    dropped = Cell("own_dropped", ("n",), ("h",), ("h", "mask"), (), 0, _dropped)
    chain = as_chain(derive(Cell("own", ("n",), ("h",), ("h",), (), 0, _plain, dropped=dropped)))
    cell = chain.stages[1].cell
    assert len(cell.dropped.saved) > len(cell.saved)
    recorder, weights = Recorder(monkeypatch), {"ih": torch.randn(5, 2), "hh": torch.randn(5, 5)}
    additions = Additions(noise=Noise(3, candidate=0.4))
    inputs = [torch.randn(4, 3, 2), *weights.values(), torch.randn(3, 5)]
    ops.run_call(Call("recurrence", kit, chain, (*weights,), additions=additions), inputs)
    checked(recorder)


@pytest.mark.skipif(INTERPRETING or not launch.has_numba(), reason="compiled loops")
@pytest.mark.slow
@pytest.mark.parametrize("is_masked", [False, True])
def test_elementwise(is_masked, monkeypatch):
    recorder = Recorder(monkeypatch)
    mask = torch.rand(4, 3, 1) < 0.5 if is_masked else None
    call = Call("recurrence", "fused", without_product(MIN_LSTM), reverse=True, mask=mask)
    ops.run_call(call, [torch.randn(4, 3, 15), torch.randn(3, 5)])
    checked(recorder, is_masked)


@pytest.mark.skipif(INTERPRETING or not launch.has_numba(), reason="compiled loops")
@pytest.mark.parametrize("cell", [MIN_LSTM, INDRNN_TANH], ids=["min_lstm", "indrnn"])
def test_programs_saved_with_an_engine_of_their_own_for_elementwise_cells(cell):
    chain, mask = without_product(cell), torch.rand(4, 3, 1) < 0.5
    gates, h_0, weights = torch.randn(4, 3, 5 * cell.num_gates), torch.randn(3, 5), {}
    for name in chain.constants:
        weights[name] = torch.rand(5)
    expected, (last,) = reference(chain, gates, (h_0,), weights, mask, reverse=True)
    for config in (("numba", cell.key, True, True), ("numba", cell.key, [], ["mask"], True, [], None)):
        found = torch.ops.rnnlab.run([gates, h_0, *weights.values(), mask], "elementwise", ops.encoded(*config), False)
        torch.testing.assert_close(found, [expected, last])


@pytest.mark.skipif(INTERPRETING, reason="kernels are interpreted here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
@pytest.mark.parametrize("method", ["sequential", *(["numba"] if launch.has_numba() else [])])
def test_scan(method, dtype, monkeypatch):
    recorder = Recorder(monkeypatch)
    ops.run_call(Call("scan", method), [*torch.randn(2, 4, 3, 5, dtype=dtype), torch.randn(3, 5, dtype=dtype)])
    checked(recorder)


@pytest.mark.skipif(INTERPRETING or not launch.HAS_ONEDNN, reason="oneDNN")
@pytest.mark.parametrize("bias", [False, True])
def test_onednn(bias, monkeypatch):
    from rnnlab_kernels.schedules.library.onednn import onednn

    recorder, weights = Recorder(monkeypatch), {"ih": torch.randn(20, 2), "hh": torch.randn(20, 5)}
    weights |= {name: torch.randn(20) for name in ("bias_ih", "bias_hh") if bias}
    x, states = torch.randn(4, 3, 2), (torch.randn(3, 5), torch.randn(3, 5))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    output, final = onednn(CELLS["lstm"], x, states, weights, reverse=True)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: False)
    expected, expected_final = reference(CELLS["lstm"], x, states, weights, reverse=True)
    torch.testing.assert_close((output, *final), (expected, *expected_final))
    with pytest.raises(ValueError, match="plain LSTM"):
        onednn(CELLS["gru"], x, states, weights)
    checked(recorder, leaves_gaps=True)  # in the workspace


@pytest.mark.skipif(INTERPRETING, reason="kernels are interpreted here")
def test_second_derivatives_name_the_reference_backend():
    a, b = torch.rand(2, 4, 3, 5).requires_grad_().unbind(0)
    (h,) = ops.run_call(Call("scan", "sequential"), [a, b, torch.zeros(3, 5)])
    (grad,) = torch.autograd.grad(h.square().sum(), b, create_graph=True)
    with pytest.raises(RuntimeError, match='backend="reference"'):
        grad.sum().backward()


def _doubled(gates, carried):
    return (2.0 * gates[0],), ()


def _tripled(gates, carried):
    return (3.0 * gates[0],), ()


def test_keys_are_of_what_is_computed():
    lstm = as_chain(CELLS["lstm"])
    assert Chain(lstm.name, lstm.states, lstm.stages).key == lstm.key
    assert as_chain(CELLS["lstm"], projection=True).key != lstm.key
    cells = [Cell("own", ("a",), ("h",), (), (), 0, maths) for maths in (_doubled, _tripled, _doubled)]
    assert cells[0].key == cells[2].key != cells[1].key
    with pytest.raises(KeyError, match="own:no, a cell that has not been made"):
        find(CELLS_BY_KEY, "own:no")


@pytest.mark.interpret
def test_an_interpreted_mask_of_any_strides():
    _mask_of_any_strides("sequence", "sequence")


@pytest.mark.skipif(INTERPRETING or not launch.has_numba(), reason="compiled loops")
def test_a_mask_of_any_strides():
    _mask_of_any_strides("recurrence", "fused")


def _mask_of_any_strides(engine: str, method: str) -> None:
    inputs, mask = [torch.randn(7, 2, 12), torch.randn(2, 4)], (torch.rand(2, 7) < 0.5).t().unsqueeze(-1)
    call = Call(engine, method, without_product(MIN_LSTM), mask=mask)
    expected, actual = (ops.run_call(each, inputs) for each in (call._replace(mask=mask.contiguous()), call))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    assert actual[0].is_contiguous()


def test_what_kept_nothing_says_so():
    a, b = torch.rand(2, 4, 3, 5).requires_grad_().unbind(0)
    (h,) = torch.ops.rnnlab.run([a, b, torch.zeros(3, 5)], "scan", ops.encoded("sequential", False), False)
    with pytest.raises(RuntimeError, match="exported for inference"):
        h.sum().backward()
