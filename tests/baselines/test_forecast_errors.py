"""Errors of forecasts by their definitions, written out; the test of Diebold and Mariano."""

import numpy as np
import pytest
from scipy import stats

from rnnlab.baselines import compare_forecasts, forecast_errors
from rnnlab.baselines.forecast_errors import TERMS, forecast_terms
from rnnlab.models.heads import LEVELS


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 2, (5, 3, 2))
    return {
        "forecast": truth + rng.normal(0, 1, truth.shape),
        "truth": truth,
        "deviation": rng.uniform(1, 3, (5, 2)),
        "naive_mae": rng.uniform(1, 3, (5, 2)),
        "naive_mse": rng.uniform(1, 3, (5, 2)),
    }


def test_definitions(given):
    found = forecast_errors(**given)
    forecast, truth = given["forecast"], given["truth"]
    sums = {name: [] for name in ("mse", "mae", "squares", "mae_level", "smape", "mase", "rmsse")}
    for n in range(5):
        for c in range(2):
            squares = 0.0
            for k in range(3):
                error = forecast[n, k, c] - truth[n, k, c]
                sums["mse"].append((error / given["deviation"][n, c]) ** 2)
                sums["mae"].append(abs(error) / given["deviation"][n, c])
                sums["squares"].append(error**2)
                sums["mae_level"].append(abs(error))
                sums["smape"].append(200 * abs(error) / (abs(forecast[n, k, c]) + abs(truth[n, k, c])))
                sums["mase"].append(abs(error) / given["naive_mae"][n, c])
                squares += error**2 / 3
            sums["rmsse"].append((squares / given["naive_mse"][n, c]) ** 0.5)
    means = {name: np.mean(values) for name, values in sums.items()}
    expected = {**means, "rmse_level": means["squares"] ** 0.5}
    del expected["squares"]
    assert found == pytest.approx(expected)


def test_missing_values_and_constant_columns_have_no_part(given):
    truth, naive = given["truth"].copy(), given["naive_mae"].copy()
    truth[1, 2, 0] = truth[3] = np.nan
    naive[0, 1] = np.nan
    changed = {**given, "truth": truth, "naive_mae": naive, "naive_mse": np.where(np.isnan(naive), np.nan, 2.0)}
    terms = forecast_terms(**changed)
    assert {name: len(values) for name, values in terms.items()} == {
        **dict.fromkeys(("mse", "mae", "mse_level", "mae_level", "smape"), 30 - 7),
        "mase": 30 - 7 - 3,
        "rmsse": 10 - 2 - 1,
    }
    other = {**changed, "forecast": np.where(np.isnan(truth), 1e9, given["forecast"])}
    assert forecast_errors(**other) == forecast_errors(**changed)
    assert "mase" not in forecast_errors(**{**given, "naive_mae": np.full((5, 2), np.nan)})


def test_a_forecast_of_nan_is_no_good_one(given):
    given["forecast"][0, 0, 0] = np.nan
    quantiles = np.full((5, 3, 2, len(LEVELS)), np.nan)
    found = forecast_errors(**given, quantiles=quantiles, levels=LEVELS)
    assert set(found) == {name.replace("mse_level", "rmse_level") for name in TERMS}
    assert all(np.isnan(value) for value in found.values())


def test_smape_of_zeros_is_zero():
    zeros, ones = np.zeros((1, 2, 1)), np.ones((1, 1))
    assert forecast_errors(zeros, zeros, ones, ones, ones)["smape"] == 0


def test_crps_and_coverage_of_a_normal_distribution():
    rng = np.random.default_rng(1)
    y = rng.standard_normal((40_000, 1, 1))
    ones = np.ones((40_000, 1))
    quantiles = np.broadcast_to(stats.norm.ppf(LEVELS), (*y.shape, len(LEVELS)))
    found = forecast_errors(
        0 * y, y, 2 * ones, ones, ones, 3 * quantiles, LEVELS
    )  # three times as wide as it should be
    z = y.flatten() / 3
    crps = 3 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi**-0.5).mean()  # Gneiting, Raftery 2007
    assert found["crps"] == pytest.approx(crps / 2, rel=0.01)
    right = forecast_errors(0 * y, y, ones, ones, ones, quantiles, LEVELS)
    assert right["crps"] == pytest.approx(np.pi**-0.5, rel=0.01)
    assert right["coverage_80"] == pytest.approx(0.8, abs=0.01) and right["coverage_95"] == pytest.approx(
        0.95, abs=0.01
    )


def test_few_levels_have_no_crps(given):
    quantiles = np.stack([given["forecast"] - 1, given["forecast"], given["forecast"] + 1], axis=-1)
    found = forecast_errors(**given, quantiles=quantiles, levels=(0.1, 0.5, 0.9))
    assert "crps" not in found and "coverage_95" not in found
    assert found["coverage_80"] == np.mean(np.abs(given["truth"] - given["forecast"]) <= 1)


def test_shapes_must_fit(given):
    with pytest.raises(ValueError, match="must be"):
        forecast_errors(**{**given, "truth": given["truth"][:, :2]})


def test_one_step_comparison_is_a_t_test_with_its_correction():
    rng = np.random.default_rng(2)
    a, b = rng.uniform(size=30) + 0.2, rng.uniform(size=30)
    found = compare_forecasts(a, b)
    expected = stats.ttest_1samp(a - b, 0)
    assert found.statistic == pytest.approx(expected.statistic)  # sqrt(n / (n - 1)) is what the correction is at h = 1
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-5)
    assert found.difference == pytest.approx((a - b).mean())


def test_overlapping_origins_count_less():
    """Means of ten steps, at each step: the plain test would see a difference far too often."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((400, 209))
    losses = np.stack([np.convolve(row, np.ones(10) / 10, mode="valid") for row in noise])
    shares = {h: np.mean([compare_forecasts(row, 0 * row, h).p_value < 0.05 for row in losses]) for h in (1, 10)}
    assert shares[1] > 0.3 and shares[10] < 0.12


def test_comparisons_without_an_answer():
    same = np.array([1.0, 2.0, 3.0])
    assert compare_forecasts(same, same) == (0.0, 0.0, 1.0)
    assert np.isnan(compare_forecasts(same, same + [0, 1, 0], horizon=3).p_value)
    assert compare_forecasts(same + 1, same).p_value == 0
    with pytest.raises(ValueError, match="losses must be"):
        compare_forecasts(same, same[:2])
