"""What a network must beat: plain numpy functions from known values to forecasts, symbols and tags."""

from rnnlab.baselines.answers import AnswerScore, AnswerScores, edit_distance, score_answer, score_answers
from rnnlab.baselines.arima import arima, fit_arima
from rnnlab.baselines.autoregression import ar, iterate
from rnnlab.baselines.beats import match_beats, pan_tompkins
from rnnlab.baselines.classes import ClassScores, most_frequent_class, nearest_neighbour, score_classes
from rnnlab.baselines.forecast_errors import Comparison, compare_forecasts, forecast_errors
from rnnlab.baselines.joint_ngram import joint_ngram
from rnnlab.baselines.kalman import fit_structural, kalman
from rnnlab.baselines.letters import align, letter_table
from rnnlab.baselines.linear import LinearForecast, fit_ols
from rnnlab.baselines.morse import decode_morse
from rnnlab.baselines.naive import naive, seasonal_naive
from rnnlab.baselines.ngram import NGram, witten_bell
from rnnlab.baselines.pairs import copy, most_frequent_answer
from rnnlab.baselines.rivals import RIVALS, forecast_by
from rnnlab.baselines.smoothing import SmoothingFit, ets, fit_ets, theta
from rnnlab.baselines.state_space import StateSpaceFit
from rnnlab.baselines.tags import TagScores, hmm, most_frequent, score_tags, suffix_backoff

__all__ = [
    "RIVALS",
    "AnswerScore",
    "AnswerScores",
    "ClassScores",
    "Comparison",
    "LinearForecast",
    "NGram",
    "SmoothingFit",
    "StateSpaceFit",
    "TagScores",
    "align",
    "ar",
    "arima",
    "compare_forecasts",
    "copy",
    "decode_morse",
    "edit_distance",
    "ets",
    "fit_arima",
    "fit_ets",
    "fit_ols",
    "fit_structural",
    "forecast_by",
    "forecast_errors",
    "hmm",
    "iterate",
    "joint_ngram",
    "kalman",
    "letter_table",
    "match_beats",
    "most_frequent",
    "most_frequent_answer",
    "most_frequent_class",
    "naive",
    "nearest_neighbour",
    "pan_tompkins",
    "score_answer",
    "score_answers",
    "score_classes",
    "score_tags",
    "seasonal_naive",
    "suffix_backoff",
    "theta",
    "witten_bell",
]
