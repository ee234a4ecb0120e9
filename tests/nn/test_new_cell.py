"""The worked example of CONTRIBUTING.md: its code, taken from the page, runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnlab.nn import GatedCell, Recurrent
from rnnlab_kernels.cells.vocabulary import sigmoid, tanh
from rnnlab_kernels.schedules.reference import reference
from rnnlab_kernels.schedules.stepwise.kit_torch import eager
from tests.kernels.problems import make_problem
from tests.tolerances import FLOAT64

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHAPTER = PAGE[PAGE.index("## A new cell") : PAGE.index("## A new schedule")]
BLOCKS = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)
TRITON = '"triton"'


def run(blocks: list[str]) -> dict[str, Any]:
    """Run blocks one after the other, as a reader would, and return the names they define."""
    names: dict[str, Any] = {"__name__": "contributing"}
    for block in blocks:
        exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    return names


def test_page_runs_and_prints_what_it_says(capsys):
    names = run([block for block in BLOCKS if TRITON not in block])
    printed = [line.removeprefix("# ") for block in BLOCKS for line in block.splitlines() if line.startswith("# ")]
    assert (
        capsys.readouterr().out.splitlines()
        == printed
        == ["Recurrent: fused (one compiled call over all steps: gate maths compiled for the CPU)"]
    )
    assert names["UGRNNCell"].gates_bwd is None and names["ByHand"].gates_bwd is not None


@pytest.mark.interpret
def test_page_runs_on_triton():
    assert len([block for block in BLOCKS if TRITON in block]) == 1
    run(BLOCKS)


def test_cell_computes_its_equations():
    cell = run(BLOCKS[:1])["UGRNNCell"](3, 4, dtype=torch.float64)
    x, h = torch.randn(6, 2, 3, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    output, (state,) = Recurrent(cell)(x)
    for x_t, y_t in zip(x, output, strict=True):
        gates = x_t @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
        z, n = gates[:, :4].sigmoid(), gates[:, 4:].tanh()
        h = z * h + (1 - z) * n
        torch.testing.assert_close(y_t, h, **FLOAT64)
    torch.testing.assert_close(state.h, h, **FLOAT64)


def test_an_edited_cell_runs_what_it_is_now():
    """As in a notebook, where a class is made again under the same name: nothing kept from before is taken for it."""
    torch.manual_seed(0)
    edited = BLOCKS[0].replace("return (z * h_prev + (1 - z) * n,), ()", "return (z * n + (1 - z) * h_prev,), ()")
    first, second = (run([block])["UGRNNCell"](3, 4) for block in (BLOCKS[0], edited))
    second.load_state_dict(first.state_dict())
    assert first.chain.name == second.chain.name and first.chain.key != second.chain.key
    x, found = torch.randn(5, 2, 3), []
    for cell in (first, second, first):
        results = []
        for backend in ("reference", "eager", "fused"):
            layer = Recurrent(cell, backend=backend)
            output, _ = layer(x)
            results.append([output, *torch.autograd.grad(output.square().sum(), [*layer.parameters()])])
        for result in results[1:]:
            torch.testing.assert_close(result, results[0])
        found.append(results[0][0])
    exported = torch.export.export(Recurrent(first, backend="eager"), (x,)).module()
    torch.testing.assert_close(exported(x)[0], found[0])
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", ["UGRNNCell", "ByHand"])
def test_gate_maths_run_both_ways_and_ragged(name, ragged, reverse):
    gates = run([block for block in BLOCKS if TRITON not in block])[name].chain.stages[-1].cell
    problem = make_problem(gates, (6, 3, 4, 5), reverse=reverse, ragged=ragged)
    expected, actual = problem.run(reference), problem.run(eager)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


def test_more_layers_and_both_directions_have_cells_of_their_own():
    layer = Recurrent(run(BLOCKS[:1])["UGRNNCell"](3, 4), num_layers=2, bidirectional=True)
    output, states = layer(torch.randn(5, 2, 3), lengths=[2, 5])
    assert output.shape == (5, 2, 8) and len(states) == 4
    assert [cell.input_size for cell in layer.cells] == [3, 3, 8, 8]
    assert len({cell.weight_hh.data_ptr() for cell in layer.cells}) == 4


class Gated(GatedCell):
    """A unit whose candidate can be dropped."""

    gates, states, carried = ("z", "n"), ("h",), ("h",)

    @staticmethod
    def gates_fwd(gates, carried):
        return (carried[0] + sigmoid(gates[0]) * (tanh(gates[1]) - carried[0]),), ()

    @staticmethod
    def gates_fwd_dropped(gates, carried):
        return (carried[0] + sigmoid(gates[0]) * (tanh(gates[1]) * carried[1] - carried[0]),), ()


def test_candidate_dropout_of_a_new_cell():
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    results = []
    for backend in ("reference", "eager"):
        torch.manual_seed(0)
        layer = Recurrent(Gated(4, 6, dtype=torch.float64), candidate_dropout=0.5, backend=backend)
        output, _ = layer(x)
        output.sum().backward()
        results.append([output.detach(), *(weight.grad for weight in layer.parameters())])
        assert not torch.equal(output, layer.eval()(x)[0])
    torch.testing.assert_close(*results, **FLOAT64)
