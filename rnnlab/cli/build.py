"""The border between configuration and objects: below `build`, nothing knows Hydra or YAML."""

from __future__ import annotations

import functools
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from rnnlab.callbacks import LastAndBest, Ledger, StepLosses, SweepStory
from rnnlab.callbacks.reseed import Reseed, reseed
from rnnlab.cli import checkpoints, plugins, processes, rundir
from rnnlab.cli.compose import override
from rnnlab.cli.errors import UsageError
from rnnlab.cli.instantiate import instantiate, root_cause
from rnnlab.cli.loggers import build_loggers
from rnnlab.cli.moved import refound
from rnnlab.cli.rehearse import (
    alone,
    check_callbacks,
    check_together,
    check_trainer,
    check_training,
    rehearse_step,
    rehearse_update,
)
from rnnlab.cli.threads import use_threads
from rnnlab.data import TextData
from rnnlab.decoding import CharacterModel
from rnnlab.models.layers import RecurrentFactory


class Run(NamedTuple):
    """What one run is made of."""

    data: pl.LightningDataModule
    task: pl.LightningModule
    trainer: pl.Trainer
    ledger: Ledger | None
    checkpoints: LastAndBest | None


def build(config: dict[str, Any], run_dir: Path | None = None, checkpoint: dict[str, Any] | None = None) -> Run:
    """Build data, task and trainer from a resolved configuration.

    Args:
        config: plain data, as `conf/` composes it.
        run_dir: where a training run keeps its records. None builds a trainer that logs and writes nothing, for
            measuring.
        checkpoint: of a run that is to be measured: data that remembers keeps the vocabularies of that run, whatever
            the files say that it reads now.

    Returns:
        The run; the data is set up, and one step and optimiser are tried, so that what cannot be trained shows here.

    Raises:
        UsageError: something in the configuration cannot be built, with the reason.
    """
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UsageError(f"seed must be an integer >= 0, got {seed!r}")
    plugins.load(config.get("plugins"))
    check_trainer(config["trainer"])
    if run_dir is not None:
        check_training(config["trainer"])
    if not isinstance(config.get("compile", False), bool | dict):
        raise UsageError(f"compile must be true or false, got {config['compile']!r}")
    use_threads(config.get("threads"))  # which runs of older versions lack
    reseed(seed)
    data, task = _data_and_task(config, checkpoint, reads=True)
    if run_dir is None:
        trainer = _trainer(config, callbacks=[], loggers=[])
        rehearse_step(task, data, trainer)
        return Run(data, task, trainer, None, None)
    every = config["trainer"].get("log_every_n_steps")
    try:
        ledger = Ledger(run_dir / "metrics.csv")
        steps = [StepLosses(run_dir / "steps.csv", every)] if every else []
    except ValueError as error:
        raise UsageError(str(error)) from error
    keeper = LastAndBest(run_dir / "checkpoints", task.monitor, payload={"config": config})
    extras = [_made_callback(name, callback, task) for name, callback in config["callbacks"].items()]
    check_together(extras)
    sweep = config["paths"].get("sweep_dir")
    story = [SweepStory(Path(sweep), run_dir.name)] if sweep else []
    if is_first := processes.rank() == 0:
        callbacks = [Reseed(seed), ledger, *steps, *story, *extras, keeper]
    else:
        extras = [callback for callback in extras if not getattr(callback, "watches", False)]
        callbacks = [Reseed(seed), ledger, *extras, keeper]
    trainer = _trainer(config, callbacks, build_loggers(config, run_dir) if is_first else [], run_dir)
    check_callbacks(extras, trainer, task)
    task.optim = _fitting(task.optim, trainer)
    rehearse_step(task, data, trainer)
    rehearse_update(task, trainer)
    if setting := config.get("compile"):  # the model stays the object it is, and its weights keep their names
        # torch.compile itself looks at it, where Python has to come between two parts of a graph.
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
        task.model.compile(**(setting if isinstance(setting, dict) else {}))
    return Run(data, task, trainer, ledger, keeper)


def load(run_dir: Path, ckpt: str, overrides: Sequence[str]) -> tuple[Any, Any, dict[str, Any]]:
    """Return data, task and checkpoint of a stored run, ready to answer, in evaluation mode and on the CPU.

    Data that `remembers` is not set up: what it was trained on need not be there.

    Args:
        run_dir: the run.
        ckpt: 'best', 'last' or the path of a checkpoint.
        overrides: `key=value` words that change the run's configuration.

    Raises:
        UsageError: no such run, checkpoint or setting.
    """
    config = refound(override(rundir.read_config(run_dir), overrides))
    plugins.load(config.get("plugins"))
    path = checkpoints.checkpoint_path(run_dir, ckpt)
    checkpoint = checkpoints.load_checkpoint(path)
    data, task = _data_and_task(config, checkpoint, reads=False)
    checkpoints.restore(data, task, checkpoint, path)
    return data, task.eval(), checkpoint


def _data_and_task(
    config: dict[str, Any], checkpoint: dict[str, Any] | None, reads: bool
) -> tuple[pl.LightningDataModule, pl.LightningModule]:
    """Build data and task; data that remembers is told by the checkpoint, and need not be set up then."""
    try:
        data = instantiate(config["data"])
        remembers = checkpoint is not None and data.remembers
        if remembers:
            data.load_state_dict(checkpoints.data_state(checkpoint, data))
        if reads or not remembers:
            data.setup()
        model = build_model(instantiate(config["model"]), _made_if_any(config, "rnn"), data.sizes, type(data).__name__)
        schedule = _made_if_any(config, "schedule", checked=False)  # `rehearse_update` tells what it is made of
        given = dict(config["task"])
        if given.get("language_model"):
            given["language_model"] = _language_model(Path(given["language_model"]), data)
        make, optim = instantiate(given), instantiate(config["optim"])
        try:
            task = make(model=model, optim=optim, schedule=schedule)
        except AttributeError as error:  # a task asks its model for what models of its kind have
            raise UsageError(f"{_name(make)} does not fit {type(model).__name__}: {error}") from error
    except UsageError:
        raise
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as error:
        raise UsageError(str(root_cause(error))) from error
    return data, task


def _language_model(run_dir: Path, data: Any) -> CharacterModel:
    """Return the character model of a run, for the symbols of data of sounds, whose number 0 is the blank.

    A text begins as a line does, if the model knows lines.

    Raises:
        UsageError: there is no such run, it is another kind of model, or lacks a symbol.
    """
    text, task, _ = load(run_dir, "best", [])
    if not isinstance(text, TextData):
        raise UsageError(f"task.language_model must be the directory of a run of char_lm, {run_dir} is another's")
    if getattr(task.model, "condition", None) is not None:
        raise UsageError(f"task.language_model={run_dir} is told labels, and a search has none to tell it")
    strange = [symbol for symbol in data.symbols.symbols[1:] if symbol not in text.vocabulary]
    if strange:
        raise UsageError(f"task.language_model={run_dir} does not know {', '.join(map(repr, strange))}")
    line_end = text.vocabulary.encode("\n") if "\n" in text.vocabulary else []
    return CharacterModel(task.model, [0, *text.vocabulary.encode(data.symbols.symbols[1:])], line_end)


def _made_if_any(config: dict[str, Any], group: str, checked: bool = True) -> Any:
    """Return what a group that may be empty makes, or None.

    Raises:
        UsageError: it makes nothing, and settings are there that would do nothing.
    """
    part = config[group]
    if not part:
        return None
    if "_target_" not in part:
        left = [f"{group}.{key}" for key in part]
        words = " ".join(f"~{key}" for key in left)
        raise UsageError(f"there is no {group} for {' and '.join(left)} to set: {words} takes them away")
    return instantiate(part, checked)


def _made_callback(name: str, config: Any, task: pl.LightningModule) -> Any:
    """Return a callback; one that watches a metric and is told of none watches what picks the best checkpoint.

    Raises:
        UsageError: what stands under its name is none, such as settings of one that was taken away.
    """
    if not isinstance(config, dict) or "_target_" not in config:
        raise UsageError(f"callbacks.{name} needs a _target_, got {config!r}; ~callbacks.{name} takes it away")
    if "monitor" not in config:
        partial = instantiate({**config, "_partial_": True})
        if {"monitor", "mode"} <= inspect.signature(partial.func).parameters.keys():
            config = {**config, **dict(zip(("monitor", "mode"), task.monitor, strict=True))}
    return instantiate(config)


def build_model(
    make: Callable[..., nn.Module], rnn: RecurrentFactory | None, sizes: dict[str, Any], source: str = "the data"
) -> nn.Module:
    """Build a model, out of recurrent layers if its constructor names `rnn`.

    Args:
        make: the constructor, with what `conf/` says of the model bound.
        rnn: what makes its recurrent layers, or None.
        sizes: arguments that depend on the data.
        source: what the data are called in messages.

    Raises:
        UsageError: the constructor does not name `rnn`, and one is there; it must have one, and none is there; it takes
            other sizes.
    """
    name, parameters = _name(make), inspect.signature(make).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if rnn is not None and "rnn" not in parameters and not takes_any:
        raise UsageError(f"{name} has no recurrent layers: it needs rnn=none")
    if rnn is None and "rnn" in parameters and _must_be_given(parameters["rnn"]):
        raise UsageError(f"{name} is made of recurrent layers: it needs rnn=lstm, gru, rnn or cells/NAME, got none")
    needed = {key for key, parameter in parameters.items() if key != "rnn" and _must_be_given(parameter)}
    if needed - sizes.keys() or (sizes.keys() - parameters.keys() and not takes_any):
        raise UsageError(
            f"{name} does not fit {source}: it needs {_listed(needed)} of its data, and these have {_listed(sizes)}"
        )
    return make(**sizes) if rnn is None else make(rnn=rnn, **sizes)


def _name(make: Callable) -> str:
    """Return the name of a constructor, whatever is bound of it."""
    return getattr(getattr(make, "func", make), "__name__", "the model")


def _must_be_given(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind not in (
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.VAR_KEYWORD,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "no size"


def _trainer(config: dict[str, Any], callbacks: list, loggers: list, run_dir: Path | None = None) -> pl.Trainer:
    from lightning.pytorch.callbacks import RichModelSummary
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    trains = run_dir is not None and config.get("train", True)
    given = config["trainer"] if trains else alone(config["trainer"])
    is_own = all(type(callback).__module__.startswith("rnnlab.") for callback in callbacks)
    defaults = {
        "log_every_n_steps": 0 if is_own else 50,  # our metrics and callbacks log once an epoch; 50 is Lightning's
        "enable_progress_bar": False,  # callbacks/progress.py is cheaper
        "enable_model_summary": False,
    }
    if given.get("enable_model_summary"):
        callbacks = [*callbacks, RichModelSummary()]  # the plain one speaks through the log that is kept quiet
    fixed = {
        "callbacks": callbacks,
        "logger": loggers,
        "default_root_dir": run_dir,
        "profiler": _profiler(given.get("profiler"), run_dir),
        "num_sanity_val_steps": 0,
        "enable_checkpointing": any(isinstance(callback, LastAndBest) for callback in callbacks),
    }
    _quiet_lightning()
    partial = instantiate({**defaults, **given, "_partial_": True})
    # Under SLURM, Lightning would requeue the job by itself and go on from checkpoints of its own.
    fixed["plugins"] = [*(partial.keywords.get("plugins") or []), LightningEnvironment()]
    try:
        trainer = partial(**fixed)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UsageError(f"trainer: {error}") from error
    _resume_one_way(trainer)
    return trainer


def _resume_one_way(trainer: pl.Trainer) -> None:
    """Let a run go on from the checkpoint that rnnlab names, and from no other, at the start of the next epoch."""
    # Lightning would prefer an hpc_ckpt_N of a requeued job, for measuring too.
    trainer._checkpoint_connector._parse_ckpt_path = lambda state_fn, ckpt_path, **_: ckpt_path
    # With max_steps, Lightning would take the end of an epoch, where all our checkpoints are, for its middle: it would
    # run an epoch without batches first, with a row in metrics.csv and a shuffling of its own.
    trainer.fit_loop._iteration_based_training = lambda: False


def _profiler(name: Any, run_dir: Path | None) -> Any:
    """Return the profiler of a name, writing into the run directory: Lightning's own would use the log, kept quiet."""
    from lightning.pytorch import profilers

    if run_dir is None or name is None:
        return None
    kinds = {"simple": profilers.SimpleProfiler, "advanced": profilers.AdvancedProfiler}
    if name not in kinds:
        raise UsageError(f"trainer.profiler must be {' or '.join(kinds)}, got {name!r}")
    return kinds[name](dirpath=run_dir, filename="profile")


def _fitting(optim: Any, trainer: pl.Trainer) -> Any:
    """Decide `fused: auto`: fused, except where mixed precision clips gradients, which Lightning refuses of such."""
    if optim.keywords.get("fused") != "auto":
        return optim
    clips_mixed = isinstance(trainer.precision_plugin, MixedPrecision) and trainer.gradient_clip_val
    return functools.partial(optim.func, **{**optim.keywords, "fused": not clips_mixed})


def _quiet_lightning() -> None:
    """Keep Lightning's announcements of devices and tips from the screen; its warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # The data is in memory and served in whole batches; worker processes would only add copies.
    warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers")
    # The clock of a run that need not look at it any more; all other callbacks are those of the checkpoint.
    warnings.filterwarnings("ignore", message=r"Be aware that when using `ckpt_path`, callbacks .* \['Timer'\]")
    # Of its own callbacks, which log at steps; an epoch of a few batches has its values all the same.
    warnings.filterwarnings("ignore", message=r"The number of training batches .* is smaller than the logging interval")
    # What tasks log at the end of an epoch is of all processes already.
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self.log\('.*sync_dist=True\)`")
    # Lightning's own use of torch's pytree (Lightning-AI/pytorch-lightning#21326).
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
