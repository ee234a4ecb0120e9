"""A sweep survives what a cluster does to its jobs: `tests/cluster/story.py` tells what happens."""

import pytest

from rnnlab.sweeps.ledger import Story as Ledger
from tests.cluster import story as of
from tests.cluster.story import name
from tests.runs import same_weights

pytestmark = pytest.mark.cluster

RUNS = ["started", "epoch"]
TOLD = {
    of.OUT_OF_TIME: ["queued", *2 * [*RUNS, "interrupted", "requeued"], *RUNS, "finished"],
    of.KILLED: ["queued", *RUNS, "interrupted", "queued", *RUNS, "finished"],
    of.REQUEUED: ["queued", *RUNS, "interrupted", "requeued", *RUNS, "finished"],
    of.BROKEN: ["queued", "started", "failed"],
    of.PREEMPTED: ["queued", *RUNS, "interrupted", "requeued", *RUNS, "finished"],
}


def test_a_sweep_survives_its_cluster(story):
    (first, out), (second, again) = story.tell()
    for rate in of.RATES:
        assert story.states(rate) == TOLD.get(rate, ["queued", *RUNS, "finished"]), rate
    assert first == 1 and "8 jobs: 6 finished, 1 failed, 1 interrupted" in out
    assert "optim.lr=0.002 interrupted: SLURM job" in out and "Invalid learning rate: -1" in out
    assert second == 1 and "8 jobs: 7 finished, 1 failed" in again
    undisturbed = story.undisturbed()
    for rate in of.RATES:
        if rate != of.BROKEN:
            for kind in ("last", "best"):
                assert same_weights(undisturbed / name(rate), story.sweep_dir / name(rate), kind), (rate, kind)
    assert set(Ledger(story.sweep_dir).jobs) == set(map(name, of.RATES))
