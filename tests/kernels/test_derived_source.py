"""What `derive` writes as source, how equal maths stay one function, and what it refuses, in words."""

import copy
import dataclasses
import inspect
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from rnnlab_kernels.cells import CELLS, Cell, bind_torch, bind_triton
from rnnlab_kernels.cells.derive import derive
from rnnlab_kernels.cells.vocabulary import relu_grad, sigmoid, tanh, where
from tests.kernels.test_derive import DERIVED, assert_gradient_is_autograds, make_leaky

LEAKY_SOURCE = """\
def leaky_fwd(gates, carried):
    (g,) = gates
    (h_prev,) = carried
    tanh_g = tanh(g)
    h = h_prev + 0.25 * (tanh_g - h_prev)
    return (h,), (tanh_g,)


def leaky_bwd(dstate, saved, carried, state):
    (dh,) = dstate
    (tanh_g,) = saved
    dtanh_g = dh * 0.25
    dh_prev = dh - dtanh_g
    dg = tanh_grad(dtanh_g, tanh_g)
    return (dg,), (dh_prev,)
"""


def test_what_is_written_can_be_read():
    cell = DERIVED["leaky"]
    source = f"{inspect.getsource(cell.gates_fwd)}\n\n{inspect.getsource(cell.gates_bwd)}"
    assert cell.source == source == LEAKY_SOURCE and cell.saved == ("tanh_g",)
    # Before binding it computes on numbers, as hand-written maths do.
    (h,), (g,) = cell.gates_fwd((0.5,), (2.0,))
    assert (h, g) == (2.0 + 0.25 * (math.tanh(0.5) - 2.0), math.tanh(0.5))


def test_equal_maths_are_one_function():
    # So that a sweep that makes its cell again compiles nothing again.
    first, second, other = (derive(make_leaky(rate, tanh)) for rate in (0.25, 0.25, 0.5))
    assert first == second and first.gates_fwd is second.gates_fwd
    assert first.gates_fwd is not other.gates_fwd and first.saved == other.saved
    assert inspect.getsource(make_leaky(0.25, tanh).gates_fwd) != inspect.getsource(first.gates_fwd)


def test_triton_sees_equal_maths_as_one():
    pytest.importorskip("triton")
    assert bind_triton(derive(make_leaky(0.25, tanh)).gates_bwd) is bind_triton(DERIVED["leaky"].gates_bwd)


def test_derived_cells_are_copied_and_pickled():
    # The cell they come from may hold closures, which cannot be.
    cell = derive(dataclasses.replace(make_leaky(0.25, tanh), dropped=make_leaky(0.5, tanh)))
    assert pickle.loads(pickle.dumps(cell)) == cell == copy.deepcopy(cell)
    changed = dataclasses.replace(cell, gates_bwd=CELLS["lstm"].gates_bwd, gates_fwd=CELLS["lstm"].gates_fwd)
    assert pickle.loads(pickle.dumps(changed)) == changed != cell
    done = "import pickle, sys; cell = pickle.load(sys.stdin.buffer); print(cell.gates_fwd((0.0,), (2.0,))[0])"
    result = subprocess.run([sys.executable, "-c", done], input=pickle.dumps(cell), capture_output=True, check=True)
    assert result.stdout.split() == [b"(1.5,)"]


def test_derive_leaves_hand_written_gradients_and_derives_the_variant_with_dropout():
    assert derive(CELLS["lstm"]) is CELLS["lstm"]
    variant = dataclasses.replace(make_leaky(0.25, tanh), name="leaky_dropped")
    cell = derive(dataclasses.replace(CELLS["gru"], dropped=variant))
    assert cell.gates_bwd is CELLS["gru"].gates_bwd and cell.dropped.gates_bwd is not None


def test_names_that_collide_or_are_no_identifiers_are_changed():
    def gates_fwd(gates, carried):
        tanh_gate, h_gate, keyword = gates
        (h_prev,) = carried
        return (tanh(tanh_gate) * sigmoid(h_gate) + h_prev * sigmoid(keyword),), ()

    cell = Cell("my-cell 2", ("tanh", "h", "lambda"), ("h",), ("h",), (), 0, gates_fwd)
    assert_gradient_is_autograds(derive(cell), cell)


def test_a_cell_without_a_gradient_says_what_to_do():
    with pytest.raises(TypeError, match=r"derive\(cell\)"):
        bind_torch(make_leaky(0.25, tanh).gates_bwd)


def branch(x):
    return x if x > 0 else 0.1 * x


def fixed_rate(x):
    return torch.tensor(0.5) * x


@pytest.mark.parametrize(
    ("activation", "used"),
    [
        (branch, "the truth of a value"),
        (fixed_rate, "a value of type Tensor"),
        (torch.tanh, "torch's tanh"),
        (torch.nn.functional.silu, "torch's silu"),
        (np.tanh, r"numpy\.tanh \(nearest: tanh\)"),
        (math.cos, "functions of math"),
        (lambda x: max(x, 0.0), "the truth of a value .*max, min"),
        (lambda x: x * (x > 0), "a comparison but as the first argument of where"),
        (lambda x: (x > 0) + x, "a comparison but as the first argument of where"),
        (lambda x: where((x > 0) & (x < 1), x, 0.0), "a comparison but as the first argument of where"),
        (lambda x: tanh(x > 0), "a comparison but as the first argument of where"),
        (lambda x: where(x, x, 0.0), "where without a comparison"),
        (lambda x: where(x == 0, x, 0.0), "== or !="),
        (lambda x: x and 1.0, "the truth of a value"),
        (lambda x: x.tanh(), r"the attribute \.tanh \(nearest: tanh\)"),
        (lambda x: sigmod(x), r"sigmod, which is not defined \(nearest: sigmoid\)"),  # noqa: F821
        (lambda x: x**0.5, r"the power 0\.5"),
        (lambda x: x**x, "a value to the power of a value"),
        (lambda x: 2.0**x, "a number to the power of a value"),
        (lambda x: x.clamp(0), r"the attribute \.clamp"),
        (lambda x: x[0], "a value as a sequence"),
        (lambda x: x % 1.0, "%"),
        (lambda x: np.asarray(x), "a value as an array"),
        (lambda x: x + "1", "a value of type str"),
        (lambda x: x * math.inf, "the number inf"),
        (lambda x: relu_grad(1.0, x), "a number as an argument of relu_grad"),
    ],
)
def test_derive_names_what_gate_maths_cannot_use(activation, used):
    with pytest.raises(TypeError, match=f"cannot use .*{used}.* sigmoid, tanh, relu, exp, softplus"):
        derive(make_leaky(0.25, activation))


@pytest.mark.parametrize("result", [(), ((),), ((1.0,), ()), ([1.0], ()), ((), ())], ids=repr)
def test_derive_names_a_result_of_the_wrong_form(result):
    with pytest.raises(TypeError, match="gates_fwd of 'odd' must return"):
        derive(Cell("odd", ("g",), ("h",), (), (), 0, lambda gates, carried: result))
