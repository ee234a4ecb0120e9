"""Each study at a size that takes a second or two: its own claims hold, and a theory that is wrong is told."""

from importlib import import_module

import pytest

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
    monkeypatch.setitem(carousel._KEEPS, "LSTMCell", (0, 4))
    assert not carousel._block_is_gate(4).holds


def test_a_bound_that_is_passed_is_told():
    import torch

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
