"""Level 0: gate maths against torch.nn and against autograd, in float64."""

import pytest
import torch

from rnnlab_kernels.cells import CELLS, bind_torch, vocabulary
from rnnlab_kernels.cells.bind import TORCH_NAMES
from rnnlab_kernels.schedules.reference import reference
from tests.kernels.problems import SIZE_IDS, SIZES, make_problem
from tests.tolerances import FLOAT64

CELL_NAMES = list(CELLS)
TORCH_CELLS = [name for name in CELLS if name in ("rnn_tanh", "rnn_relu", "lstm", "gru")]


def torch_layer(name: str, num_inputs: int, hidden: int) -> torch.nn.RNNBase:
    if name.startswith("rnn_"):
        return torch.nn.RNN(num_inputs, hidden, nonlinearity=name.removeprefix("rnn_"), dtype=torch.float64)
    return getattr(torch.nn, name.upper())(num_inputs, hidden, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
@pytest.mark.parametrize("name", TORCH_CELLS)
def test_reference_matches_torch_nn(name, size):
    problem = make_problem(CELLS[name], size)
    layer = torch_layer(name, size[2], size[3])
    parameters = {"weight_ih_l0": "ih", "weight_hh_l0": "hh", "bias_ih_l0": "bias_ih", "bias_hh_l0": "bias_hh"}
    leaves = {ours: getattr(layer, theirs) for theirs, ours in parameters.items()}
    with torch.no_grad():
        for ours, leaf in leaves.items():
            leaf.copy_(problem.inputs[ours])

    def run_torch(cell, x, state_0, weights, mask, reverse):
        state = tuple(value.unsqueeze(0) for value in state_0)
        output, final = torch.func.functional_call(
            layer,
            {theirs: problem.inputs[ours] for theirs, ours in parameters.items()},
            (x, state if len(state) > 1 else state[0]),
        )
        return output, tuple(value.squeeze(0) for value in (final if len(state) > 1 else (final,)))

    expected, actual = problem.run(run_torch), problem.run(reference)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, **FLOAT64, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", CELL_NAMES)
def test_gates_bwd_is_the_gradient_of_gates_fwd(name):
    cell = CELLS[name]
    fwd, bwd = bind_torch(cell.gates_fwd), bind_torch(cell.gates_bwd)
    gates = tuple(torch.randn(3, 5, dtype=torch.float64).requires_grad_() for _ in range(cell.num_gates + cell.split))
    carried = tuple(torch.randn(3, 5, dtype=torch.float64).requires_grad_() for _ in cell.carried)
    state, saved = fwd(gates, carried)
    dstate = tuple(torch.randn_like(value) for value in state)
    expected = torch.autograd.grad(state, (*gates, *carried), dstate)
    dgates, dcarried = bwd(dstate, saved, carried, state)
    torch.testing.assert_close((*dgates, *dcarried), expected, **FLOAT64)
    assert len(saved) == len(cell.saved) and len(state) == len(cell.states)


@pytest.mark.parametrize("name", CELL_NAMES)
def test_gates_bwd_is_linear_in_the_upstream_gradient(name):
    # Ragged batches rely on it: a row outside its length gets a zero gradient and must write zeros.
    cell = CELLS[name]
    fwd, bwd = bind_torch(cell.gates_fwd), bind_torch(cell.gates_bwd)
    carried = tuple(torch.randn(2, 3) for _ in cell.carried)
    state, saved = fwd(tuple(torch.randn(2, 3) for _ in range(cell.num_gates + cell.split)), carried)
    dgates, dcarried = bwd(tuple(torch.zeros(2, 3) for _ in state), saved, carried, state)
    assert all((grad == 0).all() for grad in (*dgates, *dcarried))


@pytest.mark.parametrize("name", sorted(TORCH_NAMES))
def test_vocabulary_means_the_same_in_python_and_torch(name):
    function = getattr(vocabulary, name)
    num_arguments = function.__code__.co_argcount
    points = [(-2.5,), (0.0,), (0.7,)] if num_arguments == 1 else [(1.5, 0.3, -0.2), (-2.0, 0.8, 4.0)]
    for point in points:
        given = (point[0] > 0, *point[1:]) if name == "where" else point[:num_arguments]
        arguments = [
            torch.tensor(value, dtype=torch.bool if isinstance(value, bool) else torch.float64) for value in given
        ]
        expected = torch.tensor(function(*given), dtype=torch.float64)
        torch.testing.assert_close(TORCH_NAMES[name](*arguments), expected, rtol=1e-12, atol=0.0, equal_nan=True)
