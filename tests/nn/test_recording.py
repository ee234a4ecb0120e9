"""What a layer's backward pass tells of its gradients, against autograd, by every backend that tells it."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnlab.nn
from rnnlab.nn import Recurrent, explain_backend
from rnnlab_kernels.schedules.compiled import ragged

T, B, F, H = 7, 5, 3, 8
KINDS = ("state", "gate", "direct", "recurrent", "values")
BACKENDS = ("eager", "fused", pytest.param("triton", marks=pytest.mark.interpret))


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def flows(layer, x, upstream, **call):
    """Return the flows of a layer for a loss that is linear in its output and in its last states."""
    with layer.record(values=True) as recording:
        output, state = layer(x, **call)
    parts = [
        part
        for one in (state if isinstance(state, tuple) else (state,))
        for part in (one if isinstance(one, tuple) else (one,))
    ]
    loss = (output * upstream[: output.shape[0], :, : output.shape[2]]).sum()
    for k, part in enumerate(parts):
        loss = loss + (part * math.cos(k + 1)).sum()
    loss.backward()
    return [recording[k] for k in range(len(recording))]


def assert_same(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        for kind in KINDS:
            mine, right = getattr(one, kind), getattr(other, kind)
            assert mine.keys() == right.keys(), kind
            for name, value in right.items():
                got = mine[name].double()
                assert (got - value).abs().max() <= tolerance * (value.abs().max() + 1e-6), (kind, name)


LAYERS = {
    "lstm": lambda **k: rnnlab.nn.LSTM(F, H, num_layers=2, bidirectional=True, **k),
    "projection": lambda **k: rnnlab.nn.LSTM(F, H, proj_size=4, **k),
    "gru": lambda **k: rnnlab.nn.GRU(F, H, zoneout=0.2, **k),
    "rnn": lambda **k: rnnlab.nn.RNN(F, H, **k),
    "recurrent dropout": lambda **k: rnnlab.nn.LSTM(
        F, H, recurrent_dropout=0.3, zoneout={"c": 0.3}, clip_grad_step=0.1, **k
    ),
    "peephole": lambda **k: Recurrent(rnnlab.nn.PeepholeLSTMCell(F, H), **k),
    "dense peephole": lambda **k: Recurrent(rnnlab.nn.PeepholeLSTMCell(F, H, dense=True), **k),
    "coupled gates": lambda **k: Recurrent(rnnlab.nn.CIFGCell(F, H), **k),
    "layer norm": lambda **k: Recurrent(rnnlab.nn.LayerNormLSTMCell(F, H), **k),
    "reset before": lambda **k: Recurrent(rnnlab.nn.GatedGRUCell(F, H, reset_after=False), **k),
    "two updates": lambda **k: Recurrent(rnnlab.nn.StateSpaceCell(F, H), **k),
    "narx": lambda **k: Recurrent(rnnlab.nn.NARXCell(F, H), **k),
    "jordan": lambda **k: Recurrent(rnnlab.nn.JordanCell(F, H, H), **k),
    "independent units": lambda **k: Recurrent(rnnlab.nn.IndRNNCell(F, H), **k),
    "minGRU": lambda **k: Recurrent(rnnlab.nn.MinGRUCell(F, H), **k),
    "minGRU, zoneout": lambda **k: Recurrent(rnnlab.nn.MinGRUCell(F, H), zoneout=0.3, **k),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", ["plain", "lengths", "reset"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_numbers_are_those_of_autograd(name, options, backend):
    lengths, starts = torch.tensor([7, 3, 5, 1, 6]), rows(T, B) > 0.8
    call = {"plain": {}, "lengths": {"lengths": lengths}, "reset": {"reset": starts}}[options]
    torch.manual_seed(0)
    layer = LAYERS[name](backend="reference")
    other = LAYERS[name](backend=backend)
    other.load_state_dict(layer.state_dict())
    upstream = rows(T, B, 2 * H)
    torch.manual_seed(5)
    expected = flows(layer.double(), rows(T, B, F), upstream, **call)
    torch.manual_seed(5)
    found = flows(other, rows(T, B, F).float(), upstream.float(), **call)
    if name.startswith("minGRU"):  # a scan knows no gates
        found, expected = ([f._replace(gate={}, recurrent={}, values={}) for f in many] for many in (found, expected))
    assert_same(found, expected)


@pytest.mark.parametrize("name", ["layer norm", "reset before", "peephole", "dense peephole", "coupled gates", "gru"])
def test_all_activated_gates_are_told(name):
    """Those that one part of a step hands on to another, too: o of a layer-norm LSTM, z of a GRU with reset before."""
    layer = LAYERS[name]()
    (flow,) = flows(layer, rows(T, B, F).float(), rows(T, B, H).float())
    assert flow.gate.keys() - {"c"} <= flow.values.keys()
    assert all(bool(((flow.values[g] > 0) & (flow.values[g] < 1)).all()) for g in flow.gate if g in "iforz")


@pytest.mark.parametrize("name", ["lstm", "gru", "recurrent dropout", "layer norm"])
def test_rows_that_are_put_in_order_are_told_in_their_own(name, monkeypatch):
    """As large calls are: rows go by their lengths, and steps outside them are not gone over."""
    monkeypatch.setattr(ragged, "SMALL", 0)
    lengths = torch.tensor([1, 3, 5, 7, 2])
    mask = torch.arange(T)[:, None] < lengths
    call = {"lengths": lengths, "reset": (rows(T, B) > 0.3) & mask}
    torch.manual_seed(0)
    layer, other = (LAYERS[name](backend=backend) for backend in ("reference", "fused"))
    other.load_state_dict(layer.state_dict())
    upstream, found = rows(T, B, 2 * H), []
    for one, dtype in ((layer.double(), torch.float64), (other, torch.float32)):
        torch.manual_seed(5)
        found.append(flows(one, rows(T, B, F).to(dtype), upstream.to(dtype), **call))
    assert_same(found[1], found[0])
    assert all((norms[~mask] == 0).all() for kind in KINDS for norms in getattr(found[1][0], kind).values())


@pytest.mark.parametrize("backend", ["reference", *BACKENDS[:2]])
def test_the_reference_itself_by_gradients_of_states(backend):
    """Against torch.autograd.grad with respect to the states of an LSTM unrolled by hand."""
    torch.manual_seed(0)
    layer = (
        rnnlab.nn.LSTM(F, H, backend=backend).double() if backend != "fused" else rnnlab.nn.LSTM(F, H, backend=backend)
    )
    x = rows(T, B, F).to(layer.weight_hh_l0.dtype)
    upstream = rows(T, B, H).to(x.dtype)
    (flow,) = flows(layer, x, upstream)

    cell = nn.LSTMCell(F, H, dtype=x.dtype)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    h, c, states = torch.zeros(B, H, dtype=x.dtype), torch.zeros(B, H, dtype=x.dtype), []
    for t in range(T):
        h, c = cell(x[t], (h, c))
        states.append((h, c))
    loss = sum((h * u).sum() for (h, _), u in zip(states, upstream, strict=True))
    loss = loss + math.cos(1) * states[-1][0].sum() + math.cos(2) * states[-1][1].sum()
    for name, k in (("h", 0), ("c", 1)):
        grads = torch.autograd.grad(loss, [state[k] for state in states], retain_graph=True)
        right = torch.stack(grads).norm(dim=-1)
        assert (flow.state[name] - right).abs().max() <= 2e-6 * right.max()
    # What step t hands back to h by R is what h_{t-1} got from later steps.
    share = flow.direct_share()
    assert share.shape == (T,) and bool(((share >= 0) & (share <= 1)).all())
    assert flow.over_batch("gate")["f"].shape == (T,)


@pytest.mark.parametrize("is_sorted", [False, True])
def test_rows_of_packed_sequences_are_told_in_their_own_order(is_sorted):
    lengths = [7, 6, 5, 3, 1] if is_sorted else [7, 3, 5, 1, 6]
    layer, x = rnnlab.nn.LSTM(F, H), rows(T, B, F).float()
    found = []
    for call in ({"lengths": torch.tensor(lengths)}, {}):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=is_sorted)
        with layer.record() as recording:
            output, _ = layer(x if call else packed, **call)
        (output if call else pad_packed_sequence(output)[0]).square().sum().backward()
        found.append(recording[0])
    assert_same([found[1]], [found[0]])


@pytest.mark.parametrize("way", [{}, {"bidirectional": True}, {"go_backwards": True}])
def test_windows_are_put_together(way):
    torch.manual_seed(0)
    whole = Recurrent(rnnlab.nn.GRUCell(F, H), **way)
    parts = Recurrent(rnnlab.nn.GRUCell(F, H), **way, checkpoint_steps=3)
    parts.load_state_dict(whole.state_dict())
    x, upstream = rows(T, B, F).float(), rows(T, B, 2 * H).float()
    expected = flows(whole, x, upstream)
    assert_same(flows(parts, x, upstream), expected, tolerance=1e-6)


STEPPED = {
    "lstm": lambda: rnnlab.nn.LSTM(F, H, num_layers=2),
    "gru": lambda: Recurrent(rnnlab.nn.GatedGRUCell(F, H)),
    "torch's cell": lambda: Recurrent(rnnlab.nn.LSTMCell(F, H)),
    "minGRU": lambda: Recurrent(rnnlab.nn.MinGRUCell(F, H)),
    "eager": lambda: rnnlab.nn.LSTM(F, H, backend="eager"),
}


@pytest.mark.parametrize("name", STEPPED)
def test_steps_are_one_call(name):
    torch.manual_seed(0)
    layer, x, upstream = STEPPED[name](), rows(T, B, F).float(), rows(T, B, H).float()
    expected = flows(layer, x, upstream)
    with layer.record(values=True) as recording:
        for _ in range(2):  # what comes after a backward pass is another call
            state, outputs = None, []
            for x_t in x:
                y, state = layer.step(x_t, state)
                outputs.append(y)
            parts = [part for one in state for part in (one if isinstance(one, tuple) else (one,))]
            (
                (torch.stack(outputs) * upstream).sum() + sum((p * math.cos(k + 1)).sum() for k, p in enumerate(parts))
            ).backward()
            found = [recording[k] for k in range(len(recording))]
            if name == "minGRU":  # a step is a scan, which knows no gates
                found, right = (
                    [f._replace(gate={}, recurrent={}, values={}) for f in many] for many in (found, expected)
                )
            assert_same(found, right if name == "minGRU" else expected)
        layer(x)[0].sum().backward()
        assert recording[0].state["h"].shape == (T, B)


def test_steps_without_a_gradient_are_zero():
    layer, x = rnnlab.nn.GRU(F, H), rows(T, B, F).float()
    with layer.record(values=True) as recording:
        y, state = layer.step(x[0])
        y_1, _ = layer.step(x[1], state)
        with torch.no_grad():
            layer.step(x[2], state)
        with pytest.raises(RuntimeError, match="no gradient has come"):
            recording[0]
        y.sum().backward()
    flow = recording[0]
    assert (flow.state["h"] > 0).all(1).tolist() == [True, False]
    assert flow.values["z"][1].isnan().all() and flow.gate["z"].shape == (2, B)


def test_a_second_pass_replaces_the_first():
    layer = rnnlab.nn.GRU(F, H)
    with layer.record() as recording:
        output, _ = layer(rows(T, B, F).float())
    output.sum().backward(retain_graph=True)
    first = recording[0].state["h"]
    output.sum().backward()
    assert torch.equal(recording[0].state["h"], first) and recording[0].values == {}


class Leaky(nn.Module):
    """h_t = h_{t-1} / 2 + W x_t, and no gate maths."""

    input_size, hidden_size = F, H

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(F, H)

    def initial_state(self, batch_size, device=None, dtype=None):
        return (torch.zeros(batch_size, H, device=device, dtype=dtype),)

    def forward(self, x_t, state):
        new = 0.5 * state[0] + self.linear(x_t)
        return new, (new,)


def test_a_cell_without_gate_maths_tells_its_states():
    layer = Recurrent(Leaky())
    with layer.record() as recording:
        layer(rows(T, B, F).float())[0][-1].sum().backward()
    expected = 0.5 ** torch.arange(T - 1, -1, -1) * H**0.5
    torch.testing.assert_close(recording[0].state["0"][:, 0], expected)
    assert recording[0].gate == {}
    share = recording[0].direct_share()
    assert share.shape == (T,) and share.isnan().all()


def test_what_records_nothing_says_so():
    x = rows(T, B, F).float()
    layer = rnnlab.nn.LSTM(F, H, backend="aten")
    with layer.record() as recording, pytest.raises(RuntimeError, match="know no recording of gradients"):
        layer(x)
    assert len(recording) == 0
    layer = rnnlab.nn.LSTM(F, H, candidate_dropout=0.2)
    with layer.record():
        assert "reference" in str(explain_backend(layer, x))
        layer(x)[0].sum().backward()
    layer = rnnlab.nn.LSTM(F, H)
    with layer.record() as recording:
        layer(x)
    with pytest.raises(RuntimeError, match="no gradient has come"):
        recording[0]


def test_outside_the_context_nothing_changes():
    torch.manual_seed(0)
    layer = rnnlab.nn.LSTM(F, H)
    x = rows(T, B, F).float()
    before = str(explain_backend(layer, x))
    with layer.record():
        layer(x)[0].sum().backward()
    grads = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    layer(x)[0].sum().backward()
    for parameter, grad in zip(layer.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert str(explain_backend(layer, x)) == before and layer.recording is None


@pytest.mark.parametrize("cell", [rnnlab.nn.LSTMCell, rnnlab.nn.SelectiveLRUCell])
def test_calls_that_are_not_differentiated_leave_the_recording_alone(cell):
    layer = Recurrent(cell(F, H))
    x = rows(T, B, F).float()
    with layer.record() as recording:
        layer(x)[0].sum().backward()
        before = recording[0].state
        with torch.no_grad():
            layer(x[:3])
        assert all(torch.equal(recording[0].state[name], value) for name, value in before.items())
        layer.requires_grad_(False)
        assert not layer(x)[0].isnan().any()  # no gradient, nothing to record, no error


def test_a_copy_of_a_layer_that_records_does_not():
    layer = rnnlab.nn.LSTM(F, H)
    with layer.record() as recording:
        layer(rows(T, B, F).float())[0].sum().backward()
        copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
        assert layer.recording is recording
    assert [one.recording for one in copies] == [None, None]


def test_transforms_say_that_they_record_nothing():
    layer = rnnlab.nn.LSTM(F, H, backend="reference")
    x = rows(T, B, F).float()

    def loss(weights):
        return torch.func.functional_call(layer, weights, (x,))[0].sum()

    with layer.record(), pytest.raises(RuntimeError, match="transforms of torch.func record no gradients"):
        torch.func.grad(loss)(dict(layer.named_parameters()))


@pytest.mark.parametrize("go_backwards", [False, True])
def test_windows_that_no_gradient_comes_to_are_zero(go_backwards):
    torch.manual_seed(0)
    layer = Recurrent(rnnlab.nn.GRUCell(F, H), checkpoint_steps=3, go_backwards=go_backwards)
    early = T - 2 if go_backwards else 1  # in the first window that is run
    with layer.record(values=True) as recording:
        layer(rows(T, B, F).float())[0][early].sum().backward()
    flow = recording[0]
    steps = torch.arange(T)
    comes = steps >= early if go_backwards else steps <= early
    assert ((flow.state["h"] > 0).all(1) == comes).all() and flow.gate["z"].shape == (T, B)
    assert flow.values["z"].shape == (T, B, H)


@pytest.mark.parametrize("make", [rnnlab.nn.LRUCell, rnnlab.nn.SelectiveLRUCell, rnnlab.nn.MinGRUCell])
def test_a_scan_by_gradients_of_states(make):
    """Against torch.autograd.grad with respect to the states of a cell unrolled by hand, complex ones too."""
    torch.manual_seed(0)
    cell = make(F, H).double()
    layer = Recurrent(cell, backend="eager")
    x, weights = rows(T, B, F), rows(T, B, cell.output_size)
    with layer.record() as recording:
        (layer(x)[0] * weights).sum().backward()
    state, states, loss = cell.initial_state(B, dtype=x.dtype), [], 0.0
    for x_t, w_t in zip(x, weights, strict=True):
        y_t, state = cell(x_t, state)
        states.append(state[0])
        loss = loss + (y_t * w_t).sum()
    right = torch.stack(torch.autograd.grad(loss, states))
    norms = right.abs().square().sum(-1).sqrt()
    torch.testing.assert_close(recording[0].state["h"], norms, rtol=1e-9, atol=1e-12)
    # What is handed back directly is all that an earlier state gets from later ones: at the last step, all it gets.
    alone = torch.autograd.grad((cell(x[-1], (states[-2],))[0] * weights[-1]).sum(), states[-2])[0]
    handed = alone.abs().square().sum(-1).sqrt()
    torch.testing.assert_close(recording[0].direct["h"][-1], handed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "auto", "fused"])
@pytest.mark.parametrize("make", [rnnlab.nn.LRUCell, rnnlab.nn.SelectiveLRUCell])
def test_a_complex_state_is_one_state_by_every_backend(make, backend):
    torch.manual_seed(0)
    layer = Recurrent(make(F, H), backend="eager")
    other = Recurrent(make(F, H), backend=backend)
    other.load_state_dict(layer.state_dict())
    call = {"lengths": torch.tensor([7, 3, 5, 1, 6]), "reset": rows(T, B) > 0.8}
    found = []
    for one in (other, layer):
        with one.record(values=True) as recording:
            (one(rows(T, B, F).float(), **call)[0] * rows(T, B, H).float()).sum().backward()
        found.append(recording[0])
    assert found[1].state.keys() == found[1].direct.keys() == {"h"}
    assert_same(found[:1], found[1:])
