"""Where a new run has its weights from: `init_from=RUN`, a run directory or a checkpoint file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from rnnlab.cli import checkpoints, rundir
from rnnlab.cli.build import Run
from rnnlab.cli.errors import UsageError

# Of what data remember: says which files they were read from, and not how numbers are to be read.
_SOURCES = ("sha256",)


class Origin(NamedTuple):
    """A checkpoint, its path, and what a run notes down of it."""

    path: Path
    checkpoint: dict[str, Any]
    record: dict[str, Any]


def find_origin(source: Any, known: dict[str, Any] | None = None) -> Origin:
    """Return what `init_from=source` means: of a run its best checkpoint, or its last one if none was validated.

    Args:
        source: as the configuration has it.
        known: record of a run that began with it; the file has to be the same one still.

    Raises:
        UsageError: there is no such run or checkpoint, it is damaged, or another one now.
    """
    path = Path(str(source))
    if path.is_dir():
        kept = [path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
        found = next((file for file in kept if file.is_file()), None)
        if found is None:
            raise UsageError(f"init_from={path} holds no checkpoint: {kept[0]} is missing{rundir.other_runs(path)}")
        path = found
    elif not path.is_file():
        raise UsageError(f"init_from={path} is neither a run directory nor a checkpoint{rundir.other_runs(path)}")
    checkpoint = checkpoints.load_checkpoint(path)
    record = {
        "path": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "run": checkpoint["rnnlab"]["config"]["provenance"]["id"],
        "epoch": checkpoint["epoch"] + 1,
    }
    if known is not None and record["sha256"] != known["sha256"]:
        raise UsageError(
            f"init_from={source}: {path} is not the checkpoint that this run began with, whose sha256 begins with "
            f"{known['sha256'][:12]}; bring back a copy, or train anew"
        )
    return Origin(path, checkpoint, record)


def begin_with(run: Run, origin: Origin) -> list[str]:
    """Give the weights of another run to a new one, and return a line for each thing that its data know otherwise.

    Raises:
        UsageError: they do not fit, with the names of those that do not.
    """
    checkpoints.take_weights(run.task, origin.checkpoint, origin.path)
    own, former = run.data.state_dict(), origin.checkpoint.get(type(run.data).__qualname__, {})
    if run.data.remembers and not former:
        return [f"note: the weights of {origin.path} were trained on data of another kind"]
    others = [name for name in own if name not in _SOURCES and name in former and former[name] != own[name]]
    return [f"note: {name} of the data differ from those that the weights of {origin.path} knew" for name in others]
