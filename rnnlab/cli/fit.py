"""One training run from configuration to metrics.json."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.markup import escape

from rnnlab.callbacks import LastAndBest, Ledger
from rnnlab.callbacks.console import console, log, say
from rnnlab.callbacks.figures import close_wandb
from rnnlab.callbacks.files import write_json
from rnnlab.cli import rundir
from rnnlab.cli.build import Run, build
from rnnlab.cli.compose import flatten
from rnnlab.cli.errors import UsageError
from rnnlab.cli.measure import compare, interruptible, measure
from rnnlab.cli.memory import keep_freed_memory, peak_memory_mib
from rnnlab.cli.naming import name_of

# Keys that may differ between a stored run and the command that resumes it.
_FREE_ON_RESUME = ("resume", "paths.", "provenance.")


def train(config: dict[str, Any], given: list[str]) -> Path:
    """Train one model and write its run directory.

    Args:
        config: the resolved configuration.
        given: overrides of the command line, by which a resume decides whether the configuration was repeated.

    Returns:
        The run directory.

    Raises:
        UsageError: bad input; nothing has been written then.
    """
    keep_freed_memory()
    config = {**config, "name": name_of(config, given)}
    if config["resume"]:
        run_dir, config = _stored(config, given)
        if (run_dir / "metrics.json").exists():
            console.print(f"run {run_dir} is finished already, nothing to resume", markup=False)
            console.print(str(run_dir), markup=False)
            return run_dir
        run = build(config, run_dir)
    else:
        config = {**config, "provenance": {**rundir.provenance(), "overrides": given, "sweep": _sweep()}}
        with rundir.claim(config) as run_dir:
            run = build(config, run_dir)
    resume_from = run.checkpoints.last_path if config["resume"] and run.checkpoints.last_path.exists() else None
    if resume_from is not None:
        rundir.restore(
            run.data, run.task, rundir.load_checkpoint(resume_from), resume_from
        )  # says clearly what is wrong with a broken file
    elif config["resume"]:
        say("no epoch was finished yet, starting over")
    handler = _open_log(run_dir)
    try:
        _fit(run, run_dir, resume_from)
    except BaseException:
        close_wandb(exit_code=1)  # or the next job of a sweep would go on with this W&B run
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
    console.print(str(run_dir), markup=False)
    return run_dir


def _sweep() -> str | None:
    """Return the directory of the sweep that this run is a job of, if it is one."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    is_job = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return HydraConfig.get().sweep.dir if is_job else None


def _stored(config: dict[str, Any], given: list[str]) -> tuple[Path, dict[str, Any]]:
    """Return directory and configuration of the run to resume, after making sure that they agree with the command."""
    if config["paths"]["run_dir"] is None:
        raise UsageError("resume=true needs run_dir=DIR, the run to go on with")
    run_dir = Path(config["paths"]["run_dir"])
    stored = rundir.read_config(run_dir)
    if any(not word.startswith(_FREE_ON_RESUME) for word in given):
        old, new = flatten(stored), flatten(config)
        for key in sorted(old.keys() | new.keys()):
            if not key.startswith(_FREE_ON_RESUME) and old.get(key) != new.get(key):
                raise UsageError(
                    f"{key} is {old.get(key)!r} in {run_dir} and {new.get(key)!r} on the command line; "
                    "a resumed run keeps its configuration: give run_dir and resume=true only"
                )
    return run_dir, {**stored, "resume": True}


def _fit(run: Run, run_dir: Path, resume_from: Path | None) -> None:
    """Train, measure the best checkpoint, and write the final numbers; metrics.json comes last and marks the end."""
    assert run.ledger is not None and run.checkpoints is not None
    for note in run.data.notes:
        say(escape(note))
    with interruptible(run.trainer):
        run.trainer.fit(run.task, datamodule=run.data, ckpt_path=resume_from, weights_only=True)
    peak = peak_memory_mib()  # of training, before what baselines take
    best = rundir.load_weights(run.task, _checkpoint_to_measure(run.checkpoints, run.ledger))
    metrics = {**measure(run), **run.ledger.summary(), "best_epoch": best["epoch"] + 1}
    if run.trainer.limit_train_batches == 1.0 and not run.trainer.overfit_batches:
        metrics[f"time/{run.data.unit}_per_s"] = round(run.data.epoch_size / metrics["time/epoch_s"], 1)
    if peak is not None:
        metrics["memory/peak_mib"] = round(peak, 1)
    for callback in run.trainer.callbacks:
        if hasattr(callback, "on_run_end"):
            callback.on_run_end(run.trainer, run.task, metrics)
    for logger in run.trainer.loggers:
        logger.log_metrics({f"final/{key}": value for key, value in metrics.items()})
    for line in compare(metrics, run.task.monitor[0]):
        say(line)
    close_wandb()
    write_json(run_dir / "metrics.json", metrics)


def _checkpoint_to_measure(checkpoints: LastAndBest, ledger: Ledger) -> Path:
    """Return the best checkpoint, or the last one of a run so short that it was never validated.

    Raises:
        RuntimeError: every validation gave NaN or infinity.
    """
    if checkpoints.best_path.exists():
        return checkpoints.best_path
    if any(checkpoints.metric in row for row in ledger.rows):
        raise RuntimeError(f"training diverged: {checkpoints.metric} was not finite after any epoch")
    say(f"{checkpoints.metric} was never measured in training, the final numbers are of the last checkpoint")
    return checkpoints.last_path


def _open_log(run_dir: Path) -> logging.Handler:
    """Send what the run says to run.log as well."""
    handler = logging.FileHandler(run_dir / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.info("rnnlab %s", shlex.join(sys.argv[1:]))
    return handler
