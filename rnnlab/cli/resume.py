"""Whether a run may go on: with the configuration that it was trained with, or with the same for longer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rnnlab.cli import checkpoints, rundir
from rnnlab.cli.compose import flatten
from rnnlab.cli.errors import UsageError

# Keys that may differ between a run and the command that resumes it, and those that may be raised.
_FREE = ("resume", "preemption", "paths.", "provenance.")
_LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
_FILES = ("data.path", "data.train")  # may have moved: data know their content by its checksum
_NAME_ALL = {"experiment", "debug", "machine"}  # groups that say something of every key
_ANY_LENGTH = "rnnlab.tasks.schedule.plateau"  # the one schedule that is not laid out over the whole training


def starts_anew(config: dict[str, Any]) -> bool:
    """Return whether a command starts a run: without `resume`, or with `resume=auto` where there is none yet.

    Raises:
        UsageError: `resume` is none of its values, or there is no directory to look into.
    """
    how = config["resume"]
    if not isinstance(how, bool) and how != "auto":
        raise UsageError(f"resume must be true, false or auto, got {how!r}")
    if how and config["paths"]["run_dir"] is None:
        needs = "the run to go on with" if how is True else "where the run is, or is to be"
        raise UsageError(f"resume={str(how).lower()} needs run_dir=DIR, {needs}")
    return not how or (how == "auto" and not (Path(config["paths"]["run_dir"]) / rundir.CONFIG).exists())


def stored_config(run_dir: Path, config: dict[str, Any], given: list[str], whole: bool) -> tuple[dict[str, Any], bool]:
    """Return the configuration of the run to resume, with the length that the command asks for.

    Args:
        run_dir: the run.
        config: what the command line composes.
        given: its overrides. What they name has to be as it was, or longer; defaults of other keys say nothing.
        whole: all keys have to be as they were, but for paths, provenance and length: of a command that might as well
            have started the run, by `resume=auto`.

    Returns:
        Configuration, and whether its length is another one.

    Raises:
        UsageError: there is no run, or the command asks for another one.
    """
    stored = rundir.read_config(run_dir)
    words = {word.lstrip("+~").partition("=")[0].partition("@")[0] for word in given}
    old, new, is_other = flatten(stored), flatten(config), False
    advice = "another one needs another run_dir" if whole else "give run_dir and resume=true only"
    for key in sorted(old.keys() | new.keys()):
        is_named = whole or words & _NAME_ALL or any(key == word or key.startswith(f"{word}.") for word in words)
        both = old.get(key), new.get(key)
        if key.startswith(_FREE) or not is_named or both[0] == both[1] or all(value in (None, {}) for value in both):
            continue
        if key not in _LENGTH or not (whole or key in words):
            raise UsageError(
                f"{key} is {old.get(key)!r} in {run_dir} and {new.get(key)!r} on the command line; "
                f"a resumed run keeps its configuration, but for its length: {advice}"
            )
        stored["trainer"][key.removeprefix("trainer.")] = new.get(key)
        is_other = True
    return {**stored, "resume": True}, is_other


def last_checkpoint(config: dict[str, Any], run_dir: Path) -> dict[str, Any] | None:
    """Return the checkpoint to go on from, None if no epoch was finished.

    Raises:
        UsageError: it is damaged, was trained with another configuration, or the best one is gone.
    """
    path = run_dir / "checkpoints" / "last.ckpt"
    if not path.exists():
        return None
    checkpoint = checkpoints.load_checkpoint(path)
    trained, now = flatten(checkpoint["rnnlab"]["config"]), flatten(config)
    for key in sorted(trained.keys() | now.keys()):
        if key.startswith(_FREE) or key in _FILES or trained.get(key) == now.get(key):
            continue
        if key not in _LENGTH:
            raise UsageError(
                f"{key} is {now.get(key)!r} in {run_dir / rundir.CONFIG}, but {path} was trained with "
                f"{trained.get(key)!r}; put it back, or train anew"
            )
        _check_longer(key, trained.get(key), now.get(key), config["schedule"])
        if not checkpoint["callbacks"]["LastAndBest"].get("is_whole", True):
            if checkpoint["epoch"] == 0:
                return None  # what it had of its first epoch is trained again
            raise UsageError(
                f"{key} was {trained.get(key)!r}, got {now.get(key)!r}: the run ended within an epoch, and only from "
                "the end of one can it go on as if it had never stopped; train anew"
            )
    best_epoch = checkpoint["callbacks"].get("LastAndBest", {}).get("best_epoch")
    if best_epoch is not None and not (best := path.with_name("best.ckpt")).exists():
        raise UsageError(f"{best} is missing, the checkpoint of epoch {best_epoch + 1}; bring back a copy")
    return checkpoint


def _check_longer(key: str, old: Any, new: Any, schedule: dict[str, Any]) -> None:
    """Refuse a length that the run cannot have any more."""
    if key == "trainer.max_time":
        return
    old, new = (math.inf if value in (None, -1) else value for value in (old, new))
    if new < old:
        raise UsageError(f"{key} was {old}, got {new}: a run that goes on may become longer, not shorter")
    if schedule and schedule.get("_target_") != _ANY_LENGTH:
        name = str(schedule.get("_target_")).rpartition(".")[2]
        raise UsageError(
            f"{key} was {old}, got {new}: the schedule {name} laid out its rates over the former length; "
            "only runs with schedule=constant or schedule=plateau can be trained longer"
        )
