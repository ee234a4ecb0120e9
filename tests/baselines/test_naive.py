"""Naive forecasts repeat what they should."""

import numpy as np
import pytest

from rnnlab.baselines import naive, seasonal_naive

HISTORY = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])


def test_naive_repeats_the_last_value():
    assert naive(HISTORY, 3).tolist() == [[4, 4, 4], [8, 8, 8]]


def test_seasonal_naive_repeats_the_last_season():
    assert seasonal_naive(HISTORY, 5, season=3).tolist() == [[2, 3, 4, 2, 3], [6, 7, 8, 6, 7]]
    assert np.array_equal(seasonal_naive(HISTORY, 3, season=1), naive(HISTORY, 3))


@pytest.mark.parametrize("season", [0, 5])
def test_season_must_fit_into_the_history(season):
    with pytest.raises(ValueError, match=f"season must be from 1 to the 4 known steps, got {season}"):
        seasonal_naive(HISTORY, 1, season)
