"""Heads: a cell with `num_heads` against the same cell with the block-diagonal recurrent weight written out.

Letters: T time, B batch, I input_size, H hidden_size, N heads, D = H/N, G gates.
"""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from rnnlab.nn import init
from rnnlab.nn.cells import CIFGCell, ElmanCell, GatedGRUCell, GatedLSTMCell
from rnnlab.nn.options import WEIGHT, drop_weights
from rnnlab.nn.penalties import l2, orthogonality
from rnnlab.nn.pruning import finish_pruning, magnitude_prune
from rnnlab.nn.recurrent import Recurrent
from rnnlab_kernels.launch import has_numba
from rnnlab_kernels.schedules.layout import block_diagonal
from rnnlab_kernels.schedules.noise.masks import draw_seed, keep_mask
from tests.conftest import INTERPRETING
from tests.tolerances import FLOAT64

T, B, I, H, P = 5, 3, 4, 6, 0.4  # noqa: E741  the letters of all docstrings
CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tanh": (ElmanCell, {}),
    "relu": (ElmanCell, {"nonlinearity": "relu"}),
    "gru": (GatedGRUCell, {}),
    "gru, one bias": (GatedGRUCell, {"bias": "single"}),
    "lstm": (GatedLSTMCell, {}),
    "cifg": (CIFGCell, {"bias": False}),
}
every_cell = pytest.mark.parametrize("name", CELLS)
needs_numba = pytest.mark.skipif(not has_numba(), reason="needs Numba")
every_backend = pytest.mark.parametrize(
    "backend", ["auto", "reference", "eager", pytest.param("fused", marks=needs_numba)]
)
OPTIONS: dict[str, dict[str, Any]] = {
    "layers, both ways": {"num_layers": 2, "bidirectional": True, "dropout": P, "norm": "layer", "residual": True},
    "backwards": {"go_backwards": True, "return_all_states": True},
    "noise": {"num_layers": 2, "recurrent_dropout": P, "zoneout": P, "input_dropout": P, "output_dropout": P},
    "clipped": {"clip_grad_step": 0.01, "learn_initial_state": True},
    "windows": {"checkpoint_steps": 2, "zoneout": P},
}


def make(name: str, num_heads: int, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    kind, own = CELLS[name]
    return kind(I, H, num_heads=num_heads, dtype=dtype, **own, **options)


def written_out(weight: Tensor, num_heads: int) -> Tensor:
    """Return (G*H, H) of (G*H, D), row by row as the docstring has it: each reads the units of its own head."""
    units, rows = H // num_heads, []
    for row, values in enumerate(weight):
        head = row % H // units
        rows.append(nn.functional.pad(values, (head * units, H - (head + 1) * units)))
    return torch.stack(rows)


def picked(dense: Tensor, num_heads: int) -> Tensor:
    """Return the entries (G*H, D) of a matrix (G*H, H) that the heads have."""
    units = H // num_heads
    return torch.stack([row.view(num_heads, units)[k % H // units] for k, row in enumerate(dense)])


def without_heads(layer: Recurrent, name: str, **options: Any) -> Recurrent:
    """Return the same layer with dense weights."""
    like = next(layer.parameters())
    cells = [make(name, 1, like.dtype).respawn(cell.input_size) for cell in layer.cells]
    dense = Recurrent(cells[0], **options)
    dense.cells = nn.ModuleList(cells)
    state = {
        key: written_out(value, layer.cells[0].num_heads) if key.endswith("weight_hh") else value
        for key, value in layer.state_dict().items()
    }
    dense.load_state_dict(state)
    return dense


def flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [part for each in value for part in flat(each)]


def observed(layer: Recurrent, x: Tensor, num_heads: int, **given: Any) -> dict[str, Tensor]:
    """Return what a call gives out and all gradients, those of dense recurrent weights where the heads have entries."""
    torch.manual_seed(3)
    leaf = x.clone().requires_grad_()
    values = flat(layer(leaf, **given))
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(value.shape, generator=generator).to(value.dtype) for value in values]
    torch.autograd.backward(values, upstream)
    found = {f"value {k}": value.detach() for k, value in enumerate(values)}
    for key, parameter in [("x", leaf), *layer.named_parameters()]:
        grad = parameter.grad
        assert grad is not None, key
        dense = key.endswith("weight_hh") and grad.shape[1] == H
        found[f"d {key}"] = picked(grad, num_heads) if dense else grad
    return found


def assert_equal_without_heads(
    name: str, num_heads: int, backend: str, options: dict[str, Any], dtype: torch.dtype, **given: Any
) -> None:
    layer = Recurrent(make(name, num_heads, dtype), backend=backend, **options)
    dense = without_heads(layer, name, backend="reference", **options)
    x = torch.randn(T, B, I, dtype=dtype)
    tolerance = FLOAT64 if dtype == torch.float64 else {}
    found, expected = (observed(each, x, num_heads, **given) for each in (layer, dense))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, **tolerance, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("num_heads", [2, 3, 6])
@every_backend
@every_cell
def test_heads_are_a_block_diagonal_weight(name, backend, num_heads):
    dtype = torch.float32 if backend == "fused" else torch.float64
    assert_equal_without_heads(name, num_heads, backend, {}, dtype)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@every_backend
@pytest.mark.parametrize("name", ["tanh", "gru", "lstm"])
def test_heads_with_the_options_of_recurrent(name, backend, options):
    dtype = torch.float32 if backend == "fused" else torch.float64
    reset = torch.rand(T, B) < 0.3
    assert_equal_without_heads(name, 2, backend, options, dtype, lengths=torch.tensor([T, 0, 2]), reset=reset)


@pytest.mark.parametrize("backend", ["reference", "eager"])
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_candidate_dropout(name, backend):
    assert_equal_without_heads(name, 3, backend, {"candidate_dropout": P}, torch.float64)


def test_a_function_as_nonlinearity():
    cell = ElmanCell(I, H, torch.sin, num_heads=3, dtype=torch.float64)
    dense = ElmanCell(I, H, torch.sin, dtype=torch.float64)
    dense.load_state_dict({**cell.state_dict(), "weight_hh": written_out(cell.weight_hh, 3)})
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(Recurrent(cell)(x), Recurrent(dense)(x), **FLOAT64)


@every_cell
def test_weights_as_the_schedules_take_them(name):
    cell = make(name, 3)
    gates = len(cell.gates)
    assert cell.weight_hh.shape == (gates * H, H // 3)
    weight = cell.kernel_weights()["hh"]
    assert weight.shape == (3, gates * H // 3, H // 3)
    assert torch.equal(block_diagonal(weight), written_out(cell.weight_hh, 3))
    for parameter in cell.parameters():
        assert parameter.abs().max() <= H**-0.5
    assert cell.weight_hh.abs().max() > 0.8 * H**-0.5


@pytest.mark.parametrize(
    ("name", "theirs"), [("tanh", nn.RNNCell), ("gru", nn.GRUCell), ("lstm", nn.LSTMCell)], ids=["tanh", "gru", "lstm"]
)
def test_one_head_is_the_cell_without(name, theirs):
    torch.manual_seed(0)
    other = theirs(I, H)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    cell = make(name, 1, torch.float32)
    assert torch.equal(torch.rand(1), drawn)
    assert [key for key, _ in cell.named_parameters()] == [key for key, _ in other.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(cell.parameters(), other.parameters(), strict=True))
    assert cell.kernel_weights()["hh"] is cell.weight_hh


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: GatedLSTMCell(I, H, num_heads=4), ValueError, "num_heads must divide hidden_size, got: 4 and 6"),
        (lambda: CIFGCell(I, H, num_heads=0), ValueError, "num_heads must be at least 1, got: 0"),
        (lambda: ElmanCell(I, H, num_heads=2.0), TypeError, "num_heads should be of type int, got: float"),
        (lambda: GatedGRUCell(I, H, num_heads=True), TypeError, "num_heads should be of type int, got: bool"),
        (
            lambda: GatedLSTMCell(I, H, proj_size=2, num_heads=2),
            ValueError,
            "num_heads=2 goes with proj_size=0, got: 2",
        ),
        (lambda: GatedGRUCell(I, H, reset_after=False, num_heads=2), ValueError, "num_heads=2, reset_after=False"),
    ],
)
def test_errors_say_what_is_allowed(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_one_head_goes_with_everything():
    GatedLSTMCell(I, H, proj_size=2, num_heads=1)
    GatedGRUCell(I, H, reset_after=False, num_heads=1)


def test_weight_dropout_drops_the_rows_of_heads_as_one_matrix():
    weight = torch.randn(3, 8, 2, dtype=torch.float64)
    dropped = drop_weights({"hh": weight}, ["hh"], P, 5)["hh"]
    assert dropped.shape == weight.shape
    assert torch.equal(dropped.flatten(0, 1), drop_weights({"hh": weight.flatten(0, 1)}, ["hh"], P, 5)["hh"])


@pytest.mark.parametrize("backend", ["reference", "eager"])
@every_cell
def test_weight_dropout(name, backend):
    layer = Recurrent(make(name, 2), backend=backend, weight_dropout=P)
    x = torch.randn(T, B, I, dtype=torch.float64)
    cell: Any = copy.deepcopy(layer.cells[0])
    torch.manual_seed(3)
    units = H // 2
    mask = keep_mask(draw_seed(), WEIGHT, 0, (1, len(cell.weight_hh), units), P, "cpu", torch.float64)[0] / (1 - P)
    mask = mask.view(2, -1, units, units).transpose(0, 1).reshape(-1, units)  # by gate, then head, as the parameter
    with torch.no_grad():
        cell.weight_hh.mul_(mask)
    found, expected = observed(layer, x, 2), observed(Recurrent(cell), x, 2)
    expected["d cells.0.weight_hh"] = expected["d cells.0.weight_hh"] * mask
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_second_gradients(backend):
    layer = Recurrent(make("gru", 3), backend=backend)
    x = torch.randn(2, 2, I, dtype=torch.float64, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))[0]

    assert torch.autograd.gradgradcheck(run, (x, *values))


@every_cell
def test_steps_copies_and_state_dicts(name):
    layer = Recurrent(make(name, 2), num_layers=2).eval()
    x = torch.randn(T, B, I, dtype=torch.float64)
    expected = layer(x)
    state, outputs = None, []
    for x_t in x:
        y, state = layer.step(x_t, state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs), expected[0], **FLOAT64)
    other = Recurrent(make(name, 2), num_layers=2).eval()
    assert other.cells[1].num_heads == 2 and not torch.equal(other(x)[0], expected[0])
    other.load_state_dict(layer.state_dict())
    for each in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(each(x)[0], expected[0])
    with pytest.raises(RuntimeError, match="size mismatch for cells.0.weight_hh"):
        Recurrent(make(name, 1), num_layers=2).load_state_dict(layer.state_dict())


def test_penalties_and_pruning():
    layer = Recurrent(make("lstm", 2))
    cell, x = layer.cells[0], torch.randn(T, B, I, dtype=torch.float64)
    dense = written_out(cell.weight_hh, 2)
    torch.testing.assert_close(l2(layer), dense.square().sum(), **FLOAT64)
    torch.testing.assert_close(orthogonality(cell.weight_hh), orthogonality(dense), **FLOAT64)
    assert magnitude_prune(layer, 0.5)["cells.0.weight_hh"] == 0.5
    pruned = layer(x)[0]
    finish_pruning(layer)
    assert torch.equal(layer(x)[0], pruned) and (cell.weight_hh == 0).sum() == cell.weight_hh.numel() // 2


def test_initialisers_take_each_head_as_a_cell():
    cell = init.initialise(make("lstm", 2), recurrent="identity(0.5)")
    identity = 0.5 * torch.eye(H, dtype=torch.float64)
    assert torch.equal(written_out(cell.weight_hh, 2), identity.repeat(4, 1))
    init.initialise(cell, recurrent="orthogonal")
    dense = written_out(cell.weight_hh, 2)
    torch.testing.assert_close(dense.t() @ dense, torch.eye(H, dtype=torch.float64), **FLOAT64)
    before = cell.weight_hh.detach().clone()
    init.initialise(cell, recurrent={"g": "identity"}, forget_bias=1.0)
    blocks, old = cell.weight_hh.view(4, H, -1), before.view(4, H, -1)
    assert torch.equal(written_out(blocks[2], 2), 2 * identity)
    assert torch.equal(blocks[[0, 1, 3]], old[[0, 1, 3]])
    init.initialise(cell)
    assert torch.equal(cell.weight_hh.view(4, H, -1)[3], old[3])


@pytest.mark.skipif(INTERPRETING, reason="compiles for a CPU")
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "auto"])
def test_compiled_whole(backend):
    torch._dynamo.reset()
    rates = {"recurrent_dropout": P, "weight_dropout": P, "zoneout": P}
    module = Recurrent(make("lstm", 2, torch.float32), 2, True, backend=backend, **rates)
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
        for num_steps, batch in ((11, 7), (9, 8)):
            x, found = torch.randn(num_steps, batch, I), []
            for call in (compiled, module):
                torch.manual_seed(0)
                output = call(x)[0]
                found.append([output, *torch.autograd.grad(output.square().sum(), list(module.parameters()))])
            torch.testing.assert_close(*found)
    torch._dynamo.reset()


@pytest.mark.skipif(INTERPRETING, reason="compiles for a CPU")
def test_exported_for_any_size():
    module = Recurrent(make("gru", 3, torch.float32)).eval()
    shapes = {"input": {0: Dim("time"), 1: Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(module, (torch.randn(9, 7, I),), dynamic_shapes=shapes)
        x = torch.randn(5, 2, I)
        torch.testing.assert_close(program.module()(x)[0], module(x)[0])
