"""Structural models by the Kalman filter: identities with ARIMA, and what is known of the Nile and of sunspots."""

import numpy as np
import pytest

from rnnlab.baselines import arima, fit_arima, fit_structural, kalman
from tests.baselines.classical import nile, rmse, sunspots

structural = pytest.importorskip("statsmodels.tsa.statespace.structural")
sarimax = pytest.importorskip("statsmodels.tsa.statespace.sarimax")


def test_a_local_level_is_arima_011_on_the_nile():
    level, model = fit_structural(nile()), fit_arima(nile(), (0, 1, 1))
    assert level.log_likelihood == pytest.approx(model.log_likelihood, abs=1e-4)
    noise, step = level.results.params * level.unit**2
    # What Durbin and Koopman print.
    assert (noise, step) == (pytest.approx(15_099, abs=1), pytest.approx(1_469.1, abs=0.1))
    (theta,) = model.results.params
    ratio = step / noise
    gain = (np.sqrt(ratio**2 + 4 * ratio) - ratio) / 2  # of the filter, in the long run
    assert theta == pytest.approx(gain - 1, abs=1e-4)
    origins = np.arange(1, 100)
    np.testing.assert_allclose(kalman(nile(), 100, origins), arima(nile(), 100, origins, order=(0, 1, 1)), rtol=1e-5)
    assert rmse(kalman(nile(), 100, origins)[:, 0], nile()[1:]) == pytest.approx(143.84, abs=0.005)


def test_the_likelihood_of_the_nile_is_the_known_one():
    """In the Nile's own unit, of which statsmodels' first variance of 1e6 is no more than 35 deviations squared."""
    level, model = fit_structural(nile()), fit_arima(nile(), (0, 1, 1))
    variances = level.results.params * level.unit**2
    in_its_unit = structural.UnobservedComponents(nile(), "local level").smooth(variances)
    assert in_its_unit.llf == pytest.approx(-632.538, abs=5e-4)
    variance = model.results.scale * model.unit**2
    in_its_unit = sarimax.SARIMAX(nile(), order=(0, 1, 1)).smooth([*model.results.params, variance])
    assert in_its_unit.llf == pytest.approx(-632.538, abs=5e-4)


@pytest.mark.parametrize("unit", [1e-3, 1e6])
def test_the_unit_of_the_series_does_not_matter(unit):
    origins = np.arange(60, 100)
    expected = kalman(nile(), 60, origins, level="trend") * unit
    np.testing.assert_allclose(kalman(nile() * unit, 60, origins, level="trend"), expected, rtol=1e-4)
    assert fit_structural(nile() * unit).log_likelihood == pytest.approx(
        fit_structural(nile()).log_likelihood - 99 * np.log(unit), abs=1e-3
    )


@pytest.mark.parametrize(
    "options",
    [
        {"level": "trend"},
        {"level": "trend", "season": 4},
        {"season": 12, "harmonics": 2},
        {"level": "constant", "cycle": True},
    ],
    ids=str,
)
def test_forecasts_are_those_of_statsmodels_and_know_no_future(options):
    rng = np.random.default_rng(0)
    series = 50 + np.cumsum(rng.standard_normal(90)) + 3 * np.sin(np.arange(90) * np.pi / 6)
    series[20] = np.nan
    many = kalman(series, 70, [70, 81], 5, **options)
    results = fit_structural(series[:70], **options)
    for origin, forecast in zip((70, 81), many, strict=True):
        known = results.results.apply(series[:origin] / results.unit)
        np.testing.assert_allclose(forecast, known.forecast(5) * results.unit, rtol=1e-6)
    changed = series.copy()
    changed[81:] += 100
    np.testing.assert_allclose(kalman(changed, 70, [70, 81], 5, **options), many, rtol=1e-9)


def test_a_cycle_is_found_in_sunspots():
    """Beside a level the likelihood has a maximum without any cycle, where the forecast is the last value."""
    first, origins = 221, np.arange(221, 280)
    error = kalman(sunspots(), first, origins, cycle=True)[:, 0] - sunspots()[origins]
    early, late = (error[:35] ** 2).mean(), (error[35:] ** 2).mean()
    assert early < 638 / 2 and late < 1443 / 2  # of persistence
    results = fit_structural(sunspots()[:first], cycle=True).results
    frequency = results.params[results.param_names.index("frequency.cycle")]
    assert 10 < 2 * np.pi / frequency < 13  # years


def test_a_search_that_ends_nowhere_is_told(monkeypatch):
    fit = sarimax.SARIMAX.fit
    monkeypatch.setattr(sarimax.SARIMAX, "fit", lambda model, **given: fit(model, **{**given, "maxiter": 1}))
    with pytest.warns(UserWarning, match=r"ARIMA\(2, 1, 2\)\(0, 0, 0, 0\): the search for parameters found no maximum"):
        arima(nile(), 60, [60], order=(2, 1, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "slope"}, "level must be one of"),
        ({"season": 60}, "season must be from 2 to 59"),
        ({"season": 6, "harmonics": 4}, "harmonics must be from 1 to half the season"),
        ({"harmonics": 2}, "harmonics must be from 1 to half the season"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        kalman(nile(), 60, [60], **options)
