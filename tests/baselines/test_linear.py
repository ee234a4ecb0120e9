"""Closed-form least squares finds the map that made the data."""

import numpy as np
import pytest

from rnnlab.baselines import fit_ols


def test_ols_recovers_an_affine_map():
    rng = np.random.default_rng(0)
    lags, weight, intercept = rng.standard_normal((50, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)
    model = fit_ols(lags, lags @ weight + intercept)
    np.testing.assert_allclose(model.weight, weight, rtol=1e-10)
    np.testing.assert_allclose(model.intercept, intercept, rtol=1e-10)
    np.testing.assert_allclose(model(lags[:5]), lags[:5] @ weight + intercept, rtol=1e-10)


def test_ols_residual_is_orthogonal_to_its_inputs():
    rng = np.random.default_rng(1)
    lags, targets = rng.standard_normal((40, 5)).astype(np.float32), rng.standard_normal((40, 2)).astype(np.float32)
    residual = fit_ols(lags, targets)(lags) - targets
    np.testing.assert_allclose(lags.T @ residual, 0, atol=1e-5)
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("shapes", [((5,), (5, 1)), ((5, 2), (5,)), ((5, 2), (4, 1))])
def test_shapes_are_checked(shapes):
    with pytest.raises(ValueError, match=r"expected lags \(N, T\) and targets \(N, K\)"):
        fit_ols(*(np.zeros(shape) for shape in shapes))
