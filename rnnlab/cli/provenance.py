"""What a result depends on besides its configuration: code, versions, machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
import secrets
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import rnnlab

SNAPSHOT = "git.json"  # beside a copy of the code: what `git_state` said when it was made
VERSIONED = ("torch", "triton", "lightning", "hydra-core", "wandb", "numpy", "numba")


def provenance() -> dict[str, Any]:
    """Return what a result depends on besides its configuration, as plain data."""
    import torch  # not where a sweep is only queued

    commit, is_dirty = git_state()
    # The agent of a W&B sweep waits for a run of the id that it gives.
    of_agent = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    return {
        "id": of_agent or secrets.token_hex(4),
        "started": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": ["rnnlab", *sys.argv[1:]],
        "git_commit": commit,
        "git_dirty": is_dirty,
        "versions": {"rnnlab": rnnlab.__version__, "python": platform.python_version(), **package_versions()},
        "threads": torch.get_num_threads(),
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


def git_state() -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the clone this code runs from, or was copied from; None outside a clone."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    root = Path(rnnlab.__file__).parents[1]
    if (root / SNAPSHOT).exists():
        stored = json.loads((root / SNAPSHOT).read_text(encoding="utf-8"))
        return stored["git_commit"], stored["git_dirty"]
    if not (root / ".git").exists():
        return None, None
    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None
