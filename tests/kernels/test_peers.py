"""Arms of other packages, with stand-ins for the packages that have their documented layouts and are plain torch."""

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest
import torch

from rnnlab_kernels.bench import arms, peers
from rnnlab_kernels.bench.gate import results
from rnnlab_kernels.bench.work import Work, draw
from rnnlab_kernels.schedules.reference import reference
from tests.conftest import INTERPRETING

pytestmark = pytest.mark.skipif(INTERPRETING, reason="nothing here is a kernel")
SMALL = Work("lstm", "fp32", 3, 5, 4, 6)


def _flashrnn(gates_x, weight, bias, states, function, backend, dtype):
    """The layout and the equations of FlashRNN's README and of its "vanilla" backend."""
    _, num_steps, _, heads, hidden = gates_x.shape
    assert weight.shape[1:] == (heads, hidden, hidden) and states.shape[2] == 1 and dtype == "float32"
    state, outputs = states[:, :, 0].unbind(0), []
    for t in range(num_steps):
        x, h = gates_x[:, t], torch.einsum("bnd,gned->bgne", state[0], weight)
        if function == "lstm":
            i, f, z, o = (x + h + bias).unbind(1)
            c = f.sigmoid() * state[1] + i.sigmoid() * z.tanh()
            state = (o.sigmoid() * c.tanh(), c)
        elif function == "gru":
            r, z = ((x[:, k] + h[:, k + 1] + bias[k + 1]).sigmoid() for k in range(2))
            n = (x[:, 2] + bias[3] + r * (h[:, 0] + bias[0])).tanh()
            state = (z * state[0] + (1 - z) * n,)
        else:
            state = ((x + h + bias)[:, 0].tanh(),)
        outputs.append(torch.stack(state))
    outputs = torch.stack(outputs, 2)
    return outputs, outputs[:, :, -1:]


class _Module(torch.nn.Module):
    """TorchRL's LSTMModule and GRUModule on a dictionary."""

    recurrent = False

    def __init__(self, inputs, hidden, layers, *, in_keys, out_keys, recurrent_backend, device, **precision):
        super().__init__()
        assert recurrent_backend == "stand-in" and precision == {"recurrent_matmul_precision": "ieee"}
        assert in_keys == ["x", "h", "c"][: len(in_keys)] and len(out_keys) == len(in_keys)
        self.name = "lstm" if len(in_keys) == 3 else "gru"
        layer = getattr(torch.nn, self.name.upper())(inputs, hidden, layers, batch_first=True, device=device)
        setattr(self, self.name, layer)

    def forward(self, batch):
        layer, (batch_size, num_steps) = getattr(self, self.name), batch["is_init"].shape[:2]
        assert _Module.recurrent and batch["h"].shape == (batch_size, num_steps, layer.num_layers, layer.hidden_size)
        rows = []
        for b in range(batch_size):
            parts, start = [], 0
            for t in range(1, num_steps + 1):
                if t == num_steps or batch["is_init"][b, t]:
                    parts.append(layer(batch["x"][b : b + 1, start:t])[0])
                    start = t
            rows.append(torch.cat(parts, 1))
        return {**batch, "y": torch.cat(rows)}


@contextmanager
def _set_recurrent_mode(mode):
    _Module.recurrent = mode
    yield
    _Module.recurrent = False


@pytest.fixture
def installed(monkeypatch):
    modules = SimpleNamespace(LSTMModule=_Module, GRUModule=_Module, set_recurrent_mode=_set_recurrent_mode)
    tensordict = SimpleNamespace(TensorDict=lambda values, shape: values)
    monkeypatch.setitem(sys.modules, "flashrnn", SimpleNamespace(flashrnn=_flashrnn))
    monkeypatch.setitem(sys.modules, "torchrl", ModuleType("torchrl"))
    monkeypatch.setitem(sys.modules, "torchrl.modules", modules)
    monkeypatch.setitem(sys.modules, "tensordict", tensordict)


def agrees(make, work, backend):
    given = draw(work)
    exact = given.to(torch.float64, "cpu")
    expected = results(arms.network(reference, work, exact), exact)
    mine = given.to(torch.float32, "cpu")
    found = results(make(work, mine, backend), mine)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("recurrence", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_flashrnn_gives_output_and_every_gradient(installed, cell, recurrence):
    agrees(peers.flashrnn, SMALL._replace(cell=cell, recurrence=recurrence), "vanilla")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("changes", [{}, {"layers": 2}, {"feature": "resets", "T": 30}], ids=str)
def test_torchrl_gives_output_and_every_gradient(installed, cell, changes):
    agrees(peers.torchrl, SMALL._replace(cell=cell, **changes), "stand-in")


@pytest.mark.parametrize("name", peers.PEERS)
def test_what_is_not_installed_is_left_out(name, monkeypatch):
    for module in ("flashrnn", "torchrl.modules", "torchrl"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(peers.importlib, "import_module", _missing)
    with pytest.raises(arms.Unavailable, match="^package is not installed$"):
        {"FlashRNN": peers.flashrnn, "TorchRL, Triton": peers.torchrl}[name](
            SMALL, draw(SMALL).to(torch.float32, "cpu"), ""
        )


def _missing(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("make", "changes", "reason"),
    [
        (peers.flashrnn, {"cell": "peephole_lstm"}, "no such layer"),
        (peers.flashrnn, {"feature": "zoneout"}, "no such layer"),
        (peers.flashrnn, {"layers": 2}, "one layer"),
        (peers.flashrnn, {"bidirectional": True}, "one direction"),
        (peers.flashrnn, {"ragged": True}, "no lengths"),
        (peers.torchrl, {"cell": "rnn_tanh"}, "no such layer"),
        (peers.torchrl, {"recurrence": True}, "input product"),
        (peers.torchrl, {"ragged": True}, "no lengths"),
        (peers.torchrl, {"dtype": "bf16"}, "float32"),
        (peers.torchrl, {}, "run on a GPU"),
    ],
)
def test_what_does_not_fit_says_why(installed, make, changes, reason):
    work = SMALL._replace(**changes)
    given = draw(work).to(torch.bfloat16 if work.dtype == "bf16" else torch.float32, "cpu")
    with pytest.raises(arms.Unavailable, match=reason):
        make(work, given)
