"""The worked example of CONTRIBUTING.md: a cell written in a dozen lines runs on the schedules, gradients included."""

import re
from pathlib import Path

import pytest
import torch

from rnnlab_kernels.cells import Cell
from rnnlab_kernels.cells.vocabulary import tanh, tanh_grad
from rnnlab_kernels.schedules.eager import eager
from rnnlab_kernels.schedules.reference import reference
from tests.kernels.problems import make_problem
from tests.tolerances import FLOAT64

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def _fwd(gates, carried):
    (g,) = gates
    (h_prev,) = carried
    g = tanh(g)
    return (h_prev + 0.25 * (g - h_prev),), (g,)


def _bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (g,) = saved
    return (tanh_grad(0.25 * dh, g),), (0.75 * dh,)


LEAKY = Cell(
    "leaky", gates=("g",), states=("h",), carried=("h",), saved=("g",), split=0, gates_fwd=_fwd, gates_bwd=_bwd
)


def test_the_page_shows_the_cell_tested_here():
    page = re.search(r"```python\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL)[1]
    here = Path(__file__).read_text(encoding="utf-8")
    for line in page.splitlines():
        if not line.startswith("LEAKY"):
            assert line in here, line


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_new_cell_runs_on_the_eager_schedule(reverse, ragged):
    problem = make_problem(LEAKY, (6, 3, 4, 5), reverse=reverse, ragged=ragged)
    expected, actual = problem.run(reference), problem.run(eager)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.interpret
def test_new_cell_runs_on_the_pointwise_schedule():
    from rnnlab_kernels.schedules.pointwise import pointwise

    problem = make_problem(LEAKY, (6, 3, 4, 5)).to(torch.float32)
    exact, actual = problem.to(torch.float64).run(reference), problem.run(pointwise)
    for key, value in exact.items():
        torch.testing.assert_close(actual[key], value.float(), msg=lambda text, key=key: f"{key}: {text}")
