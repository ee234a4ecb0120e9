"""Several processes that train one run: who starts them, how they meet, and that they end together.

The first process, rank 0, does all that a run is: it reads the command line, claims the run directory, writes files and
speaks. The others are told what to train by it, train their share of every batch, measure theirs, and end. They are
started by the first process, or all of them by `torchrun` or `srun`.
"""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from rnnlab.cli.errors import UsageError

PARENT = "RNNLAB_FIRST_PROCESS"  # its process id, which the processes that it starts end with
_GRACE = 20.0  # seconds in which a process may end by itself after another one has failed
_GRACE_FOR_ALL = datetime.timedelta(minutes=1)  # for processes that are still importing


class _Others:
    """Of processes that torchrun or srun has started: where this one meets the rest, and whether it has told them."""

    store: Any = None
    told = False


_others = _Others()


class ProcessFailed(RuntimeError):
    """A process that trains beside this one has ended before its time."""


def started_by() -> str | None:
    """Return what has started this process beside others, 'torchrun' or 'srun'; None if it was started alone."""
    if PARENT in os.environ:
        return None
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return "torchrun"
    return "srun" if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 else None


def rank() -> int:
    """Return the number of this process among those that train together, 0 for the first or only one."""
    by = started_by()
    if by == "srun":
        return int(os.environ["SLURM_PROCID"])
    return int(os.environ["RANK"]) if by == "torchrun" or PARENT in os.environ else 0


def _outside() -> dict[str, str]:
    """Return the variables of torch.distributed that torchrun sets, and those of srun say under other names."""
    if started_by() == "torchrun":
        return {}
    from lightning.fabric.plugins.environments import SLURMEnvironment

    job, step = (int(os.environ[f"SLURM_{name}"]) for name in ("JOB_ID", "STEP_ID"))
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    return {
        "RANK": os.environ["SLURM_PROCID"],
        "LOCAL_RANK": os.environ["SLURM_LOCALID"],
        "NODE_RANK": os.environ["SLURM_NODEID"],
        "WORLD_SIZE": os.environ["SLURM_STEP_NUM_TASKS"],
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(nodes),
        "MASTER_PORT": str(15_000 + (100 * job + step) % 15_000),
    }


def count(trainer: Mapping[str, Any]) -> int:
    """Return how many processes a trainer asks for, one for each device."""
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    if isinstance(devices, list):
        devices = len(devices)
    elif devices in ("auto", -1):
        import torch

        has_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        devices = torch.cuda.device_count() if has_gpu else 1
    return int(devices) * int(nodes)


class Crew:
    """The processes that train a run, as the first of them sees them.

    Args:
        store: where they meet; None for a process that is alone.
        children: those that this process has started, by their rank.
    """

    def __init__(self, store: Any = None, children: Mapping[int, subprocess.Popen] | None = None) -> None:
        self.store, self.children = store, dict(children or {})

    def call(self, config: dict[str, Any], run_dir: Path, resume_from: Path | None) -> None:
        """Tell the others what to train."""
        if self.store is not None:
            _others.told = True
            told = {"config": config, "run_dir": str(run_dir), "resume_from": resume_from and str(resume_from)}
            self.store.set("run", yaml.safe_dump(told))

    def part(self, data: Any) -> None:
        """Go on alone, with all of the data: the others have nothing to do any more."""
        leave()
        if self.store is not None:
            data.trainer = None

    def failed(self) -> str | None:
        """Return in words how a process that this one has started has failed, None if none has."""
        for number, child in self.children.items():
            code = child.poll()
            if code:
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
                return f"process {number} of {len(self.children) + 1} {how}"
        return None

    def why_lost(self) -> str | None:
        """Return how a process has failed whose connection was lost; it may take a moment to be gone."""
        for _ in range(50):
            if (how := self.failed()) is not None:
                return how
            time.sleep(0.1)
        return None

    def end(self, has_failed: bool) -> None:
        """Wait until all processes that this one has started have ended; after a failure, end them."""
        if has_failed:
            for child in self.children.values():
                child.terminate()
        for child in self.children.values():
            try:
                child.wait(_GRACE if has_failed else None)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def watch(self, is_over: threading.Event) -> None:
        """End this process when another has failed and it does not notice, as one that waits for a GPU's message."""
        while not is_over.wait(1.0):
            if (how := self.failed()) is None:
                continue
            if not is_over.wait(_GRACE):
                print(f"rnnlab: {how}", file=sys.stderr, flush=True)
                for child in self.children.values():
                    child.kill()
                os._exit(1)
            return


def dismiss(code: int = 0) -> None:
    """Tell the processes that were started beside this one that there is nothing to train, if that is so.

    Args:
        code: the exit code with which they are to end.
    """
    told, _others.told = _others.told, False
    if told or started_by() is None or rank() > 0:
        return
    store = meet()
    store.set("run", yaml.safe_dump({"code": code}))
    try:  # this process may keep the store: it has to be there until all have heard
        store.wait([heard(number) for number in range(1, int(os.environ["WORLD_SIZE"]))], _GRACE_FOR_ALL)
    except RuntimeError:
        pass  # one has ended by itself


def heard(number: int) -> str:
    """Return the key by which a process says that it has heard that there is nothing to train."""
    return f"heard/{number}"


@contextmanager
def crew(config: dict[str, Any]) -> Iterator[Crew]:
    """Have the processes that a run asks for, until the block ends.

    Raises:
        UsageError: more or fewer have been started than the trainer asks for, or cannot be started from here.
        ProcessFailed: one of them failed.
    """
    from rnnlab.cli.rehearse import check_trainer

    check_trainer(config["trainer"])
    wanted, by = count(config["trainer"]) if config.get("train", True) else 1, started_by()
    if by is not None:
        found = int((os.environ | _outside())["WORLD_SIZE"])
        if found != wanted:
            raise UsageError(f"{by} has started {found} processes, and trainer.devices x trainer.num_nodes is {wanted}")
        yield Crew(meet())
        return
    if wanted == 1:
        yield Crew()
        return
    if config["trainer"].get("num_nodes", 1) != 1:
        raise UsageError("trainer.num_nodes above 1 needs torchrun or srun, to start a process on each node")
    with _environment(_alone(wanted, config.get("threads"))):
        yield from _with_children(wanted)


def _with_children(wanted: int) -> Iterator[Crew]:
    """Start the other processes, yield the crew, and see that all end."""
    children = {number: _start(number) for number in range(1, wanted)}
    is_over = threading.Event()
    here = Crew(None, children)
    watcher = threading.Thread(target=here.watch, args=(is_over,), daemon=True)
    watcher.start()
    try:
        here.store = meet()
        yield here
    except BaseException as error:
        if how := here.why_lost() if lost_another(error) else None:
            here.end(has_failed=True)
            raise ProcessFailed(f"{how}, and the run with it") from error
        here.end(has_failed=True)
        raise
    else:
        here.end(has_failed=False)
        if (how := here.failed()) is not None:
            raise ProcessFailed(how)
    finally:
        is_over.set()
        leave()
        here.store = None


def _alone(wanted: int, threads: int | None) -> dict[str, str]:
    """Return the variables of torch.distributed for processes on this machine, its cores divided between them."""
    import torch
    from lightning.fabric.plugins.environments.lightning import find_free_network_port

    given = {
        PARENT: str(os.getpid()),
        "RANK": "0",
        "LOCAL_RANK": "0",
        "NODE_RANK": "0",
        "WORLD_SIZE": str(wanted),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_network_port()),
    }
    share = threads or max(1, torch.get_num_threads() // wanted)
    return given if "OMP_NUM_THREADS" in os.environ else given | {"OMP_NUM_THREADS": str(share)}


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment until the block ends; the next run of this process may be another's."""
    former = {name: os.environ[name] for name in given if name in os.environ}
    os.environ.update(given)
    try:
        yield
    finally:
        for name in given:
            os.environ.pop(name, None)
        os.environ.update(former)


def _start(number: int) -> subprocess.Popen:
    ranks = {"RANK": str(number), "LOCAL_RANK": str(number)}
    return subprocess.Popen([sys.executable, "-m", "rnnlab.cli.follower"], env=os.environ | ranks)


def meet() -> Any:
    """Return the store in which the processes of a run meet; it is there until the first of them has ended.

    Processes that were started from outside meet once: a second time, some may have ended.
    """
    if started_by() is None:
        return _rendezvous()
    if _others.store is None:
        os.environ.update(_outside())
        _others.store = _rendezvous()
    return _others.store


def _rendezvous() -> Any:
    from torch import distributed

    found: list[Any] = []

    def wait() -> None:
        try:
            found.append(distributed.PrefixStore("rnnlab", next(distributed.rendezvous("env://"))[0]))
        except Exception as error:
            found.append(error)

    # Beside this thread, which hears signals meanwhile: Python has no word in the waiting for others.
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    while waiting.is_alive():
        waiting.join(0.2)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def leave() -> None:
    """Leave the group of processes, if there is one: what is summed from here on is this process' own."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def lost_another(error: BaseException) -> bool:
    """Tell whether an error is that another process is not there any more."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
