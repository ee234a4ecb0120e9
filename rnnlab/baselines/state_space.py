"""Linear Gaussian state space models by statsmodels: the search for parameters, and forecasts by the Kalman filter.

y_t = Z a_t + d + e_t and a_{t+1} = T a_t + c + R n_t (Durbin and Koopman, 2012). Where a value is missing, the filter
goes on with its prediction.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np


class StateSpaceFit(NamedTuple):
    """A model whose parameters were estimated; `forecast` forecasts.

    The search sees the series in units of its deviation. statsmodels begins with states of variance 1e6, which says
    nothing of such a series, whatever its own unit is, and stops where a step gains little, which depends on the unit.

    Attributes:
        results: statsmodels' results, in units of `unit`.
        unit: what the series was divided by.
    """

    results: Any
    unit: float

    @property
    def log_likelihood(self) -> float:
        """Of the values in their own unit; the first ones, which only find the state, do not count."""
        return float(self.results.llf - self.results.nobs_effective * np.log(self.unit))

    def forecast(self, series: np.ndarray, first_targets: np.ndarray, horizon: int) -> np.ndarray:
        """Return forecasts (N, K): each knows the values of `series` (T,) before its first target, and none behind."""
        filtered = self.results.apply(series / self.unit)
        system = {name: getattr(filtered.filter_results, name)[..., 0] for name in _SYSTEM}
        state = filtered.predicted_state[:, first_targets]  # (S, N), given what comes before
        forecasts = np.empty((len(first_targets), horizon))
        for step in range(horizon):
            forecasts[:, step] = system["design"][0] @ state + system["obs_intercept"][0]
            state = system["transition"] @ state + system["state_intercept"][:, None]
        return self.unit * forecasts


_SYSTEM = ("design", "obs_intercept", "transition", "state_intercept")


def search(model: Any, what: str, *starts: np.ndarray) -> Any:
    """Return the results of the greatest likelihood found.

    A search may begin where statsmodels finds no good start, which is of no matter if it ends at a maximum. One that
    ends before is gone on with by another method; a warning says so if that does not end at a maximum either.

    Args:
        model: of statsmodels.
        what: the model in words, for the warning.
        starts: parameters to begin at, beside those that statsmodels begins at.
    """
    if not model.k_params:
        return model.smooth([])  # a random walk has nothing to search for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all are of the start or of the end, which is looked at
        ends = [model.fit(start_params=start, disp=False, maxiter=200) for start in (None, *starts)]
        found = max(ends, key=lambda end: end.llf)
        if not found.mle_retvals["converged"]:
            again = model.fit(start_params=found.params, method="powell", disp=False, maxiter=200)
            found = again if again.llf >= found.llf else found
    if not found.mle_retvals["converged"]:
        warnings.warn(
            f"{what}: the search for parameters found no maximum, and ended at a log-likelihood of {found.llf:.2f}; "
            "a simpler model may forecast better",
            stacklevel=3,
        )
    return found


def deviation(series: np.ndarray) -> float:
    """Return the standard deviation of the values that are there, 1 of constant ones."""
    return float(np.nanstd(series)) or 1.0
