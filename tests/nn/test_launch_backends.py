"""The backends "step" and "sequence" in layers: they agree with the plain loop, refuse in words, and are explained.

Their kernels run in Triton's interpreter here.
"""

import pytest
import torch

import rnnlab.nn
from rnnlab.nn import GatedCell, Recurrent, cells
from rnnlab_kernels import plan as planning
from rnnlab_kernels.cells.vocabulary import tanh
from tests.covering import few
from tests.nn.cases import assert_same_run, build, every_kind, run

pytestmark = pytest.mark.interpret

T, B, I, H = 5, 3, 4, 16  # noqa: E741
every_backend = pytest.mark.parametrize("backend", ["step", "sequence"])
FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


def twins(make, backend):
    """Return a module on a backend, and the same on the plain loop."""
    module, plain = make(backend=backend), make(backend="reference")
    plain.load_state_dict(module.state_dict())
    return module, plain


@every_backend
@every_kind
def test_layers_agree_with_the_plain_loop(kind, backend):
    module, plain = twins(lambda **own: build(rnnlab.nn, kind, I, H, 2, bidirectional=True, **own), backend)
    x, reset = torch.randn(T, B, I), torch.rand(T, B) < 0.3
    for options in ({}, {"lengths": torch.tensor([5, 0, 3])}, {"reset": reset}):
        assert_same_run(run(module, x, **options), run(plain, x, **options), **FLOAT32)


@pytest.mark.parametrize("together", few([True, False], [True]))
def test_directions_in_one_launch_and_in_two(together, monkeypatch):
    calls = []
    real = planning.tiles_of
    monkeypatch.setattr(planning, "tiles_of", lambda *args, **kwargs: calls.append(kwargs) or real(*args, **kwargs))
    dtype = torch.float16 if together else torch.float32  # in fp32 they would spill registers
    options = {"zoneout": 0.2, "recurrent_dropout": 0.2, "candidate_dropout": 0.1}
    layer, plain = twins(
        lambda **own: rnnlab.nn.LSTM(I, H, bidirectional=True, dtype=dtype, **options, **own), "sequence"
    )
    launched = []
    from rnnlab_kernels.schedules.persistent import api

    both = api.both_ways
    monkeypatch.setattr(api, "both_ways", lambda *args, **kwargs: launched.append(1) or both(*args, **kwargs))
    x = torch.randn(T, B, I, dtype=dtype)
    torch.manual_seed(1)
    actual = run(layer, x)
    torch.manual_seed(1)
    assert_same_run(actual, run(plain, x), rtol=2e-2, atol=2e-2)
    assert bool(launched) == together


def test_directions_with_resets_of_their_own_take_two_launches():
    module, plain = twins(lambda **own: rnnlab.nn.GRU(I, H, bidirectional=True, dtype=torch.float16, **own), "sequence")
    x, reset = torch.randn(T, B, I, dtype=torch.float16), torch.rand(T, B) < 0.3
    assert_same_run(run(module, x, reset=reset), run(plain, x, reset=reset), rtol=2e-2, atol=2e-2)


CELLS = {
    "layer norm lstm": lambda size: cells.LayerNormLSTMCell(size, H),
    "layer norm gru": lambda size: cells.LayerNormGRUCell(size, H),
    "layer norm rnn": lambda size: cells.LayerNormRNNCell(size, H),
    "gru before": lambda size: cells.GatedGRUCell(size, H, reset_after=False),
    "peephole": lambda size: cells.PeepholeLSTMCell(size, H),
    "lstm": lambda size: cells.GatedLSTMCell(size, H),
}


def results(module, x, lengths):
    """Return output, last states and the gradients of all parameters and of x."""
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    output, states = module(x, lengths=lengths)
    ends = [part for state in states for part in state]
    upstream = [
        torch.randn(value.shape, generator=torch.Generator().manual_seed(k)).to(value)
        for k, value in enumerate([output, *ends])
    ]
    return [output, *ends, *torch.autograd.grad([output, *ends], [x, *module.parameters()], upstream)]


def test_directions_of_recurrent_in_one_launch(monkeypatch):
    from rnnlab_kernels.schedules.persistent import api

    launched, both = [], api.both_ways
    monkeypatch.setattr(api, "both_ways", lambda *args, **kwargs: launched.append(1) or both(*args, **kwargs))
    module, plain = twins(
        lambda **own: Recurrent(cells.GatedLSTMCell(I, H), bidirectional=True, **own).half(), "sequence"
    )
    x, lengths = torch.randn(T, B, I, dtype=torch.float16), torch.tensor([5, 0, 3])
    for actual, expected in zip(results(module, x, lengths), results(plain, x, lengths), strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-2)
    assert launched == [1]


@pytest.mark.parametrize("name", few(CELLS, list(CELLS)[::2]))
def test_research_cells_agree_with_the_plain_loop(name):
    module, plain = twins(lambda **own: Recurrent(CELLS[name](I), bidirectional=True, zoneout=0.1, **own), "sequence")
    x, lengths = torch.randn(T, B, I), torch.tensor([5, 0, 3])
    for actual, expected in zip(results(module, x, lengths), results(plain, x, lengths), strict=True):
        torch.testing.assert_close(actual, expected, **FLOAT32)


@pytest.mark.parametrize(("backend", "dtype"), [("step", torch.float32), ("sequence", torch.float16)])
@pytest.mark.parametrize("cell", few([cells.GatedLSTMCell, cells.GatedGRUCell], [cells.GatedGRUCell]))
def test_heads_agree_with_the_plain_loop(cell, backend, dtype):
    options = {"bidirectional": True, "recurrent_dropout": 0.2, "zoneout": 0.1}
    module, plain = twins(lambda **own: Recurrent(cell(I, 32, num_heads=2, dtype=dtype), **options, **own), backend)
    x, lengths = torch.randn(T, B, I, dtype=dtype), torch.tensor([5, 0, 3])
    close = FLOAT32 if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    for actual, expected in zip(results(module, x, lengths), results(plain, x, lengths), strict=True):
        torch.testing.assert_close(actual, expected, **close)


class FiveGates(GatedCell):
    gates = ("a", "b", "c", "d", "e")

    @staticmethod
    def gates_fwd(gates, carried):
        a, b, c, d, e = gates
        return (tanh(a + b * c + d * e),), ()


class ThreeStates(GatedCell):
    gates, states, carried = ("g",), ("h", "c", "n"), ("c", "n")

    @staticmethod
    def gates_fwd(gates, carried):
        return (tanh(gates[0]), gates[0] + carried[0], carried[1] + tanh(gates[0])), ()


@every_backend
def test_all_states_at_all_steps(backend):
    able = [cells.GatedLSTMCell] if backend == "step" else [cells.GatedLSTMCell, cells.LayerNormLSTMCell]
    for cell in able:
        module, plain = twins(lambda cell=cell, **own: Recurrent(cell(I, H), return_all_states=True, **own), backend)
        x = torch.randn(T, B, I)
        for actual, expected in zip(module(x)[1], plain(x)[1], strict=True):
            torch.testing.assert_close(tuple(actual), tuple(expected), **FLOAT32)


@every_backend
def test_a_compiled_layer_is_one_graph(backend):
    layer = rnnlab.nn.LSTM(I, H, backend=backend)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(T, B, I)
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


@every_backend
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda backend: rnnlab.nn.LSTM(I, H, proj_size=3, backend=backend), "more than one product"),
        (lambda backend: Recurrent(cells.JordanCell(I, H, 3), backend=backend), "jordan"),
        (lambda backend: Recurrent(FiveGates(I, H), backend=backend), "5 gates"),
        (lambda backend: Recurrent(ThreeStates(I, H), zoneout=0.1, backend=backend), "zoneout of 3 states"),
        (lambda backend: Recurrent(cells.ElmanCell(I, 6, num_heads=3), zoneout=0.1, backend=backend), "four units"),
    ],
)
def test_what_they_cannot_run_they_refuse_and_explain(make, words, backend):
    module = make(backend)
    with pytest.raises(RuntimeError, match=f'(?is)backend="{backend}" cannot run.*{words}'):
        module(torch.randn(T, B, I))
    assert words in rnnlab.nn.explain_backend(module, torch.randn(T, B, I)).lower()


@every_backend
def test_recording_takes_another_backend(backend):
    layer, x = rnnlab.nn.LSTM(I, H, backend=backend), torch.randn(T, B, I)
    with layer.record(), pytest.raises(RuntimeError, match=f'backend="{backend}" cannot run.*it records no gradients'):
        layer(x)
    layer.backend = "triton"
    with layer.record() as recording:
        layer(x)[0].sum().backward()
    assert recording[0].state["h"].shape == (T, B)


def test_clipping_takes_one_launch_and_not_one_a_step():
    module, plain = twins(lambda **own: rnnlab.nn.GRU(I, H, clip_grad_step=0.01, **own), "sequence")
    x = torch.randn(T, B, I)
    assert_same_run(run(module, x), run(plain, x), **FLOAT32)
    assert module.step_clips.take() == plain.step_clips.take()
    module = rnnlab.nn.GRU(I, H, clip_grad_step=1.0, backend="step")
    with pytest.raises(RuntimeError, match='(?is)backend="step" cannot run.*clipping'):
        module(x)
    assert "clipping" in rnnlab.nn.explain_backend(module, x).lower()


@pytest.mark.parametrize("options", [{"zoneout": 0.3}, {"clip_grad_step": 0.05}, {}], ids=str)
def test_cells_without_a_product_take_one_launch_whatever_is_added(options, monkeypatch):
    from rnnlab_kernels.schedules.persistent import api

    launched, whole = [], api.sequence
    monkeypatch.setattr(api, "sequence", lambda *args, **kwargs: launched.append(1) or whole(*args, **kwargs))
    module, plain = twins(lambda **own: Recurrent(cells.IndRNNCell(I, H), **options, **own), "triton")
    x, reset = torch.randn(T, B, I), torch.rand(T, B) < 0.3
    for given in ({"reset": reset}, {"lengths": torch.tensor([5, 0, 3])}):
        found = []
        for each in (module, plain):
            torch.manual_seed(1)
            output, states = each(x, **given)
            ends = [part for state in states for part in state]
            grads = torch.autograd.grad(output.square().sum() + sum(end.sum() for end in ends), [*each.parameters()])
            found.append([output, *ends, *grads])
        torch.testing.assert_close(*found, **FLOAT32)
    assert len(launched) == 2


def test_the_plan_is_explained():
    x = torch.randn(T, B, I)
    assert "planned for 16 steps or more: sequence, weights on the chip" in rnnlab.nn.explain_backend(
        rnnlab.nn.LSTM(I, H, backend="triton"), x
    )
    layer = Recurrent(cells.LayerNormLSTMCell(I, H), backend="sequence")
    assert "sequence, weights on the chip" in rnnlab.nn.explain_backend(layer, x)
    wide = rnnlab.nn.LSTM(I, 2048, device="meta", backend="reference")
    assert "planned" not in rnnlab.nn.explain_backend(wide)
