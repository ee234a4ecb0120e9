"""The table of classical forecasts by name."""

import numpy as np
import pytest

from rnnlab.baselines import RIVALS, arima, forecast_by
from tests.baselines.classical import air_passengers, rmse

pytest.importorskip("statsmodels")


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    months = np.arange(96)
    return 100 + months + 20 * np.sin(months * np.pi / 6) + 2 * rng.standard_normal(96)


@pytest.mark.parametrize("name", RIVALS)
def test_all_are_asked_alike(series, name):
    """From any origin, to the step after the series; a season of twelve is seen, and the future is not."""
    origins = [72, 80, 96]
    forecast = forecast_by(name, series, 72, origins, horizon=6, season=12)
    assert forecast.shape == (3, 6) and np.isfinite(forecast).all()
    changed = series.copy()
    changed[80:] *= 2
    np.testing.assert_allclose(forecast_by(name, changed, 72, origins, 6, 12)[:2], forecast[:2], rtol=1e-9)
    if name not in ("naive", "seasonal_naive"):
        assert rmse(forecast[0], series[72:78]) < rmse(series[60:66], series[72:78])
    assert forecast_by(name, series, 72, [], 6, 12).shape == (0, 6)


@pytest.mark.parametrize("name", RIVALS)
def test_a_season_of_one_step_is_none(series, name):
    without = None if name != "seasonal_naive" else 1
    expected = forecast_by(name, series, 72, [72], 3, without)
    np.testing.assert_array_equal(forecast_by(name, series, 72, [72], 3, 1), expected)


@pytest.mark.parametrize("name", ["ar", "theta"])
def test_refitting_estimates_on_all_that_is_known(series, name):
    again = forecast_by(name, series, 72, [72, 80], 3, 12, refit=True)
    for origin, forecast in zip((72, 80), again, strict=True):
        np.testing.assert_allclose(forecast_by(name, series, origin, [origin], 3, 12)[0], forecast)


def test_fitting_the_last_values_is_a_series_that_begins_there(series):
    late = forecast_by("theta", series, 72, [72, 80], 3, 12, fit_last=48)
    np.testing.assert_allclose(late, forecast_by("theta", series[24:], 48, [48, 56], 3, 12))
    with pytest.raises(ValueError, match="fit_last=48 leaves no value before target 24"):
        forecast_by("theta", series, 72, [24], 3, 12, fit_last=48)


def test_naive_forecasts_repeat_what_is_there(series):
    holed = series.copy()
    holed[[79, 71]] = np.nan
    assert forecast_by("naive", holed, 72, [80]).item() == series[78]
    forecast = forecast_by("seasonal_naive", holed, 72, [80], horizon=12, season=12)[0]
    np.testing.assert_array_equal(forecast, [*holed[68:71], series[59], *holed[72:79], series[67]])


def test_the_airline_model_of_logarithms():
    series, origins = air_passengers(), np.arange(96, 144)
    forecast = forecast_by("arima", series, 96, origins, season=12, log=True)
    assert rmse(forecast[:, 0], series[96:]) == pytest.approx(13.74, abs=0.005)
    expected = np.exp(arima(np.log(series), 96, origins, 1, (0, 1, 1), (0, 1, 1, 12)))
    np.testing.assert_allclose(forecast, expected)


@pytest.mark.parametrize(("months", "error"), [(12, 18.59), (24, 43.18), (48, 46.05)])
def test_the_airline_model_over_years(months, error):
    series, first = air_passengers(), 144 - months
    forecast = forecast_by("arima", series, first, [first], months, 12, log=True)
    assert rmse(forecast[0], series[first:]) == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tetha", {}, "a baseline must be one of naive, .*, the nearest to 'tetha': theta"),
        ("ar", {"orders": 3}, "ar has the options order, got orders"),
        ("theta", {"order": 3}, "theta has no options, got order"),
        ("seasonal_naive", {}, "seasonal_naive needs a season"),
        ("seasonal_naive", {"season": 80}, "seasonal_naive needs 80 values before a target, got 72"),
        ("naive", {"log": True}, "log=true needs positive values, got -1"),
        ("naive", {"horizon": 0}, "horizon must be at least 1"),
    ],
)
def test_arguments_are_checked(series, name, options, message):
    values = series - series.min() - 1 if "log" in options else series
    with pytest.raises(ValueError, match=f"^{message}"):
        forecast_by(name, values, 72, [72], **options)
