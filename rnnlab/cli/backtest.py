"""`rnnlab evaluate backtest.folds=N`: the end of each series forecast from rolling origins, beside all baselines."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from rnnlab.analysis.backtest import backtest as draw
from rnnlab.callbacks.console import console
from rnnlab.callbacks.files import is_empty, write_atomically, write_json, write_text
from rnnlab.cli import rundir
from rnnlab.cli.build import Run, build
from rnnlab.cli.compose import override
from rnnlab.cli.errors import UsageError
from rnnlab.cli.fit import train
from rnnlab.cli.measure import restored, warn_of_other_data
from rnnlab.cli.options import free_path, results_dir
from rnnlab.data import PanelData
from rnnlab.data.panel_backtest import MODEL, BackTest, Fold, fold_origins, make_fold, rows_needed

_METRICS = (
    *("mse", "mae", "rmse_level", "mae_level", "smape", "mase", "rmsse", "crps"),
    *("coverage_80", "coverage_95"),
)
_MOST_STEPS = 6  # in the table on the screen


def backtest(
    run_dir: Path, ckpt: str, overrides: list[str], num_folds: int, stride: int | None, retrain: bool
) -> BackTest:
    """Forecast from rolling origins, print errors, and write them as backtest.csv, .json and .png.

    A fold forecasts `horizon` steps of all series of the test part, the last fold their last ones. The model is the
    run's, and all folds lie within the test part; or, with `retrain`, one trained as the run was on what lies before
    each fold. Baselines are fitted to what lies before the test part, and before the fold.

    Beside each baseline stands how often its squared errors would differ so much from the model's by chance
    (`rnnlab.baselines.compare_forecasts`), of the mean of each fold.

    Args:
        run_dir, ckpt, overrides: as of `rnnlab.cli.evaluation`.
        num_folds: how many folds.
        stride: rows from one to the next; None for a horizon.
        retrain: whether to train anew for each; trained models are kept in `retrained` of the run, and used again.

    Raises:
        UsageError: no such run, checkpoint or setting, a run on other data, or too few rows.
    """
    config = override(rundir.read_config(run_dir), overrides)
    results = results_dir(run_dir)
    if retrain and ckpt != "best":
        raise UsageError(f"backtest.retrain=true trains models of its own, there is no use for ckpt={ckpt}")
    run, _, path = (build(config), None, None) if retrain else restored(config, run_dir, ckpt)
    if not isinstance(run.data, PanelData):
        kind = type(run.data).__name__
        raise UsageError(f"backtest.folds is for runs on tables (data=table), run_dir={run_dir} is on {kind}")
    stride = run.data.horizon if stride is None else stride
    if not retrain:
        warn_of_other_data(overrides)
    try:
        runs = _retrained(config, results, run, num_folds, stride) if retrain else _same(run, num_folds, stride)
        folds = []
        for number, (one, origins) in enumerate(runs, start=1):
            folds.append(_fold(one, origins))
            console.print(f"fold {number} of {num_folds}, from {folds[-1].start}", markup=False)
    except ValueError as error:
        raise UsageError(str(error)) from error
    found = BackTest(folds, run.task.levels, -(-run.data.horizon // stride))
    _show(found, config["name"])
    results.mkdir(exist_ok=True)
    which = {"checkpoint": path and str(path), "overrides": overrides}
    which |= {"folds": num_folds, "stride": stride, "retrain": retrain}
    _write(found, free_path(results, "backtest", which), which, config["name"])
    return found


def _same(run: Run, num_folds: int, stride: int) -> Iterator[tuple[Run, torch.Tensor]]:
    """Yield the run with the origins of each fold."""
    for origins in fold_origins(run.data, num_folds, stride):
        yield run, origins


def _retrained(
    config: dict[str, Any], results: Path, run: Run, num_folds: int, stride: int
) -> Iterator[tuple[Run, torch.Tensor]]:
    """Yield for each fold a run whose test part begins with it, and its origins; trained unless it is there."""
    for remaining in range(num_folds, 0, -1):
        size = rows_needed(remaining, stride, run.data.horizon)
        given = {**config, "data": {**config["data"], "test_size": size}, "callbacks": {}, "logger": {}}
        settings = {key: value for key, value in given.items() if key not in ("provenance", "paths", "resume")}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        fold_dir = results / "retrained" / f"last_{size}_rows_{digest}"
        baselines = {"data": {**given["data"], "baselines": []}}  # are asked for the fold alone
        paths = {"paths": {**config["paths"], "run_dir": str(fold_dir)}, "resume": not is_empty(fold_dir)}
        train({**given, **baselines, **paths}, given=[])
        one, _, _ = restored(given, fold_dir, "best", says_notes=False)
        yield one, fold_origins(one.data, remaining, stride)[0]


def _fold(run: Run, origins: torch.Tensor) -> Fold:
    device = run.trainer.strategy.root_device
    run.task.to(device).eval()
    with torch.inference_mode():
        batch = run.data.windows.gather(origins, run.data.horizon).to(device)
        return make_fold(run.data, origins, run.data.in_levels(batch, run.task.predict_step(batch)))


def _show(found: BackTest, name: str) -> None:
    """Print all errors, and the squared error by step, a column a method; and what baselines come to."""
    errors, comparisons = found.errors(), found.comparisons()
    table = Table(title=Text(f"{name}, {len(found.folds)} folds"), title_justify="left")
    table.add_column("")
    for method in found.methods:
        table.add_column(method, justify="right", overflow="fold")
    for metric in _METRICS:
        if metric in errors[MODEL]:
            table.add_row(metric, *(_short(errors[method].get(metric)) for method in found.methods))
    if found.horizon > 1:
        steps = np.linspace(1, found.horizon, min(_MOST_STEPS, found.horizon)).round().astype(int)
        for step in np.unique(steps).tolist():
            at_step = found.errors(step)
            row = (_short(at_step[method].get("mse")) for method in found.methods)
            table.add_row(f"mse, step {step}", *row, style="dim")
    console.print(table)
    for method, comparison in comparisons.items():
        console.print(_verdict(method, comparison, errors), markup=False)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _verdict(method: str, comparison: Any, errors: dict[str, dict[str, float]]) -> str:
    """Return in words how a baseline and the model compare."""
    ours, theirs = (errors[name].get("mse", np.nan) for name in (MODEL, method))
    numbers = f"mse {ours:.5g} against {theirs:.5g}"
    if not np.isfinite(comparison.p_value):
        return f"baseline {method}: {numbers}; too few folds to tell whether that is chance"
    better = "beaten" if ours < theirs else "not beaten"
    sure = "" if comparison.p_value < 0.05 else ", which may be chance"
    return f"baseline {method} {better}{sure}: {numbers}, p = {comparison.p_value:.2g} (Diebold-Mariano)"


def _write(found: BackTest, target: Path, which: dict[str, Any], name: str) -> None:
    """Write the numbers of all steps as CSV, those of all folds as JSON, and the picture."""
    by_step = {"all": found.errors(), **{step: found.errors(step) for step in range(1, found.horizon + 1)}}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "step", *_METRICS])
    for step, errors in by_step.items():
        writer.writerows(
            [method, step, *(values.get(key, "") for key in _METRICS)] for method, values in errors.items()
        )
    write_text(target.with_suffix(".csv"), text.getvalue())
    starts, by_fold = [fold.start for fold in found.folds], found.by_fold()
    curves = {
        method: np.array([by_step[step][method].get("mse", np.nan) for step in range(1, found.horizon + 1)])
        for method in found.methods
    }
    figure = draw(curves, by_fold, starts, f"Back-test of {name}, {len(starts)} folds")
    write_atomically(target.with_suffix(".png"), lambda part: figure.savefig(part, format="png"))
    comparisons = {method: comparison._asdict() for method, comparison in found.comparisons().items()}
    mse_by_fold = {method: values.tolist() for method, values in by_fold.items()}
    results = {"errors": by_step["all"], "diebold_mariano": comparisons, "starts": starts, "mse_by_fold": mse_by_fold}
    write_json(target, {**which, **results})
    for path in (target.with_suffix(".csv"), target.with_suffix(".png"), target):
        console.print(str(path), markup=False)
