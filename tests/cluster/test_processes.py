"""Jobs of several processes in SLURM's queue: they train one run, and it goes on after all that happens to them."""

from pathlib import Path

import pytest

from rnnlab.cli.main import main
from tests.cluster.story import BROKEN, JOB, name
from tests.runs import same_weights

pytestmark = pytest.mark.cluster

RATE = 0.001
TWO = ["trainer.devices=2", "trainer.strategy=ddp"]
NODE = [
    *("hydra/launcher=submitit_slurm_node", "hydra.launcher.tasks_per_node=2", "hydra.launcher.gpus_per_node=2"),
    *("hydra.launcher.cpus_per_task=1", "hydra.launcher.partition=low", "hydra.launcher.array_parallelism=1"),
]


def disturb(story):
    """Have a job queued again twice, by submitit and by SLURM."""
    number = story.held(RATE)["slurm"]
    story.slurm.ask("scancel", "--signal=USR2", number)  # as submitit has SLURM do before a time limit
    story.until(lambda: story.states(RATE).count("requeued") == 1)
    story.until(lambda: story.states(RATE)[-2:] == ["started", "epoch"])
    story.slurm.ask("scontrol", "requeue", number)
    story.until(lambda: story.states(RATE)[-1] == "interrupted")
    story.let_go(RATE)


def test_the_processes_of_a_job_train_one_run(story, tmp_path, monkeypatch):
    rates, held = f"optim.lr={RATE},{BROKEN}", f"+callbacks.hold.folder={story.hold}"
    launcher = story.begin("train", "-m", *JOB, *TWO, rates, *NODE, held, story.dir_word())
    disturb(story)
    code, out = story.ended(launcher)
    assert code == 1 and "2 jobs: 1 finished, 1 failed" in out
    runs, stopped = ["started", "epoch"], ["interrupted", "requeued"]
    assert story.states(RATE) == ["queued", *2 * [*runs, *stopped], *runs, "finished"]
    assert story.states(BROKEN) == ["queued", "started", "failed"]
    monkeypatch.chdir(Path(__file__).parent)
    undisturbed = tmp_path / "undisturbed"
    words = [*JOB, *TWO, f"optim.lr={RATE}", f"+callbacks.hold.folder={tmp_path}", f"run_dir={undisturbed}"]
    assert main(["train", *words]) == 0
    for kind in ("last", "best"):
        assert same_weights(undisturbed, story.sweep_dir / name(RATE), kind), kind
