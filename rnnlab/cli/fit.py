"""One training run from configuration to metrics.json."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.markup import escape

from rnnlab.callbacks import LastAndBest, Ledger, loggers
from rnnlab.callbacks.console import console, log, say
from rnnlab.callbacks.files import write_json
from rnnlab.cli import checkpoints, processes, rundir
from rnnlab.cli.build import Run, build
from rnnlab.cli.errors import UsageError
from rnnlab.cli.evaluation import evaluate
from rnnlab.cli.measure import baselines, compare, interruptible, measured
from rnnlab.cli.memory import forget_peak, keep_freed_memory, peak_memory_mib
from rnnlab.cli.naming import name_of
from rnnlab.cli.origin import begin_with, find_origin
from rnnlab.cli.provenance import provenance
from rnnlab.cli.resume import last_checkpoint, starts_anew, stored_config
from rnnlab.cli.stopping import signals_as_interrupt
from rnnlab.cli.threads import use_threads

METRICS = "metrics.json"  # comes last and marks the end


def train(config: dict[str, Any], given: list[str], watchers: Sequence[pl.Callback] = ()) -> Path:
    """Train one model and write its run directory; with `resume`, go on with the run that is there.

    Args:
        config: the resolved configuration.
        given: overrides of the command line, by which a resume decides whether the configuration was repeated.
        watchers: callbacks beside those of the configuration.

    Returns:
        The run directory.

    Raises:
        UsageError: bad input; nothing has been written then.
    """
    keep_freed_memory()
    forget_peak()
    config = {**config, "name": name_of(config, given)}
    for key in ("train", "test"):
        if not isinstance(config[key], bool):
            raise UsageError(f"{key} must be true or false, got {config[key]!r}")
    if not config["train"] and config["init_from"] is None:
        return _measure_again(config, given)
    with signals_as_interrupt():
        if starts_anew(config):
            try:
                return _start(config, given, watchers)
            except rundir.NotEmpty:
                if config["resume"] != "auto":
                    raise
        return _go_on(config, given, watchers)


def _start(config: dict[str, Any], given: list[str], watchers: Sequence[pl.Callback]) -> Path:
    use_threads(config["threads"])
    origin = find_origin(config["init_from"]) if config["init_from"] is not None else None
    known = {**provenance(), "overrides": given, "sweep": config["paths"].get("sweep_dir")}
    config = {**config, "resume": False, "provenance": {**known, "init_from": origin and origin.record}}
    with rundir.claim(config) as run_dir, processes.crew(config) as crew:
        run = _watched(build(config, run_dir), watchers)
        return _train(run, run_dir, None, begin_with(run, origin) if origin else [], crew)


def _watched(run: Run, watchers: Sequence[pl.Callback]) -> Run:
    run.trainer.callbacks[:0] = watchers
    return run


def _go_on(config: dict[str, Any], given: list[str], watchers: Sequence[pl.Callback]) -> Path:
    run_dir = Path(config["paths"]["run_dir"])
    if _unfinished(run_dir, config, given) is None:  # which can be told where nothing can be written, too
        return run_dir
    with rundir.reopen(run_dir):
        found = _unfinished(run_dir, config, given)  # once more: until now another process may have been at work here
        if found is None:
            return run_dir
        config, is_longer = found
        checkpoint = last_checkpoint(config, run_dir)
        with processes.crew(config) as crew:
            run, notes = _watched(build(config, run_dir), watchers), []
            _take_up(run, checkpoint)
            if checkpoint is None and config.get("init_from") is not None:
                notes = begin_with(run, find_origin(config["init_from"], config["provenance"]["init_from"]))
            if is_longer:  # from here on the run is unfinished
                (run_dir / METRICS).unlink(missing_ok=True)
                rundir.replace_config(run_dir, {**config, "resume": False})
            return _train(run, run_dir, run.checkpoints.last_path if checkpoint else None, notes, crew)


def _unfinished(run_dir: Path, config: dict[str, Any], given: list[str]) -> tuple[dict[str, Any], bool] | None:
    """Return configuration of the run to go on with and whether it is to be longer; None, and say so, if it is done."""
    stored, is_longer = stored_config(run_dir, config, given, whole=config["resume"] == "auto")
    if not (run_dir / METRICS).exists() or is_longer:
        return stored, is_longer
    console.print(f"run {run_dir} is finished already, nothing to resume", markup=False)
    console.print(str(run_dir), markup=False)
    return None


def _take_up(run: Run, checkpoint: dict[str, Any] | None) -> None:
    """Give a run what its last checkpoint holds, so that what does not fit is said before anything is written."""
    assert run.ledger is not None and run.checkpoints is not None
    if checkpoint is None:
        if len(run.ledger.rows) > 1:  # one there may be: it is written before its checkpoint
            raise UsageError(
                f"{run.checkpoints.last_path} is missing, but {len(run.ledger.rows)} epochs are on record; "
                "bring back a copy, or train anew"
            )
        say("no epoch was finished yet, starting over")
        return
    checkpoints.restore(run.data, run.task, checkpoint, run.checkpoints.last_path)
    try:
        run.ledger.check(checkpoint["epoch"] + 1)
    except ValueError as error:
        raise UsageError(str(error)) from error


def follow(config: dict[str, Any], run_dir: Path, resume_from: Path | None) -> None:
    """Train and measure a run beside the first of its processes, which keeps its records."""
    keep_freed_memory()
    run = build(config, run_dir)
    _fitted(run, resume_from)
    measured(run, config.get("test", True))


def _train(run: Run, run_dir: Path, resume_from: Path | None, notes: list[str], crew: processes.Crew) -> Path:
    """Train with a log, and leave loggers in order however it ends."""
    handler = _open_log(run_dir)
    try:
        crew.call(run.checkpoints.payload["config"], run_dir, resume_from)
        for note in (*run.data.notes, *notes):
            say(escape(note))
        loggers.begin(run.trainer, run.checkpoints.payload["config"])
        _fit(run, run_dir, resume_from, crew)
    except KeyboardInterrupt as stop:
        loggers.close(run.trainer, "KILLED")
        raise type(stop)(f"go on with: rnnlab train {shlex.quote(f'run_dir={run_dir}')} resume=true") from None
    except BaseException:
        loggers.close(run.trainer, "FAILED")  # or the next job of a sweep would go on with this W&B run
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
    console.print(str(run_dir), markup=False)
    return run_dir


def _fit(run: Run, run_dir: Path, resume_from: Path | None, crew: processes.Crew) -> None:
    """Train, measure the best checkpoint, and write the final numbers; or only measure the weights that are there."""
    assert run.checkpoints is not None
    config = run.checkpoints.payload["config"]
    trained = _fitted(run, resume_from) if config.get("train", True) else {}
    metrics = measured(run, with_test := config.get("test", True))
    crew.part(run.data)
    metrics |= {**baselines(run, with_test), **trained}
    for callback in run.trainer.callbacks if trained else ():
        if hasattr(callback, "on_run_end"):
            callback.on_run_end(run.trainer, run.task, metrics)
    loggers.log_final(run.trainer, config, metrics, run.checkpoints.directory)
    for line in compare(metrics, run.task.monitor[0]):
        say(line)
    loggers.close(run.trainer, "FINISHED")
    write_json(run_dir / METRICS, metrics)


def _fitted(run: Run, resume_from: Path | None) -> dict[str, Any]:
    """Train, give the task its best weights, and return what training took."""
    assert run.ledger is not None and run.checkpoints is not None
    with interruptible(run.trainer):
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=resume_from, weights_only=True)
    peak = peak_memory_mib()  # of training, before what baselines take
    best = checkpoints.load_weights(run.task, _checkpoint_to_measure(run.checkpoints, run.ledger))
    took = {**run.ledger.summary(), "best_epoch": best["epoch"] + 1}
    share = run.trainer.limit_train_batches  # 1 is one batch
    if isinstance(share, float) and share == 1.0 and not run.trainer.overfit_batches:
        took[f"time/{run.data.unit}_per_s"] = round(run.data.epoch_size / took["time/epoch_s"], 1)
    if peak is not None:
        took["memory/peak_mib"] = round(peak, 1)
    return took


def _measure_again(config: dict[str, Any], given: list[str]) -> Path:
    """Measure the run in `run_dir`, as `rnnlab evaluate` does: `train=false` without other weights.

    Raises:
        UsageError: there is none, or the command asks for another one.
    """
    if config["paths"]["run_dir"] is None:
        raise UsageError("train=false needs init_from=RUN, whose weights are measured, or run_dir=DIR of a run")
    run_dir = Path(config["paths"]["run_dir"])
    asked = [word for word in given if word.partition("=")[0] not in ("train", "test")]
    stored_config(run_dir, config, asked, whole=False)
    evaluate(run_dir, "best", [], config["test"])
    return run_dir


def _checkpoint_to_measure(keeper: LastAndBest, ledger: Ledger) -> Path:
    """Return the best checkpoint, or the last one of a run so short that it was never validated.

    What was best before a callback had the search for it begin anew, as pruning does, is none.

    Raises:
        RuntimeError: every validation gave NaN or infinity, or the best checkpoint was taken away.
    """
    if keeper.best_epoch is None and keeper.best_path.exists():
        say(f"{keeper.metric} has no value of the model as it is now, the final numbers are of the last checkpoint")
        keeper.let_last_be_best()
    if keeper.best_path.exists():
        return keeper.best_path
    if keeper.best_epoch is not None:
        raise RuntimeError(f"{keeper.best_path}, the checkpoint of epoch {keeper.best_epoch + 1}, was deleted")
    if any(keeper.metric in row for row in ledger.rows):
        raise RuntimeError(f"training diverged: {keeper.metric} was not finite after any epoch")
    say(f"{keeper.metric} was never measured in training, the final numbers are of the last checkpoint")
    return keeper.last_path


def _open_log(run_dir: Path) -> logging.Handler:
    """Send what the run says to run.log as well."""
    handler = logging.FileHandler(run_dir / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.info("rnnlab %s", shlex.join(sys.argv[1:]))
    return handler
