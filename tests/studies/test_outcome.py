import math

import pytest

from rnnlab.studies.outcome import Claim, Outcome, greatest, least, within


@pytest.mark.parametrize(
    ("measured", "relation", "holds"),
    [(1.1, "=", True), (0.8, "=", False), (1.1, "<=", True), (1.2, "<=", False), (0.9, ">=", True), (0.8, ">=", False)]
    + [(math.nan, relation, False) for relation in ("=", "<=", ">=")]
    + [(math.inf, "=", False), (math.inf, ">=", False), (-math.inf, "<=", False)],
)
def test_a_claim_holds_within_what_is_allowed(measured, relation, holds):
    assert Claim("", measured, relation, 1.0, 0.11).holds is holds


@pytest.mark.parametrize("place", range(3))
def test_the_greatest_and_least_of_numbers_and_nan_is_nan(place):
    numbers = [0.0, 3.0]
    assert greatest(iter(numbers)) == 3.0 and least(iter(numbers)) == 0.0
    numbers.insert(place, math.nan)
    assert math.isnan(greatest(numbers)) and math.isnan(least(numbers))


def test_within_allows_deviations_of_the_mean():
    claim = within("x", [1.0, 2.0, 3.0, 4.0], theory=2.0)
    assert claim.measured == 2.5 and claim.allowed == pytest.approx(3 * math.sqrt(5 / 3 / 4)) and claim.holds
    assert not within("x", [1.0, 2.0, 3.0, 4.0], theory=0.5).holds


def test_the_verdict_names_what_does_not_hold():
    right, wrong = Claim("right", 1.0, "=", 1.0), Claim("wrong", 1.0, "=", 2.0)
    assert Outcome([right], "so it is", [], None).verdict == "theory and measurement agree in all 1 claims: so it is"
    outcome = Outcome([right, wrong], "so it is", [], None)
    assert not outcome.agrees and outcome.verdict == "theory and measurement disagree in 1 of 2 claims: wrong"
