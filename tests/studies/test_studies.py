"""Each study at a size that takes a second or two: its own claims hold, and a theory that is wrong is told."""

import math
from importlib import import_module

import pytest
import torch

from rnnlab.studies import QUESTIONS

SMALL = {
    "exploding": {"num_steps": 11},
    "vanishing": {"num_steps": 11},
    "activations": {"size": 300, "num_steps": 8, "num_draws": 5},
    "eigenvalues": {},
    "stability": {"num_steps": 300},
    "carousel": {"size": 8, "num_steps": 20, "num_draws": 2, "longest": 30, "far_steps": 30},
    "jacobians": {"size": 6, "num_steps": 20, "updates": 20, "count": 6},
    "bptt": {"num_steps": 12, "size": 6, "updates": 20, "batch": 8},
}


@pytest.fixture(scope="module")
def outcomes():
    """Studies that have been run, by name."""
    return {}


def run(name, outcomes):
    if name not in outcomes:
        outcomes[name] = import_module(f"rnnlab.studies.{name}").study(**SMALL[name])
    return outcomes[name]


@pytest.mark.parametrize("name", QUESTIONS)
def test_theory_and_measurement_agree(name, outcomes):
    outcome = run(name, outcomes)
    assert outcome.claims and not [claim for claim in outcome.claims if not claim.holds]
    assert outcome.verdict.startswith(f"theory and measurement agree in all {len(outcome.claims)} claims: ")
    assert len({claim.text for claim in outcome.claims}) == len(outcome.claims)


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_figure_draws_numbers_and_theory(name, outcomes):
    outcome = run(name, outcomes)
    assert len({tuple(row) for row in outcome.rows}) == 1 and len(outcome.rows) > 10
    labels = [text for axis in outcome.figure.axes for text in axis.get_legend_handles_labels()[1]]
    assert any("theory" in label for label in labels), labels
    for axis in outcome.figure.axes:
        assert axis.get_xlabel() or axis.axison is False or "colorbar" in axis.get_label()


def test_a_wrong_rate_is_told(monkeypatch):
    """A layer that grows by sqrt(3) a step, as a linear one would, is none of ReLU."""
    from rnnlab.studies import exploding, relu

    right = relu.rate
    monkeypatch.setattr(relu, "rate", lambda s, size: right(2 * s, size))
    outcome = exploding.study(size=300, num_steps=6, num_draws=5)
    assert not outcome.agrees and outcome.verdict.startswith("theory and measurement disagree in 4 of 4 claims: N(0, 3")


def test_a_wrong_gate_is_told(monkeypatch):
    """The input gate's product is none of dc_t/dc_{t-1}."""
    from rnnlab.studies import carousel

    assert carousel._block_is_gate(4).holds
    monkeypatch.setitem(carousel._KEEPS, "LSTMCell", 0)
    assert not carousel._block_is_gate(4).holds


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_gradients_by_path_are_those_of_autograd_through_torchs_cell(name):
    """The cell path is what is left where R h is held fixed."""
    from rnnlab.studies import carousel

    size, inputs, vectors = 6, torch.randn(13, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    cell = carousel.make(name, size, bias=None if name == "RNNCell" else 1.0)
    oracle = getattr(torch.nn, name)(4, size).double()
    oracle.load_state_dict(cell.state_dict())

    def backpropagate(is_held):
        """Return gradients by the last part of each state, by distance (T+1, K, H)."""
        h, parts = torch.zeros(1, size, dtype=torch.float64), []
        state = (h, h) if name == "LSTMCell" else h
        for x in inputs:
            product = h.detach() @ oracle.weight_hh.T
            held = {"weight_hh": 0 * oracle.weight_hh, "bias_hh": oracle.bias_hh + product[0]}
            state = torch.func.functional_call(oracle, held if is_held else {}, (x[None], state))
            h, part = state if name == "LSTMCell" else (state, state)
            parts.append(part)
        options = {"retain_graph": True, "materialize_grads": True}
        rows = [torch.cat(torch.autograd.grad(parts[-1], parts, v[None], **options)) for v in vectors]
        return torch.stack(rows, 1).flip(0)

    whole, alone = backpropagate(False), backpropagate(True)
    sizes = [gradient.norm(dim=2) for gradient in (whole, alone, whole - alone)]
    found = carousel.follow(cell, inputs, vectors)
    close = {"rtol": 0.0, "atol": 1e-9}
    torch.testing.assert_close(found.total, (sizes[0] / sizes[0][0]).log().mean(1), **close)
    torch.testing.assert_close(found.cell, (sizes[1] / sizes[1][0]).log().mean(1), **close)
    torch.testing.assert_close(found.share, (sizes[1] / (sizes[1] + sizes[2])).mean(1), **close)


@pytest.mark.parametrize(("part", "value"), [("total", 7.0), ("cell", 7.0), ("share", 0.123), ("total", float("nan"))])
def test_a_wrong_part_of_a_gradient_is_told(part, value, monkeypatch):
    """Also where but one of the cells that are looked at has it, and not the first one."""
    from rnnlab.studies import carousel

    right, calls = carousel.measure, []

    def wrong(cells, num_steps):
        calls.append(cells)
        found = right(cells, num_steps)
        return found._replace(**{part: torch.full_like(found.total, value)}) if len(calls) == 2 else found

    monkeypatch.setattr(carousel, "measure", wrong)
    assert sum(not claim.holds for claim in carousel._products(10)) == 1


def test_a_network_without_numbers_is_told():
    """NaN of the second network is not hidden by the first one, of which all claims of the orthogonal one hold."""
    from rnnlab.studies.jacobians import Measured, _claims

    right = Measured(torch.zeros(20, 2), torch.zeros(2), torch.zeros(2), 0.0, 0.0, 0.0)
    wrong = Measured(*(math.nan * value for value in right))
    assert all(claim.holds for claim in _claims({"linear, orthogonal": right}, 20))
    holds = [claim.holds for claim in _claims({"linear, orthogonal": right, "LSTM": wrong}, 20)]
    assert holds == [True, *[False] * 5]


def test_a_bound_that_is_passed_is_told():
    from rnnlab.studies.stability import Trace

    size = torch.tensor([0.5, 1.1])
    assert not Trace("", "", size, "<=", torch.ones(2)).claim.holds
    assert not Trace("", "", size, ">=", torch.ones(2)).claim.holds
    assert not Trace("", "", size, "=", torch.ones(2)).claim.holds
    assert Trace("", "", size, "<=", 1.2 * torch.ones(2)).claim.holds


def test_windows_shorter_than_a_sequence_lose_what_theory_says(outcomes):
    """Of dL/da of h_2 = a h_1 + 1 = a + 1 nothing is lost by windows of one step, of h_3 = a h_2 + 1 a part is."""
    from rnnlab.studies import bptt

    for num_steps, expected in ((2, 0.0), (3, 0.9 / (1 + 2 * 0.9))):
        measured, theory = bptt.linear(num_steps, [1, num_steps])
        assert measured[1].bias == pytest.approx(expected, abs=1e-12) and theory[1] == pytest.approx(
            expected, abs=1e-12
        )
    biased = [row["bias"] for row in run("bptt", outcomes).rows if row["window"] == 1 and row["task"] != "linear"]
    assert len(biased) == 6 and min(biased) > 0.01
