"""`rnnlab evaluate`: measure a checkpoint of a run once more, as trained or under changed settings."""

from __future__ import annotations

from pathlib import Path

from rnnlab.cli.errors import UsageError
from rnnlab.cli.options import count, flag, free_path, results_dir, take

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


def evaluate(run_dir: Path, ckpt: str, overrides: list[str], with_test: bool = True) -> dict[str, float]:
    """Print a table of the checkpoint's numbers and write them to evaluate.json in the run directory.

    An evaluation of another checkpoint or under other settings is not overwritten: evaluate_2.json and so on are next.
    Where the run directory is read-only, `rnnlab.cli.options.results_dir` says where they go.

    Args:
        run_dir: an existing run.
        ckpt: 'best', 'last' or the path of a checkpoint.
        overrides: `key=value` words that change the run's configuration, for example `trainer.accelerator=cpu`.

        with_test: whether to measure the test part, too.

    Raises:
        UsageError: no such run, checkpoint or setting.
    """
    from rich.table import Table
    from rich.text import Text

    from rnnlab.analysis.baselines import verdict
    from rnnlab.callbacks.console import console, readable
    from rnnlab.callbacks.files import write_json
    from rnnlab.cli import rundir
    from rnnlab.cli.compose import override
    from rnnlab.cli.measure import measure, restored, warn_of_other_data

    config = override(rundir.read_config(run_dir), overrides)
    results = results_dir(run_dir)
    run, checkpoint, path = restored(config, run_dir, ckpt)
    metrics = measure(run, with_test)
    warn_of_other_data(overrides)

    epoch = checkpoint["epoch"] + 1
    table = Table(title=Text(f"{config['name']}, {path.name} of epoch {epoch}"), title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key, value in metrics.items():
        table.add_row(key, readable(value), style="dim" if key.startswith(("baseline/", "optimum/")) else None)
    console.print(table)
    if (told := verdict(metrics, run.task.monitor[0])) is not None:
        console.print(told, markup=False)
    results.mkdir(exist_ok=True)
    which = {
        "checkpoint": str(path),
        "epoch": epoch,
        "overrides": overrides if with_test else [*overrides, "test=false"],
    }
    target = free_path(results, "evaluate", which)
    write_json(target, {**which, "metrics": metrics})
    console.print(str(target), markup=False)
    return metrics
