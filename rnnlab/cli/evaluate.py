"""`rnnlab evaluate`: measure a checkpoint of a run once more, as trained or under changed settings."""

from __future__ import annotations

from pathlib import Path

from rnnlab.cli.errors import UsageError
from rnnlab.cli.options import count, flag, take

_BACKTEST = ("backtest.folds", "backtest.stride", "backtest.retrain")


def main(words: list[str]) -> int:
    """Run `rnnlab evaluate run_dir=DIR [ckpt=best|last|FILE] [overrides]` and return the exit code.

    With `backtest.folds=N [backtest.stride=ROWS] [backtest.retrain=true]`, of runs on tables, it is a back-test: the
    end of each series is forecast N times, each time from a later origin, beside all baselines.
    """
    options, overrides = take(words, required=("run_dir",), optional=("ckpt", *_BACKTEST))
    run_dir, ckpt = Path(options.pop("run_dir")), options.pop("ckpt", "best")
    for word in overrides:
        if (key := word.partition("=")[0]).startswith("backtest"):
            raise UsageError(f"there is no {key}: a back-test has {', '.join(_BACKTEST)}")
    if not options:
        from rnnlab.cli.evaluation import evaluate

        evaluate(run_dir, ckpt, overrides)
        return 0
    if "backtest.folds" not in options:
        raise UsageError(f"{' and '.join(options)} need backtest.folds=N, how many origins to forecast from")
    from rnnlab.cli.backtest import backtest

    folds = count("backtest.folds", options["backtest.folds"])
    stride = count("backtest.stride", options["backtest.stride"]) if "backtest.stride" in options else None
    backtest(
        run_dir, ckpt, overrides, folds, stride, flag("backtest.retrain", options.get("backtest.retrain", "false"))
    )
    return 0
