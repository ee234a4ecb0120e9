"""A script of one's own around `srun rnnlab train ... preemption=lightning resume=auto` is queued again and goes on.

It does so in the same run of W&B, too.
"""

import json
import shlex
import sys
import time
from pathlib import Path

import pytest

from rnnlab.cli.main import main
from tests.cluster.story import JOB
from tests.runs import same_weights, wait_for

pytestmark = pytest.mark.cluster

SCRIPT = """#!/bin/bash
#SBATCH --ntasks={tasks} --requeue --signal=USR1@60 --time=10 --open-mode=append --output={folder}/log
export PYTHONPATH={root}:{root}/kernels:{root}/tests/cluster OMP_NUM_THREADS=1 WANDB_MODE=offline
srun {python} -m rnnlab train run_dir={folder}/run preemption=lightning resume=auto {words}
"""


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_script_of_ones_own_goes_on(slurm, tmp_path, monkeypatch, tasks):
    root, hold = Path(__file__).parents[2], tmp_path / "hold"
    hold.mkdir()
    (hold / "0.001").touch()
    words = [*JOB, "logger=wandb", "optim.lr=0.001", f"trainer.devices={tasks}", *["trainer.strategy=ddp"][: tasks - 1]]
    text = shlex.join([*words, f"+callbacks.hold.folder={hold}"])
    script = tmp_path / "script.sh"
    script.write_text(SCRIPT.format(folder=tmp_path, root=root, python=sys.executable, words=text, tasks=tasks))
    job = slurm.ask("sbatch", "--parsable", str(script)).strip()
    assert job
    saved = tmp_path / "run" / "checkpoints" / "last.ckpt"
    wait_for(lambda: saved.exists() and len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) >= 3)
    time.sleep(1)
    slurm.ask("scancel", "--signal=USR1", job)  # as its time limit would
    wait_for(lambda: " Restarts=1 " in slurm.ask("scontrol", "show", "job", job))
    assert "is not queued again" not in (tmp_path / "log").read_text()
    (hold / "0.001").unlink()
    wait_for((tmp_path / "run" / "metrics.json").exists)
    assert not list((tmp_path / "run").glob("hpc_ckpt*"))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())
    parts = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(parts) == 2 and len({part.name.rpartition("-")[2] for part in parts}) == 1
    monkeypatch.chdir(Path(__file__).parent)
    assert main(["train", f"run_dir={tmp_path / 'undisturbed'}", *words, f"+callbacks.hold.folder={tmp_path}"]) == 0
    for kind in ("last", "best"):
        assert same_weights(tmp_path / "undisturbed", tmp_path / "run", kind)
