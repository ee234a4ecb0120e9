"""What a network must beat: plain numpy functions from known values to forecasts, symbols and tags."""

from rnnlab.baselines.arima import arima
from rnnlab.baselines.linear import LinearForecast, fit_ols
from rnnlab.baselines.naive import naive, seasonal_naive
from rnnlab.baselines.ngram import witten_bell
from rnnlab.baselines.tags import TagScores, hmm, most_frequent, score_tags, suffix_backoff

__all__ = [
    "LinearForecast",
    "TagScores",
    "arima",
    "fit_ols",
    "hmm",
    "most_frequent",
    "naive",
    "score_tags",
    "seasonal_naive",
    "suffix_backoff",
    "witten_bell",
]
