"""The statsmodels wrapper: forecasts know the past and nothing else."""

import sys

import numpy as np
import pytest

from rnnlab.baselines import arima


@pytest.fixture
def series():
    rng = np.random.default_rng(0)
    return np.cumsum(rng.standard_normal(80)) + 50


def test_missing_statsmodels_names_the_extra(series, monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels.tsa.statespace.sarimax", None)
    with pytest.raises(ImportError, match=r"extra `baselines`: pip install 'rnnlab\[baselines\]'"):
        arima(series, 60, [60])


def test_random_walk_model_is_the_naive_forecast(series):
    pytest.importorskip("statsmodels")
    targets = np.arange(60, 78)
    forecast = arima(series, 60, targets, horizon=3, order=(0, 1, 0))
    np.testing.assert_allclose(forecast, np.repeat(series[targets - 1, None], 3, axis=1), rtol=1e-9)


def test_horizons_agree_and_the_future_does_not_matter(series):
    pytest.importorskip("statsmodels")
    targets = np.array([60, 65, 70])
    one = arima(series, 60, targets, horizon=1, order=(0, 1, 1))
    many = arima(series, 60, targets, horizon=4, order=(0, 1, 1))
    np.testing.assert_allclose(one[:, 0], many[:, 0], rtol=1e-9)
    changed = series.copy()
    changed[70:] += 100
    np.testing.assert_allclose(arima(changed, 60, targets, horizon=4, order=(0, 1, 1)), many, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-3, 1e3, 1e6])
def test_the_unit_of_the_series_does_not_matter(series, unit):
    pytest.importorskip("statsmodels")
    targets = np.arange(60, 80)
    forecast = arima(series, 60, targets, order=(1, 1, 1))
    np.testing.assert_allclose(arima(series * unit, 60, targets, order=(1, 1, 1)), forecast * unit, rtol=1e-5)


@pytest.mark.parametrize(
    ("num_fit", "targets", "message"), [(0, [5], "num_fit"), (81, [5], "num_fit"), (60, [81], "first")]
)
def test_ranges_are_checked(series, num_fit, targets, message):
    pytest.importorskip("statsmodels")
    with pytest.raises(ValueError, match=f"^{message}"):
        arima(series, num_fit, targets)
