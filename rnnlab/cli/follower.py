"""A process that trains a run beside the first one: it is told what, see `rnnlab.cli.processes`."""

from __future__ import annotations

import datetime
import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from rnnlab.cli import processes
from rnnlab.cli.main import explain

_LONG = datetime.timedelta(days=30)


def follow() -> int:
    """Train what the first process says, and return the exit code."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, too, and ends the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if processes.started_by() == "srun":  # whose signals go to all: the first one ends in order, and the others with it
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    try:
        store = processes.meet()
        store.wait(["run"], _LONG)
        told = yaml.safe_load(store.get("run"))
        if "code" in told:
            store.set(processes.heard(processes.rank()), "")
            return told["code"]
        _train_as_told(told)
    except Exception as error:
        if processes.lost_another(error):  # which says itself why it has ended
            return 1
        text, code = explain(error)
        print(f"rnnlab: process {processes.rank()}: {text}", file=sys.stderr)
        return code
    return 0


def _train_as_told(told: dict[str, Any]) -> None:
    from rnnlab.callbacks.console import console
    from rnnlab.cli import fit

    console.quiet = True
    fit.follow(told["config"], Path(told["run_dir"]), told["resume_from"] and Path(told["resume_from"]))
    processes.leave()


def _end_with_parent() -> None:
    """Let the system end this process with the one that has started it, however that ends."""
    parent = os.environ.get(processes.PARENT)
    if parent is None or sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # it was faster
        os._exit(1)


if __name__ == "__main__":
    sys.exit(follow())
