"""Runs as they are found on disk: of sweeps, in folders of any depth, of old versions, finished or not."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rnnlab.cli.errors import UsageError, nearest
from rnnlab.sweeps.ledger import LEDGER, Story

CONFIG, METRICS = "config.yaml", "metrics.json"
# What the last line of a job in the ledger means here; anything else is a job that was begun and has no end.
_STATES = {"queued": "not started", "failed": "failed", "pruned": "pruned"}


@dataclass
class Record:
    """What is known of a run without building anything.

    Attributes:
        name: its directory, below the folder in which it was looked for.
        path: its directory, which a job that was never started does not have.
        state: 'finished', 'failed', 'pruned', 'not started' or 'unfinished'.
        metrics: of metrics.json; empty unless it is finished.
        error: of a run that failed, in one line.
        words: what the command line set, by key.
    """

    name: str
    path: Path
    state: str
    metrics: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    given: list[str] | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration; empty where there is none. Reading it takes a millisecond, 10,000 of them ten seconds."""
        import yaml

        try:
            config = yaml.load(self.path.joinpath(CONFIG).read_text(encoding="utf-8"), yaml.CSafeLoader)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{self.path / CONFIG} cannot be read: {error}") from error
        if not isinstance(config, dict) or "provenance" not in config:
            raise UsageError(f"{self.path / CONFIG} is not the configuration of an rnnlab run")
        return config

    @cached_property
    def words(self) -> dict[str, str]:
        given = self.given
        if given is None:
            provenance = self.config.get("provenance", {})
            given = provenance.get("overrides") or [word for word in provenance.get("command", ()) if "=" in word]
        pairs = (str(word).lstrip("+~").partition("=") for word in given)
        return {key: _unquoted(value) for key, _, value in pairs}

    @property
    def seed(self) -> str:
        return self.words.get("seed") or str(self.config.get("seed", ""))


def find_records(places: Iterable[str]) -> list[Record]:
    """Return the runs of directories: runs, sweeps, or folders with such in them; names with * ? [ are patterns.

    Raises:
        UsageError: there is no such directory, no run in it, or a file of one is broken.
    """
    records: list[Record] = []
    seen: set[str] = set()
    for place in places:
        for root in _directories(place):
            if os.path.realpath(root) in seen:
                continue
            found = list(_runs_in(root, root, seen))
            if not found and not glob.has_magic(place):
                raise UsageError(f"no runs in {root}: neither {CONFIG} nor {LEDGER} is there or below")
            records += found
    if not records:
        raise UsageError("no runs found")
    if len({record.name for record in records}) < len(records):
        for record in records:
            record.name = record.path.as_posix()
    return records


def _directories(place: str) -> list[Path]:
    path = Path(place)
    if path.is_dir():
        return [path]
    found = [Path(name) for name in sorted(glob.glob(place, recursive=True)) if os.path.isdir(name)]
    if not found:
        beside = [one.name for one in path.parent.iterdir() if one.is_dir()] if path.parent.is_dir() else []
        raise UsageError(f"{place} is no directory{nearest(path.name, beside)}")
    return found


def _runs_in(folder: Path, root: Path, seen: set[str]) -> Iterator[Record]:
    """Yield the runs in a folder, a sweep's as its ledger tells them, others in the order of their names.

    Links are followed, but to no folder that was `seen`.
    """
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        inside = {entry.name: entry for entry in entries}
    if LEDGER in inside:
        yield from _jobs(folder, root)
    elif CONFIG in inside:
        metrics = _read_metrics(folder) if METRICS in inside else None
        yield Record(_name(folder, root), folder, "unfinished" if metrics is None else "finished", metrics or {})
    else:
        for name in sorted(inside):
            if inside[name].is_dir() and not name.startswith("."):
                yield from _runs_in(folder / name, root, seen)


def _jobs(sweep_dir: Path, root: Path) -> Iterator[Record]:
    for job, line in Story(sweep_dir).jobs.items():
        path = sweep_dir / job
        metrics = _read_metrics(path)
        state = _STATES.get(line["state"], "unfinished") if metrics is None else "finished"
        error = str(line.get("error", "")) if state == "failed" else ""
        words = [*line["overrides"], *line.get("tried", ())] if "overrides" in line else None
        yield Record(_name(path, root), path, state, metrics or {}, error, words)


def _name(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _read_metrics(run_dir: Path) -> dict[str, Any] | None:
    """Return the final numbers of a run, None if it has none yet."""
    path = os.path.join(run_dir, METRICS)  # pathlib would take half of the time of 10,000
    try:
        with open(path, encoding="utf-8") as file:
            metrics = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(metrics, dict):
        raise UsageError(f"{path} holds no metrics")
    return metrics


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def cell_of(config: dict[str, Any]) -> str:
    """Return the cell of a run on `rnnlab.nn.Recurrent` with its options, or the layer's class."""
    rnn = config.get("rnn") or {}
    cell = rnn.get("cell", {"_target_": rnn.get("_target_", "")})
    options = ", ".join(f"{k}={v}" for k, v in cell.items() if k not in ("_target_", "_partial_", "hidden_size"))
    name = cell["_target_"].rpartition(".")[2]
    return f"{name}({options})" if options else name


def as_row(record: Record) -> dict[str, Any]:
    """Return a finished run as a row of the tables in experiments/: name, experiment, cell, seed, commit, numbers."""
    config = record.config
    provenance = config["provenance"]
    # None where the code was installed without its clone.
    commit = (provenance["git_commit"] or "unknown") + ("+changes" if provenance["git_dirty"] else "")
    names = {"run": record.name, "experiment": config["name"], "cell": cell_of(config)}
    return {**names, "seed": config["seed"], "commit": commit, **record.metrics}
