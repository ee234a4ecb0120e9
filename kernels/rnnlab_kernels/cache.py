"""Where Triton keeps what it has compiled: on a cluster's node, not in a home that all nodes share.

Homes on clusters are slow to lock and slow to list; a hundred jobs that start together wait for them, and now and then
read what another has half written. Triton reads `TRITON_CACHE_DIR` whenever it compiles.
"""

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "TRITON_CACHE_DIR"
# Set in jobs of Slurm, PBS, LSF and Grid Engine.
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
# Where such jobs find a disk of their node, before the system's folder for temporary files.
DISKS = ("SLURM_TMPDIR", "PBS_JOBFS", "LOCAL_SCRATCH")


def cache_folder(environment: MutableMapping[str, str] = os.environ) -> tuple[Path | None, str]:
    """Return the folder of Triton's cache, None where Triton is left to find one, and in words why it is that one."""
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE]), f"{VARIABLE} says so"
    if environment.get("TRITON_HOME"):
        return Path(environment["TRITON_HOME"]) / ".triton" / "cache", "TRITON_HOME says so"
    job = next((name for name in JOBS if environment.get(name)), None)
    if job is not None:
        disk = next((environment[name] for name in DISKS if environment.get(name)), tempfile.gettempdir())
        # A name of the user's own, which not even a nameless one of a container lacks.
        return Path(disk) / f"triton-{os.getuid()}", f"this node's own, since {job} says that this is a cluster"
    try:
        return Path.home() / ".triton" / "cache", "Triton's default"
    except RuntimeError:
        return None, "this user has no home: Triton may fail unless TRITON_CACHE_DIR is set"


def use_node_local_cache(environment: MutableMapping[str, str] = os.environ) -> Path | None:
    """Put Triton's cache on the node if this is a job of a cluster and nobody has said where; return the folder.

    A folder of that name that belongs to somebody else is not used: what is in it would be run.
    """
    folder, _ = cache_folder(environment)
    asked = environment.get(VARIABLE) or environment.get("TRITON_HOME")
    if folder is not None and not asked and any(environment.get(name) for name in JOBS):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.getuid():
                environment[VARIABLE] = str(folder)
        except OSError:
            pass  # such as a disk that is full: Triton's default is as good as it was
    return folder
