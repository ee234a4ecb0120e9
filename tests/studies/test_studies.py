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
    "jacobians": {"size": 6, "num_steps": 40, "updates": 20, "count": 6},
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
