"""What a run records and shows while it trains.

Callbacks are imported when they are first asked for: what writes files and tables needs neither torch nor Lightning.
"""

from importlib import import_module

_PLACES = {
    "CharPictures": "char_pictures",
    "ClassReport": "tagging",
    "ClipRate": "clip_rate",
    "EarlyStop": "early_stop",
    "EpochProgress": "progress",
    "Forecasts": "pictures",
    "GradientFlow": "gradient_flow",
    "HeartBeats": "heart_beats",
    "LastAndBest": "checkpoint",
    "LearningCurves": "pictures",
    "Ledger": "ledger",
    "PairReport": "pairs",
    "PairSamples": "pairs",
    "Posteriors": "sounds",
    "Prune": "prune",
    "Reseed": "reseed",
    "Samples": "samples",
    "SeriesForecasts": "series_forecasts",
    "SoundSamples": "sounds",
    "StepLosses": "step_losses",
    "StepReport": "steps",
    "SweepStory": "sweep_story",
    "TagReport": "tagging",
    "TextSamples": "text_samples",
    "Waves": "waves",
    "WeightAverage": "weight_average",
}

__all__ = list(_PLACES)


def __getattr__(name: str) -> type:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found
