"""The story of a sweep to which everything happens that a cluster can do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

from rnnlab.sweeps import ledger
from tests.cluster.slurm import Slurm

# What happens to each job, known by its learning rate. Two run at a time, in this order.
OUT_OF_TIME, KILLED, REQUEUED, BROKEN, *_, PREEMPTED = RATES = (0.001, 0.002, 0.003, -1, 0.005, 0.006, 0.007, 0.008)
JOB = [
    *("logger=csv", "callbacks=none", "data.digits=2", "data.num_questions=400", "data.num_test=50"),
    *("data.batch_size=64", "rnn.hidden_size=8", "trainer.max_epochs=6", "trainer.accelerator=cpu"),
    *("plugins=[held]", "+callbacks.hold._target_=held.Hold", "+callbacks.hold.rate=${optim.lr}", "threads=1"),
]
WORDS = [*JOB, f"optim.lr={','.join(map(str, RATES))}"]
SLURM = [
    *("hydra/launcher=submitit_slurm", "hydra.launcher.partition=low", "hydra.launcher.timeout_min=10"),
    *("hydra.launcher.signal_delay_s=15", "hydra.launcher.array_parallelism=2"),
]
_PATIENCE_S = 300.0


class Story:
    """What is done to a sweep of eight jobs, one step after the other.

    Args:
        slurm: runs it.
        folder: for the sweep and all else; made here.
    """

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        self.slurm, self.folder, self.sweep_dir, self.hold = slurm, folder, folder / "sweep", folder / "hold"
        self._begun: list[subprocess.Popen] = []
        self.hold.mkdir(parents=True)
        for rate in (OUT_OF_TIME, KILLED, REQUEUED, PREEMPTED):
            (self.hold / str(rate)).touch()

    def __enter__(self) -> Story:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._begun:  # that a failure has left
            process.kill()
            process.communicate()

    def tell(self) -> list[tuple[int, str]]:
        """Tell the story; return exit code and last words of the launcher, and of the one that went on."""
        first = self.begin("train", "-m", *WORDS, *SLURM, f"+callbacks.hold.folder={self.hold}", self.dir_word())
        late = self.held(OUT_OF_TIME)["slurm"]
        # A minute is SLURM's shortest limit, and its clock ticks every half minute.
        self.slurm.ask("scontrol", "update", f"JobId={late}", "TimeLimit=1")
        os.kill(self.held(KILLED)["pid"], signal.SIGKILL)
        self.slurm.ask("scontrol", "requeue", self.held(REQUEUED)["slurm"])
        self.let_go(REQUEUED)
        self.until(lambda: self.states(OUT_OF_TIME).count("requeued") == 2)
        self.let_go(OUT_OF_TIME)
        self.until(lambda: {self.states(rate)[-1] for rate in (OUT_OF_TIME, REQUEUED)} == {"finished"})
        self.held(PREEMPTED)
        self.until(lambda: len(self.slurm.ask("squeue", "--noheader", "--array").splitlines()) == 1)
        urgent = ["sbatch", "--partition=high", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 5"]
        assert self.slurm.ask(*urgent)
        self.until(lambda: self.states(PREEMPTED)[-1] == "interrupted")
        self.let_go(PREEMPTED)
        ended = [self.ended(first)]
        self.let_go(KILLED)
        return [*ended, self.ended(self.begin("sweep", "resume", str(self.sweep_dir)))]

    def undisturbed(self) -> Path:
        """Run the same sweep on this machine, with nothing in its way, and return its directory."""
        words = [f"+callbacks.hold.folder={self.folder}", f"sweep_dir={self.folder / 'undisturbed'}"]
        self.ended(self.begin("train", "-m", *WORDS, *words))
        return self.folder / "undisturbed"

    def states(self, rate: float) -> list[str]:
        """Return what the ledger tells of a job, with its epochs as one."""
        lines = (line for line in ledger.read(self.sweep_dir)[0] if line["job"] == name(rate))
        return [state for state, _ in groupby(line["state"] for line in lines)] or ["missing"]

    def dir_word(self) -> str:
        return f"sweep_dir={self.sweep_dir}"

    def begin(self, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "rnnlab", *words]
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(root), str(root / "kernels")])
        environment = {**self.slurm.environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        here, out = Path(__file__).parent, {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._begun.append(subprocess.Popen(command, cwd=here, env=environment, text=True, **out))
        return self._begun[-1]

    def ended(self, process: subprocess.Popen) -> tuple[int, str]:
        out, _ = process.communicate(timeout=_PATIENCE_S)
        return process.returncode, out

    def held(self, rate: float) -> dict[str, Any]:
        """Wait until a job stands still in its third epoch, and return what the ledger says of it."""
        self.until(lambda: ledger.Story(self.sweep_dir).jobs.get(name(rate), {}).get("epoch", 0) == 3)
        time.sleep(0.5)
        return ledger.Story(self.sweep_dir).jobs[name(rate)]

    def let_go(self, rate: float) -> None:
        (self.hold / str(rate)).unlink()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(self._everything())
            time.sleep(0.2)

    def _everything(self) -> str:
        return "\n".join([*(f"{rate}: {self.states(rate)}" for rate in RATES), self.slurm.ask("squeue")])


def name(rate: float) -> str:
    """Return what the sweep calls a job."""
    return f"optim.lr={rate}"
