"""The launcher of SLURM's queue: Ctrl-C leaves jobs there, the next launcher waits for them; what SLURM refuses."""

import signal

import pytest

from rnnlab.sweeps.ledger import Story as Ledger
from tests.cluster.story import JOB, SLURM, name

pytestmark = pytest.mark.cluster

RATES = (0.001, 0.002)


def started(story, *words):
    rates = f"optim.lr={','.join(map(str, RATES))}"
    return story.begin(
        "train", "-m", *JOB, rates, *SLURM, f"+callbacks.hold.folder={story.hold}", story.dir_word(), *words
    )


def test_jobs_outlive_their_launcher(story):
    first = started(story)
    story.held(RATES[0])
    first.send_signal(signal.SIGINT)
    code, out = story.ended(first)
    numbers = {Ledger(story.sweep_dir).jobs[name(rate)]["slurm"] for rate in RATES}
    (array,) = {number.partition("_")[0] for number in numbers}
    assert code == 130 and f"2 jobs stay in SLURM's queue, `scancel {array}` takes them out" in out
    assert f"go on with: rnnlab sweep resume {story.sweep_dir}" in out
    second = story.begin("sweep", "resume", str(story.sweep_dir))
    for rate in RATES:
        (story.hold / str(rate)).unlink()
    code, out = story.ended(second)
    assert code == 0 and "2 jobs: 2 finished" in out
    assert Ledger(story.sweep_dir).attempts == {name(rate): 1 for rate in RATES}


def test_a_partition_that_is_not_there(story):
    code, out = story.ended(started(story, "hydra.launcher.partition=lows"))
    assert code == 2 and out.count("rnnlab: SLURM takes no jobs: ") == 1 and "invalid partition" in out
