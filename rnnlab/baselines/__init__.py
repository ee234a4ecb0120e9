"""What a network must beat: plain numpy functions from known values to forecasts."""

from rnnlab.baselines.arima import arima
from rnnlab.baselines.linear import LinearForecast, fit_ols
from rnnlab.baselines.naive import naive, seasonal_naive

__all__ = ["LinearForecast", "arima", "fit_ols", "naive", "seasonal_naive"]
