"""A SLURM of one node over loopback, in a folder of its own, for what only a batch system does.

It needs Debian's `slurm-wlm` and `munge`, as root in a container or not, and neither systemd nor anything in /etc. Its
daemons hang on a guard, `python -m tests.cluster.slurm FOLDER`, which ends them and whatever they started as soon as
its stdin ends: also when the process that wanted it was killed.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_UP_S, _DOWN_S, _CLEAR_S = 30.0, 3.0, 60.0

# Partition `high` takes the node from jobs in `low`, which are requeued. A requeued job waits until its credential has
# run out, two minutes if nothing else is said. Two files stand for GPUs.
_CONF = """\
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
JobRequeue=1
KillWait=5
MessageTimeout=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} CoresPerSocket={cores} Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes={host} Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
    """Return which of the programs are not installed here."""
    return [program for program in PROGRAMS if shutil.which(program, path=_PATH) is None]


class Slurm:
    """A running SLURM: `with Slurm(folder) as slurm: subprocess.run(..., env=slurm.environment)`.

    Args:
        folder: for its files and logs; made here.

    Raises:
        RuntimeError: it does not start, with the end of its logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> Slurm:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.cluster.slurm", str(self.folder)]
        root = Path(__file__).parents[2]
        # A session of its own: Ctrl-C is for its owner, who then lets it go.
        self._guard = subprocess.Popen(
            command, cwd=root, env=self.environment, stdin=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + _UP_S
        while "idle" not in self._run("sinfo", "-h", "-o", "%t").stdout:
            if time.monotonic() > deadline or self._guard.poll() is not None:
                self.__exit__(None, None, None)
                logs = [f"{path.name}: {_tail(path)}" for path in sorted((self.folder / "log").glob("*"))]
                raise RuntimeError("\n".join(["SLURM does not start here", *logs]))
            time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()

    def ask(self, *command: str) -> str:
        """Return what one of SLURM's commands prints.

        Raises:
            RuntimeError: it fails, with what it says.
        """
        result = self._run(*command)
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
        return result.stdout

    def clear(self) -> None:
        """Take all jobs out of the queue and from the node, and wait until they are gone.

        Raises:
            RuntimeError: they stay.
        """
        deadline = time.monotonic() + _CLEAR_S
        while queue := self.ask("squeue", "--noheader"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"jobs cannot be taken from the queue:\n{queue}")
            self._run("scancel", "--user", getpass.getuser())  # again, for what was just being queued again
            time.sleep(0.2)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:]


def serve(folder: Path) -> None:
    """Run the daemons until stdin ends, then end everything that has this SLURM in its environment."""
    for name in ("state", "spool", "log"):
        (folder / name).mkdir(exist_ok=True)
    host, ports, cores = socket.gethostname().partition(".")[0], _free_ports(2), min(2, os.cpu_count() or 1)
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(host=host, ports=ports, user=getpass.getuser(), folder=folder, cores=cores))
    conf.with_name("gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(64))
    own = {"socket": "munge.socket", "key-file": key.name, "pid-file": "munged.pid", "seed-file": "munge.seed"}
    munged = ["munged", "--foreground", "--force", *(f"--{option}={folder / name}" for option, name in own.items())]
    try:
        _start(munged, folder)
        _await(folder / "munge.socket")
        _start(["slurmctld", "-D", "-i", "-f", str(conf)], folder)
        _start(["slurmd", "-D", "-f", str(conf), "-N", host], folder)
        sys.stdin.read()
    finally:
        _end_all(folder)


def _start(command: list[str], folder: Path) -> None:
    with (folder / "log" / f"{command[0]}.log").open("ab") as log:
        program = shutil.which(command[0], path=_PATH)
        assert program is not None
        subprocess.Popen([program, *command[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _await(path: Path) -> None:
    deadline = time.monotonic() + _UP_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _end_all(folder: Path) -> None:
    """Ask every process of the SLURM in a folder to end, and kill what is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _DOWN_S
        for pid in running_in(folder):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        while running_in(folder) and time.monotonic() < deadline:
            time.sleep(0.1)
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):  # the first process of a container may not do it
            pass
    except ChildProcessError:
        pass


def running_in(folder: Path) -> list[int]:
    """Return the processes, this one aside, that were started with the SLURM of a folder in their environment."""
    mark, found = f"SLURM_CONF={folder.resolve() / 'slurm.conf'}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            is_alive = place.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if is_alive and mark in place.joinpath("environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            pass  # it has ended, or is not ours
    return [pid for pid in found if pid != os.getpid()]


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
