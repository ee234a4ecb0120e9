"""Where Triton keeps what it has compiled: on a cluster's node, not in a home that all nodes share.

Homes on clusters are slow to lock and slow to list; a hundred jobs that start together wait for them, and now and then
read what another has half written. Triton reads `TRITON_CACHE_DIR` whenever it compiles.
"""

import getpass
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "TRITON_CACHE_DIR"
# Set in jobs of Slurm, PBS, LSF and Grid Engine.
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
# Where such jobs find a disk of their node, before the system's folder for temporary files.
DISKS = ("SLURM_TMPDIR", "PBS_JOBFS", "LOCAL_SCRATCH")


def cache_folder(environment: MutableMapping[str, str] = os.environ) -> tuple[Path, str]:
    """Return the folder of Triton's cache, and in words why it is that one."""
    if VARIABLE in environment:
        return Path(environment[VARIABLE]), f"{VARIABLE} says so"
    job = next((name for name in JOBS if name in environment), None)
    if job is None:
        return Path.home() / ".triton" / "cache", "Triton's default"
    disk = next((environment[name] for name in DISKS if name in environment), tempfile.gettempdir())
    return Path(disk) / f"triton-{getpass.getuser()}", f"this node's own, since {job} says that this is a cluster"


def use_node_local_cache(environment: MutableMapping[str, str] = os.environ) -> Path:
    """Put Triton's cache on the node if this is a job of a cluster and nobody has said where; return the folder."""
    folder, _ = cache_folder(environment)
    if any(name in environment for name in JOBS):
        environment.setdefault(VARIABLE, str(folder))
    return folder
