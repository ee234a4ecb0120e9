"""W&B, TensorBoard and MLflow, one or several, built so that a run's records stay in its directory and can go on."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rnnlab.cli import naming
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.instantiate import instantiate

# Of each logger, by the name of its class: what says where its records are and what they hold, which is rnnlab's own.
_RECORDS = {
    "WandbLogger": {"save_dir", "dir", "id", "version", "config"},
    "TensorBoardLogger": {"save_dir", "name", "version", "sub_dir", "purge_step"},
    "MLFlowLogger": {"run_id", "save_dir"},
}
# Modules of packages that are no part of the plain installation, and of what extra.
_NEEDED = {
    "TensorBoardLogger": ({"tensorboard"}, "tensorboard"),
    "MLFlowLogger": ({"mlflow", "sqlalchemy", "alembic"}, "mlflow"),
}


def build_loggers(config: dict[str, Any], run_dir: Path) -> list:
    """Build the loggers of a configuration; metrics.csv is a callback's and always there.

    Raises:
        UsageError: a logger, or a setting of one, that there is not, or whose package is missing.
    """
    given = config["logger"] or {}
    if "_target_" in given:  # of a run that is older than several loggers
        given = {"wandb": given}
    return [_built(name, options, config, run_dir) for name, options in given.items()]


def _built(name: str, options: Any, config: dict[str, Any], run_dir: Path) -> Any:
    if not isinstance(options, dict) or "_target_" not in options:
        raise UsageError(
            f"there is no logger.{name} for {options!r} to be set: a logger is chosen by logger=wandb, csv, "
            "tensorboard, mlflow, or several, as logger=[wandb,tensorboard]"
        )
    kind = str(options["_target_"]).rpartition(".")[2]
    if kind not in _RECORDS:
        raise UsageError(f"logger.{name}: {kind} is not supported; logger=wandb, tensorboard and mlflow are, or csv")
    chosen = {key: value for key, value in options.items() if value is not None}
    for key in sorted(_RECORDS[kind] & chosen.keys()):
        raise UsageError(f"logger.{name}.{key} is rnnlab's own, by which a run is found again; it cannot be set")
    modules, extra = _NEEDED.get(kind, (set(), ""))
    missing = sorted(module for module in modules if find_spec(module) is None)
    if missing:
        raise UsageError(f'logger={name} needs {" and ".join(missing)}: pip install "rnnlab[{extra}]"')
    log_model = chosen.pop("log_model", False)
    if not isinstance(log_model, bool):
        raise UsageError(f"logger.{name}.log_model must be true or false, got {log_model!r}")
    make = {"WandbLogger": _wandb, "TensorBoardLogger": _tensorboard, "MLFlowLogger": _mlflow}[kind]
    try:
        logger = make(name, chosen, config, run_dir)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"logger.{name}: {error}") from error
    logger.keeps_model = log_model  # at the end of a run; Lightning's own way is for its own checkpoints alone
    return logger


def _wandb(name: str, chosen: dict[str, Any], config: dict[str, Any], run_dir: Path) -> Any:
    known = config["provenance"]
    names = {
        "name": naming.title_of(config),
        "group": naming.group_of(config),
        "job_type": "sweep" if known.get("sweep") else "train",
        "tags": config["tags"],
    }
    # The console already says what matters. Where nothing is known, W&B looks for a commit itself.
    commit = {"git_commit": known["git_commit"]} if known.get("git_commit") else {}
    settings = {"silent": True, "console": "off", **commit, **chosen.pop("settings", {})}
    records = {"save_dir": str(run_dir), "id": known["id"], "config": config, "settings": settings}
    logger = instantiate({**names, **chosen, "_partial_": True})(**records)
    _check_wandb(name, logger._wandb_init)
    # Lightning always passes it on, and wandb warns of it on the screen (wandb/wandb#10909).
    logger._wandb_init.pop("anonymous", None)
    return logger


def _check_wandb(name: str, options: dict[str, Any]) -> None:
    """Refuse what W&B would refuse when the run begins.

    Args:
        name: of the logger.
        options: arguments of `wandb.init`.

    Raises:
        UsageError: W&B's own reason, or the run is to be online and there is no key of an account.
    """
    import wandb

    names = {"group": "run_group", "id": "run_id", "job_type": "run_job_type", "name": "run_name", "tags": "run_tags"}
    if not isinstance(options.get("tags") or [], list):
        raise UsageError(f"tags must be a list, as tags=[{options['tags']}], got {options['tags']!r}")
    known = inspect.signature(wandb.init).parameters
    for key, value in options.items():
        if key not in (*known, "anonymous"):  # which Lightning always adds
            raise UsageError(f"logger.{name} has no option '{key}'{nearest(key, known)}")
        if key in ("project", "entity", "mode", *names):
            try:
                wandb.Settings(**{names.get(key, key): value})
            except (wandb.errors.UsageError, ValueError) as error:
                details = error.errors() if hasattr(error, "errors") else [{"msg": str(error)}]
                raise UsageError(f"logger.{name}.{key}: {details[0]['msg']}, got {value!r}") from error
    if options.get("mode") == "online" and not wandb.login(prompt=False):
        raise UsageError(f"logger.{name}.mode=online needs an account: `wandb login`, or its key in WANDB_API_KEY")


def _tensorboard(name: str, chosen: dict[str, Any], config: dict[str, Any], run_dir: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    make = instantiate({**chosen, "_partial_": True})
    _check_known(name, chosen, make.func, SummaryWriter.__init__)
    return make(save_dir=str(run_dir), name="tensorboard", version="")


def _mlflow(name: str, chosen: dict[str, Any], config: dict[str, Any], run_dir: Path) -> Any:
    """Return a logger into a database of the run's own, or on the server of `tracking_uri`."""
    import mlflow  # noqa: F401  which sets the levels of its loggers itself

    for teller in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
        logging.getLogger(teller).setLevel(logging.ERROR)  # they tell how tables and experiments are made
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")  # MLflow's own use of SQLAlchemy
    known, place = config["provenance"], {}
    if "tracking_uri" not in chosen:
        place = {
            "tracking_uri": f"sqlite:///{(run_dir / 'mlflow.db').absolute()}",
            "artifact_location": (run_dir / "mlflow").absolute().as_uri(),
        }
    tags = {"rnnlab.id": known["id"], "rnnlab.group": naming.group_of(config), **chosen.pop("tags", {})}
    if known.get("git_commit"):
        tags["mlflow.source.git.commit"] = known["git_commit"]
    tags.update({f"rnnlab.tag.{tag}": "true" for tag in config["tags"]})
    make = instantiate({"run_name": naming.title_of(config), **place, **chosen, "_partial_": True})
    _check_known(name, chosen, make.func)
    return make(tags=tags)


def _check_known(name: str, options: dict[str, Any], *takers: Callable) -> None:
    """Refuse options that no constructor takes, before a logger makes its files."""
    known = {key for taker in takers for key in inspect.signature(taker).parameters} - {"self", "kwargs"}
    for key in options.keys() - known - {"_target_"}:
        raise UsageError(f"logger.{name} has no option '{key}'{nearest(key, known)}")
