"""`rnnlab evaluate`: measure a checkpoint of a run once more, as trained or under changed settings."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from rnnlab.cli.options import results_dir, take


def main(words: list[str]) -> int:
    """Run `rnnlab evaluate run_dir=DIR [ckpt=best|last|FILE] [overrides]` and return the exit code."""
    options, overrides = take(words, required=("run_dir",), optional=("ckpt",))
    evaluate(Path(options["run_dir"]), options.get("ckpt", "best"), overrides)
    return 0


def evaluate(run_dir: Path, ckpt: str, overrides: list[str]) -> dict[str, float]:
    """Print a table of the checkpoint's numbers and write them to evaluate.json in the run directory.

    An evaluation of another checkpoint or under other settings is not overwritten: evaluate_2.json and so on are next.
    Where the run directory is read-only, `rnnlab.cli.options.results_dir` says where they go.

    Args:
        run_dir: an existing run.
        ckpt: 'best', 'last' or the path of a checkpoint.
        overrides: `key=value` words that change the run's configuration, for example `trainer.accelerator=cpu`.

    Raises:
        UsageError: no such run, checkpoint or setting.
    """
    from rich.table import Table
    from rich.text import Text

    from rnnlab.analysis.baselines import verdict
    from rnnlab.callbacks.console import console, readable
    from rnnlab.callbacks.files import write_json
    from rnnlab.cli import checkpoints, rundir
    from rnnlab.cli.build import build
    from rnnlab.cli.compose import override
    from rnnlab.cli.measure import measure

    config = override(rundir.read_config(run_dir), overrides)
    results = results_dir(run_dir)
    path = checkpoints.checkpoint_path(run_dir, ckpt)
    checkpoint = checkpoints.load_checkpoint(path)
    run = build(config, checkpoint=checkpoint)
    checkpoints.restore(run.data, run.task, checkpoint, path)
    for note in run.data.notes:
        console.print(note, markup=False)
    metrics = measure(run)
    if any(word.startswith("data.") and not word.startswith("data.batch_size=") for word in overrides):
        console.print("note: with other data than the run's, its test split may hold what the run was trained on")

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
    which = {"checkpoint": str(path), "epoch": epoch, "overrides": overrides}
    target = _target(results, which)
    write_json(target, {**which, "metrics": metrics})
    console.print(str(target), markup=False)
    return metrics


def _target(folder: Path, which: dict[str, Any]) -> Path:
    """Return the file of this evaluation, or the first that is not there: evaluate.json, evaluate_2.json, ..."""
    for number in itertools.count(1):
        path = folder / ("evaluate.json" if number == 1 else f"evaluate_{number}.json")
        if not path.exists():
            return path
        try:
            former = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(former, dict) and all(former.get(key) == value for key, value in which.items()):
            return path
    raise AssertionError("counting does not end")
