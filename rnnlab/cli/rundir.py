"""Run directories: where a run lives, what it came from, and how it is read back."""

from __future__ import annotations

import datetime
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from rnnlab.callbacks.files import is_empty, write_text
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.sweeps.lock import locked

CONFIG = "config.yaml"


class NotEmpty(UsageError):
    """The directory of a new run holds something already."""


@contextmanager
def claim(config: dict[str, Any]) -> Iterator[Path]:
    """Make and lock the directory of a new run: `paths.run_dir`, or a fresh one named after experiment and time.

    Its first file is config.yaml, which no two processes can create: they never share a directory. If the block
    fails before it has written anything, what was made here is gone again.

    Raises:
        NotEmpty: the directory holds something already.
        UsageError: another process is at work there, or it cannot be made.
    """
    given = config["paths"]["run_dir"]
    for run_dir in [Path(given)] if given is not None else _fresh_names(config):
        made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
        with ExitStack() as lock:
            try:
                if not is_empty(run_dir):
                    raise FileExistsError
                run_dir.mkdir(parents=True, exist_ok=True)
                lock.enter_context(locked(run_dir))
                _create_config(run_dir, config)
            except FileExistsError:
                continue
            except BlockingIOError as error:
                if given is None:
                    continue
                raise _busy(run_dir) from error
            except OSError as error:
                lock.close()
                _remove_empty(made)
                raise UsageError(f"run_dir={run_dir} cannot be written: {error}") from error
            try:
                yield run_dir
            except BaseException:
                if all(entry.name.startswith(".") or entry.name == CONFIG for entry in run_dir.iterdir()):
                    (run_dir / CONFIG).unlink()
                    lock.close()
                    _remove_empty(made)
                raise
            return
    raise NotEmpty(f"run_dir={given} is not empty; add resume=true to go on with its run, or choose another")


@contextmanager
def reopen(run_dir: Path) -> Iterator[None]:
    """Lock the directory of an existing run.

    Raises:
        UsageError: another process is at work there, or it cannot be written.
    """
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(run_dir))
        except BlockingIOError as error:
            raise _busy(run_dir) from error
        except OSError as error:
            raise UsageError(f"run_dir={run_dir} cannot be written: {error}") from error
        yield


def _busy(run_dir: Path) -> UsageError:
    return UsageError(f"another process is training in run_dir={run_dir}")


def _fresh_names(config: dict[str, Any]) -> Iterator[Path]:
    """Yield this second's name for a run, then the same with _2, _3 and so on."""
    first = Path(config["paths"]["root"]) / config["name"] / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    yield first
    for count in itertools.count(2):
        yield first.with_name(f"{first.name}_{count}")


def _create_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Write config.yaml whole or not at all; parts that killed processes left are gone then.

    Raises:
        FileExistsError: there is one.
    """
    part = run_dir / f".{CONFIG}.{secrets.token_hex(4)}.part"
    try:
        part.write_text(_dump(config), encoding="utf-8")
        try:
            os.link(part, run_dir / CONFIG)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if (run_dir / CONFIG).exists():
                raise FileExistsError from None
            part.rename(run_dir / CONFIG)
        for left in run_dir.glob(f".{CONFIG}.*.part"):  # one in use belongs to a process that comes too late
            left.unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)


def replace_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Write another config.yaml in place of the one that is there."""
    write_text(run_dir / CONFIG, _dump(config))


def _dump(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _remove_empty(directories: Iterable[Path]) -> None:
    """Remove directories, the innermost first, up to one in which another process has put something."""
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:
            return


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the configuration of an existing run.

    Raises:
        UsageError: there is no run in this directory, or its configuration is not one of rnnlab.
    """
    path = run_dir / CONFIG
    if not path.is_file():
        raise UsageError(f"run_dir={run_dir} holds no run: {path} is missing{other_runs(run_dir)}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or "provenance" not in config:
        raise UsageError(f"{path} is not the configuration of an rnnlab run")
    return config


def other_runs(run_dir: Path) -> str:
    """Suggest a run beside or below a directory that holds none."""
    below = sorted(path.parent for path in run_dir.glob("*/config.yaml"))
    if below:
        return f"; did you mean {below[-1]}?"
    beside = [path.parent.name for path in run_dir.parent.glob("*/config.yaml")]
    return nearest(run_dir.name, beside)
