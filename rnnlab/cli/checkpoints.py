"""The one reader of checkpoints: which file, whether it is whole, and what it gives to data and task."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rnnlab.callbacks.files import checksum_path, read_checked
from rnnlab.cli.errors import UsageError

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule


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
    """Load a checkpoint of rnnlab, with `weights_only=True`, after comparing it with its checksum.

    A file without one, of an older version or a copy, is held against the checksums of its parts.

    Raises:
        UsageError: the file is missing, damaged, unreadable, or not written by rnnlab.
    """
    try:
        content, is_intact = read_checked(path)
    except OSError as error:
        raise UsageError(f"checkpoint {path} cannot be read: {error}") from error
    if not content:
        raise UsageError(f"checkpoint {path} is empty")
    if not is_intact:
        raise UsageError(
            f"checkpoint {path} is damaged: it is not the file that was written, by its checksum in "
            f"{checksum_path(path).name}; bring back a copy, or train anew"
        )
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise UsageError(f"checkpoint {path} was not written by rnnlab, or its end is missing")
    try:
        broken = zipfile.ZipFile(io.BytesIO(content)).testzip()
        if broken is not None:
            raise UsageError(f"checkpoint {path} is damaged, in its part {broken}; bring back a copy, or train anew")
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"checkpoint {path} was not written by rnnlab: it holds more than tensors and plain data, and loading it "
            "could run any code"
        ) from error
    except Exception as error:  # a different type for every way in which a file can be broken
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"checkpoint {path} cannot be read: {reason}") from error
    if not isinstance(checkpoint, dict) or "rnnlab" not in checkpoint or "state_dict" not in checkpoint:
        raise UsageError(f"checkpoint {path} was not written by rnnlab: it has no 'rnnlab' entry")
    return checkpoint


def load_weights(task: torch.nn.Module, path: Path) -> dict[str, Any]:
    """Load a checkpoint's weights into a task and return the checkpoint.

    Raises:
        UsageError: the checkpoint cannot be loaded, or belongs to a different model.
    """
    checkpoint = load_checkpoint(path)
    take_weights(task, checkpoint, path)
    return checkpoint


def take_weights(task: torch.nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Give the weights of a checkpoint, read from `path`, to a task.

    Raises:
        UsageError: they belong to a different model, with the names of what does not fit.
    """
    own, given = task.state_dict(), checkpoint["state_dict"]
    misfits = [f"{name} is missing" for name in own if name not in given]
    misfits += [f"{name} has no place" for name in given if name not in own]
    misfits += [
        f"{name} has shape {tuple(given[name].shape)} and not {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if misfits:
        more = f" and {len(misfits) - 5} more" if len(misfits) > 5 else ""
        raise UsageError(f"checkpoint {path} does not fit this model: {', '.join(misfits[:5])}{more}")
    try:
        task.load_state_dict(given)
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
    take_weights(task, checkpoint, path)
