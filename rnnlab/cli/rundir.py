"""Run directories: where a run lives, what it came from, and how it is read back."""

from __future__ import annotations

import datetime
import itertools
import platform
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

import rnnlab
from rnnlab.callbacks.files import is_empty
from rnnlab.cli.errors import UsageError, nearest

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

CONFIG = "config.yaml"
VERSIONED = ("torch", "triton", "lightning", "hydra-core", "wandb", "numpy", "numba")


@contextmanager
def claim(config: dict[str, Any]) -> Iterator[Path]:
    """Make the directory of a new run: `paths.run_dir`, or a fresh one named after the experiment and the time.

    Its first file is config.yaml, which no two processes can create: they never share a directory. If the block
    fails, everything made here is gone again.

    Raises:
        UsageError: the directory holds something already, or cannot be made.
    """
    given = config["paths"]["run_dir"]
    for run_dir in [Path(given)] if given is not None else _fresh_names(config):
        made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
        try:
            if not is_empty(run_dir):
                raise FileExistsError
            run_dir.mkdir(parents=True, exist_ok=True)
            _create_config(run_dir, config)
        except FileExistsError:
            continue
        except OSError as error:
            _remove_empty(made)
            raise UsageError(f"run_dir={run_dir} cannot be written: {error}") from error
        break
    else:
        raise UsageError(f"run_dir={given} is not empty; add resume=true to go on with its run, or choose another")
    try:
        yield run_dir
    except BaseException:
        (run_dir / CONFIG).unlink()
        _remove_empty(made)
        raise


def _fresh_names(config: dict[str, Any]) -> Iterator[Path]:
    """Yield this second's name for a run, then the same with _2, _3 and so on."""
    first = Path(config["paths"]["root"]) / config["name"] / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    yield first
    for count in itertools.count(2):
        yield first.with_name(f"{first.name}_{count}")


def _create_config(run_dir: Path, config: dict[str, Any]) -> None:
    with (run_dir / CONFIG).open("x", encoding="utf-8") as file:
        try:
            yaml.safe_dump(config, file, sort_keys=False, allow_unicode=True)
            file.flush()
        except BaseException:  # a full disk
            (run_dir / CONFIG).unlink()
            raise


def _remove_empty(directories: Iterable[Path]) -> None:
    """Remove directories, the innermost first, up to one in which another process has put something."""
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:
            return


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


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the configuration of an existing run.

    Raises:
        UsageError: there is no run in this directory, or its configuration is not one of rnnlab.
    """
    path = run_dir / CONFIG
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
    _take_weights(task, checkpoint, path)
    return checkpoint


def _take_weights(task: torch.nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    try:
        task.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UsageError(f"checkpoint {path} does not fit this model: {error}") from error


def data_state(checkpoint: dict[str, Any], data: LightningDataModule) -> dict[str, Any]:
    """Return what a data module left in a checkpoint, from where Lightning puts it; empty if it left nothing.

    Raises:
        UsageError: it should have, but the checkpoint is of other data.
    """
    state = checkpoint.get(type(data).__qualname__, {})
    if data.remembers and not state:
        raise UsageError(f"the checkpoint is not of a run on {type(data).__qualname__}")
    return state


def restore(data: LightningDataModule, task: torch.nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Give the weights of a checkpoint, read from `path`, to a task, and what its data remembers to the data.

    Raises:
        UsageError: as `load_weights`, or the run was trained on other data.
    """
    state = data_state(checkpoint, data)
    if state:
        try:
            data.load_state_dict(state)  # other data say so; that the weights do not fit then says less
        except ValueError as error:
            raise UsageError(str(error)) from error
    _take_weights(task, checkpoint, path)
