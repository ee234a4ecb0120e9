"""Series of known results, from files of statsmodels and from a corpus."""

import numpy as np
import pytest

from tests.corpora import corpus


def nile() -> np.ndarray:
    """Return the flow of the Nile at Aswan, 1871 to 1970."""
    return pytest.importorskip("statsmodels.datasets").nile.load_pandas().data["volume"].to_numpy()


def sunspots() -> np.ndarray:
    """Return the sunspots of each year, 1700 to 2008."""
    return pytest.importorskip("statsmodels.datasets").sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()


def air_passengers() -> np.ndarray:
    """Return thousands of passengers of each month, 1949 to 1960."""
    return np.loadtxt(corpus("air-passengers/air_passengers.csv"), delimiter=",", skiprows=1, usecols=1)


def rmse(forecast: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((forecast - truth) ** 2)))
