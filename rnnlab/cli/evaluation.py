"""The numbers of a run's checkpoint, measured once more: printed, and kept beside the run."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from rnnlab.analysis.baselines import verdict
from rnnlab.callbacks.console import console, readable
from rnnlab.callbacks.files import write_json
from rnnlab.cli import rundir
from rnnlab.cli.compose import override
from rnnlab.cli.measure import measure, restored, warn_of_other_data
from rnnlab.cli.options import free_path, results_dir


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
