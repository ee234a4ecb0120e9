"""Exponential smoothing and theta: statsmodels' other routes to the same forecasts, and known errors."""

import numpy as np
import pytest

from rnnlab.baselines import SmoothingFit, ets, fit_ets, theta
from tests.baselines.classical import air_passengers, nile, rmse, sunspots

holtwinters = pytest.importorskip("statsmodels.tsa.holtwinters")
innovations = pytest.importorskip("statsmodels.tsa.exponential_smoothing.ets")


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    months = np.arange(96)
    return (100 + months) * (1 + 0.2 * np.sin(months * np.pi / 6)) + rng.standard_normal(96)


@pytest.mark.parametrize("damped", [False, True])
def test_forecasts_are_those_of_the_innovations_form(series, damped):
    """Its beta is ours times alpha, its gamma ours as well, and it counts the first season backwards."""
    season = (series[:12] - 100).tolist()
    given = {"smoothing_level": 0.3, "smoothing_trend": 0.06, "smoothing_seasonal": 0.4, "damping_trend": 0.9}
    given |= {"initial_level": 100.0, "initial_trend": 1.0}
    given |= {f"initial_seasonal.{k}": value for k, value in enumerate(reversed(season))}
    kind = {"error": "add", "trend": "add", "damped_trend": damped, "seasonal": "add", "seasonal_periods": 12}
    fit = SmoothingFit(0.3, 0.2, 0.4, 0.9 if damped else 1.0, 100.0, 1.0, season, multiplies=False)
    origins = [40, 81, 96]
    for origin, forecast in zip(origins, fit.forecast(series, np.array(origins), 30), strict=True):
        model = innovations.ETSModel(series[:origin], **kind)
        expected = model.smooth([given[name] for name in model.param_names]).forecast(30)
        np.testing.assert_allclose(forecast, expected, rtol=1e-9)


# statsmodels' own forecasts take the last season but one at every twelfth step.
OTHERS = np.arange(1, 49) % 12 != 0


@pytest.mark.parametrize("seasonal", ["add", "mul"])
def test_forecasts_are_those_of_holt_and_winters(series, seasonal):
    season = (series[:12] - 100 if seasonal == "add" else series[:12] / 100).tolist()
    fit = SmoothingFit(0.3, 0.2, 0.4, 1.0, 100.0, 1.0, season, seasonal == "mul")
    kind = {"trend": "add", "seasonal": seasonal, "seasonal_periods": 12, "initialization_method": "known"}
    start = {"initial_level": 100.0, "initial_trend": 1.0, "initial_seasonal": season}
    model = holtwinters.ExponentialSmoothing(series, **kind, **start)
    found = model.fit(smoothing_level=0.3, smoothing_trend=0.2, smoothing_seasonal=0.4, optimized=False)
    forecast = fit.forecast(series, np.array([96]), 48)[0]
    np.testing.assert_allclose(forecast[OTHERS], found.forecast(48)[OTHERS], rtol=1e-9)
    one_step = fit.forecast(series, np.arange(96), 1)[:, 0]
    np.testing.assert_allclose(one_step, found.fittedvalues, rtol=1e-9)


@pytest.mark.parametrize(("months", "corrected"), [(12, 15.58), (24, 33.14), (48, 31.38)])
def test_holt_winters_of_air_passengers(months, corrected):
    """Published are 15.81, 32.49 and 31.38, of statsmodels' forecasts: the same but at every twelfth step."""
    series, first = air_passengers(), 144 - months
    forecast = ets(series, first, [first], months, season=12, trend="add", seasonal="mul")[0]
    assert rmse(forecast, series[first:]) == pytest.approx(corrected, abs=0.005)
    theirs = holtwinters.ExponentialSmoothing(series[:first], trend="add", seasonal="mul", seasonal_periods=12).fit()
    np.testing.assert_allclose(forecast[OTHERS[:months]], theirs.forecast(months)[OTHERS[:months]], rtol=2e-3)


def test_auto_takes_the_form_of_the_least_criterion(series):
    assert fit_ets(series, season=12) == fit_ets(series, season=12, trend="add", seasonal="mul")
    assert len(fit_ets(np.random.default_rng(0).standard_normal(60), season=4).season) == 1  # none to be found


def test_horizons_agree_and_the_future_does_not_matter(series):
    changed = series.copy()
    changed[80:] += 100
    for method in (ets, theta):
        many = method(series, 72, [72, 80], 5, season=12)
        np.testing.assert_allclose(method(series, 72, [72, 80], 1, season=12), many[:, :1])
        np.testing.assert_allclose(method(changed, 72, [72, 80], 5, season=12), many)


@pytest.mark.parametrize("unit", [1e-3, 1e6])
def test_the_unit_of_the_series_does_not_matter(series, unit):
    for method in (ets, theta):
        expected = method(series, 72, [72, 80], 5, season=12) * unit
        np.testing.assert_allclose(method(series * unit, 72, [72, 80], 5, season=12), expected, rtol=1e-4)


@pytest.mark.parametrize(("data", "season"), [(air_passengers, 12), (nile, None), (sunspots, 11)])
def test_theta_is_that_of_statsmodels(data, season):
    """Sunspots are 0 in some years, so that their season is added."""
    module = pytest.importorskip("statsmodels.tsa.forecasting.theta")
    series = data()[:99]
    method = "add" if season == 11 else "mul"
    options = {"deseasonalize": False} if season is None else {"period": season, "use_test": False, "method": method}
    expected = module.ThetaModel(series, **options).fit().forecast(30)
    np.testing.assert_allclose(theta(data(), 99, [99], 30, season=season)[0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        (ets, {"trend": "linear"}, "trend must be one of"),
        (ets, {"seasonal": "add"}, "seasonal=add needs a season"),
        (ets, {"season": 60}, "season must be from 2 to 36"),
        (theta, {"season": 60}, "season must be from 2 to 36"),
    ],
)
def test_arguments_are_checked(series, method, given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        method(series, 72, [72], **given)


def test_values_must_fit_the_method(series):
    with pytest.raises(ValueError, match="seasonal=mul needs positive values, got -1"):
        ets(series - series.min() - 1, 72, [72], season=12, seasonal="mul")
    for method in (ets, theta):
        with pytest.raises(ValueError, match=f"^{method.__name__} needs every value, and the series lacks 1"):
            method(np.where(np.arange(96) == 5, np.nan, series), 72, [72])
