"""Run directories: where a run lives, what it came from, and how it is read back."""

from __future__ import annotations

import datetime
import platform
import secrets
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

import rnnlab
from rnnlab.callbacks.files import is_empty, write_text
from rnnlab.cli.errors import UsageError, nearest

VERSIONED = ("torch", "triton", "lightning", "hydra-core", "wandb", "numpy")


def choose(config: dict[str, Any]) -> Path:
    """Return the directory of a new run: `paths.run_dir`, or a fresh one named after the experiment and the time.

    Raises:
        UsageError: the directory holds something already.
    """
    if config["paths"]["run_dir"] is not None:
        run_dir = Path(config["paths"]["run_dir"])
        if run_dir.exists() and not run_dir.is_dir():
            raise UsageError(f"run_dir={run_dir} is a file, a directory is needed")
        if not is_empty(run_dir):
            raise UsageError(
                f"run_dir={run_dir} is not empty; add resume=true to go on with its run, or choose another"
            )
        return run_dir
    parent = Path(config["paths"]["root"]) / config["name"]
    stamp = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    run_dir, count = parent / stamp, 1
    while run_dir.exists():
        count += 1
        run_dir = parent / f"{stamp}_{count}"
    return run_dir


def provenance() -> dict[str, Any]:
    """Return what a result depends on besides its configuration, as plain data."""
    commit, is_dirty = _git_state()
    return {
        "id": secrets.token_hex(4),
        "started": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": ["rnnlab", *sys.argv[1:]],
        "git_commit": commit,
        "git_dirty": is_dirty,
        "versions": {"rnnlab": rnnlab.__version__, "python": platform.python_version(), **package_versions()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
    }


def package_versions() -> dict[str, str | None]:
    """Return the installed version of each package that results depend on, None if it is missing."""

    def find(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {package: find(package) for package in VERSIONED}


def _git_state() -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the clone this code runs from; None outside a clone."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    root = Path(rnnlab.__file__).parents[1]
    if not (root / ".git").exists():
        return None, None
    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Write config.yaml, the first file of a run."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the configuration of an existing run.

    Raises:
        UsageError: there is no run in this directory, or its configuration is not one of rnnlab.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise UsageError(f"run_dir={run_dir} holds no run: {path} is missing{_other_runs(run_dir)}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or "provenance" not in config:
        raise UsageError(f"{path} is not the configuration of an rnnlab run")
    return config


def _other_runs(run_dir: Path) -> str:
    """Suggest a run beside or below a directory that holds none."""
    below = sorted(path.parent for path in run_dir.glob("*/config.yaml"))
    if below:
        return f"; did you mean {below[-1]}?"
    beside = [path.parent.name for path in run_dir.parent.glob("*/config.yaml")]
    return nearest(run_dir.name, beside)


def checkpoint_path(run_dir: Path, ckpt: str) -> Path:
    """Return the path of 'best', 'last' or a checkpoint file.

    Raises:
        UsageError: it does not exist.
    """
    path = run_dir / "checkpoints" / f"{ckpt}.ckpt" if ckpt in ("best", "last") else Path(ckpt)
    if not path.is_file():
        raise UsageError(f"ckpt={ckpt}: {path} does not exist; use best, last or the path of a checkpoint")
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of rnnlab, with `weights_only=True`.

    Raises:
        UsageError: the file is missing, unreadable, or not written by rnnlab.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for every way in which a file can be broken
        raise UsageError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict) or "rnnlab" not in checkpoint or "state_dict" not in checkpoint:
        raise UsageError(f"checkpoint {path} was not written by rnnlab: it has no 'rnnlab' entry")
    return checkpoint


def load_weights(task: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint's weights into a task and return the checkpoint.

    Raises:
        UsageError: the checkpoint cannot be loaded, or belongs to a different model.
    """
    checkpoint = load_checkpoint(path)
    try:
        task.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UsageError(f"checkpoint {path} does not fit this model: {error}") from error
    return checkpoint
