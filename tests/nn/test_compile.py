"""torch.compile and torch.export: layers are one operator in the graph, whatever T and B, and compute what they do.

The graph is run by torch's own operators (aot_eager), which needs no C++ compiler; one case goes through inductor where
there is one.
"""

import copy
import pickle
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import rnnlab.nn
from rnnlab.nn import Recurrent
from tests.conftest import INTERPRETING
from tests.covering import few
from tests.nn.plain import Leaky

pytestmark = pytest.mark.skipif(INTERPRETING, reason="compiles for a CPU")

I, H = 3, 4  # noqa: E741  the letters of all docstrings
RATES = {"recurrent_dropout": 0.3, "candidate_dropout": 0.3, "weight_dropout": 0.3, "zoneout": 0.2}
MODULES: dict[str, Any] = {
    "lstm": lambda: rnnlab.nn.LSTM(I, H, 2, bidirectional=True),
    "projection": lambda: rnnlab.nn.LSTM(I, H, proj_size=2),
    "gru-eager": lambda: rnnlab.nn.GRU(I, H, backend="eager"),
    "regularised": lambda: rnnlab.nn.GRU(I, H, input_dropout=0.2, output_dropout=0.2, clip_grad_step=0.01, **RATES),
    "layer norm": lambda: Recurrent(rnnlab.nn.LayerNormLSTMCell(I, H), 2, True, norm="layer", **RATES),
    "layer norm-eager": lambda: Recurrent(rnnlab.nn.LayerNormLSTMCell(I, H), backend="eager"),
    "jordan": lambda: Recurrent(rnnlab.nn.JordanCell(I, H, 5, nonlinearity="relu")),
    "peepholes": lambda: Recurrent(rnnlab.nn.PeepholeLSTMCell(I, H)),
    "narx": lambda: Recurrent(rnnlab.nn.NARXCell(I, H, 5, input_taps=4)),
    "state space": lambda: Recurrent(rnnlab.nn.StateSpaceCell(I, H, 5)),
    "all states": lambda: Recurrent(rnnlab.nn.LSTMCell(I, H), learn_initial_state=True, return_all_states=True),
    "torch's cell": lambda: Recurrent(nn.LSTMCell(I, H)),
    "indrnn": lambda: Recurrent(rnnlab.nn.IndRNNCell(I, H)),
    "minlstm": lambda: Recurrent(rnnlab.nn.MinLSTMCell(I, H)),
    "lru": lambda: Recurrent(rnnlab.nn.LRUCell(I, H)),
    "scan with zoneout": lambda: Recurrent(rnnlab.nn.MinGRUCell(I, H), zoneout=0.3),
    "own cell": lambda: Recurrent(Leaky(I, H)),
}


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def results(call: Any, module: nn.Module, x: Tensor, **options: Any) -> list[Tensor | None]:
    """Return output and the gradients of x and all parameters, random masks the same each time."""
    torch.manual_seed(0)
    leaf = x.clone().requires_grad_()
    output = call(leaf, **options)[0]
    upstream = torch.linspace(-1, 1, output.numel()).view_as(output)
    return [output, *torch.autograd.grad(output, [leaf, *module.parameters()], upstream, allow_unused=True)]


@pytest.mark.parametrize("name", few(MODULES, ("regularised",)))
def test_compiled_whole_it_computes_the_same_at_any_size(name):
    module = MODULES[name]()
    with torch._dynamo.config.patch(error_on_recompile=True):
        plain = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
        # No size is that of features, or it would be taken for it.
        for num_steps, batch in ((11, 6), (9, 7)) if name != "own cell" else ((6, 3),):
            x = torch.randn(num_steps, batch, I)
            torch.testing.assert_close(results(plain, module, x), results(module, module, x))


@pytest.mark.parametrize("name", few(("lstm", "regularised", "layer norm", "indrnn", "minlstm", "lru"), ("indrnn",)))
def test_compiled_with_lengths_and_resets(name):
    module, x = MODULES[name](), torch.randn(6, 3, I)
    options = {"lengths": torch.tensor([6, 0, 3]), "reset": torch.rand(6, 3) < 0.3}
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(results(compiled, module, x, **options), results(module, module, x, **options))


def test_lengths_out_of_range_are_refused_by_the_graph():
    compiled = torch.compile(rnnlab.nn.LSTM(I, H), fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match="lengths should be"):
        compiled(torch.randn(6, 2, I), lengths=torch.tensor([7, 1]))


def test_time_is_not_unrolled():
    sizes = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        sizes.append(len(graph.graph.nodes))
        return graph

    for num_steps in (4, 40):
        torch._dynamo.reset()
        torch.compile(rnnlab.nn.GRU(I, H), fullgraph=True, backend=backend)(torch.randn(num_steps, 2, I))
    assert sizes[0] == sizes[1] < 40


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_inductor():
    module = nn.Sequential(rnnlab.nn.LSTM(I, H), Head())
    x = torch.randn(5, 2, I)
    compiled = torch.compile(module, fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))
    compiled(x).sum().backward()


class Head(nn.Module):
    """What stands behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(H, 2)

    def forward(self, result: tuple[Tensor, Any]) -> Tensor:
        return self.linear(result[0]).tanh()


@pytest.mark.parametrize("name", few(("lstm", "layer norm", "narx", "minlstm", "lru"), ("lstm",)))
def test_export_with_any_number_of_steps_and_rows(name):
    module = MODULES[name]().eval()
    shapes = ({0: Dim("time"), 1: Dim("batch")},)
    program = torch.export.export(module, (torch.randn(5, 2, I),), dynamic_shapes=shapes)
    x = torch.randn(9, 3, I)
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ("lstm", "layer norm"))
def test_a_saved_program_runs_in_a_new_process(name, tmp_path):
    module, file = nn.Sequential(MODULES[name](), First()).eval(), tmp_path / "program.pt2"
    shapes = ({0: Dim("time"), 1: Dim("batch")},)
    torch.export.save(torch.export.export(module, (torch.randn(5, 2, I),), dynamic_shapes=shapes), file)
    x = torch.randn(9, 6, I)
    torch.save((x, module(x).detach()), tmp_path / "expected.pt")
    script = f"""
import torch, rnnlab.nn.export
x, expected = torch.load({str(tmp_path / "expected.pt")!r})
torch.testing.assert_close(torch.export.load({str(file)!r}).module()(x), expected)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)


class First(nn.Module):
    """The output of a layer alone."""

    def forward(self, result: tuple[Tensor, Any]) -> Tensor:
        return result[0]


@pytest.mark.slow
def test_no_rows():
    for name in ("lstm", "layer norm", "minlstm"):
        module, x = MODULES[name](), torch.randn(5, 0, I)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(results(compiled, module, x), results(module, module, x))


def test_a_carried_state():
    module = Recurrent(rnnlab.nn.LSTMCell(I, H), stateful=True)
    compiled, plain = torch.compile(module, fullgraph=True, backend="aot_eager"), copy.deepcopy(module)
    for _ in range(3):
        x = torch.randn(6, 3, I)
        torch.testing.assert_close(compiled(x)[0], plain(x)[0])


@pytest.mark.slow
def test_a_module_out_of_a_pickle_compiles_in_a_new_process(tmp_path):
    file = tmp_path / "module.pkl"
    file.write_bytes(pickle.dumps(Recurrent(rnnlab.nn.NARXCell(I, H, 5, input_taps=6), return_all_states=True)))
    script = f"""
import pickle, torch
module = pickle.loads(open({str(file)!r}, "rb").read())
torch.compile(module, fullgraph=True, backend="aot_eager")(torch.zeros(4, 2, {I}))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
