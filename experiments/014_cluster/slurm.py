"""The story of a sweep on a SLURM of one node, three times: what the ledger tells of each job, and its weights.

PYTHONPATH=.:kernels python experiments/014_cluster/slurm.py
"""

import csv
import tempfile
import time
from datetime import datetime
from pathlib import Path

import torch

from rnnlab.cli.checkpoints import load_checkpoint
from rnnlab.sweeps.ledger import read
from tests.cluster import story as of
from tests.cluster.slurm import Slurm
from tests.cluster.story import Story, name

ROLES = {
    of.OUT_OF_TIME: "out of time twice",
    of.KILLED: "SIGKILL",
    of.REQUEUED: "scontrol requeue",
    of.BROKEN: "broken",
}
ROLES[of.PREEMPTED] = "preempted"
COLUMNS = ("telling", "job", "what_happened", "states", "starts", "seconds_from_queue_to_end", "weights_equal")


def equal(one: Path, other: Path) -> bool:
    """Tell whether last and best weights of two runs are the same, bit by bit."""
    for kind in ("last", "best"):
        first, second = (load_checkpoint(run / "checkpoints" / f"{kind}.ckpt")["state_dict"] for run in (one, other))
        if first.keys() != second.keys() or not all(torch.equal(value, second[key]) for key, value in first.items()):
            return False
    return True


def seconds(story: Story, rate: float) -> float:
    """Return the time from a job's first line in the ledger to its last."""
    times = [datetime.fromisoformat(line["time"]) for line in read(story.sweep_dir)[0] if line["job"] == name(rate)]
    return round((times[-1] - times[0]).total_seconds(), 1)


def main() -> None:
    path = Path(__file__).with_name("slurm.csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for telling in (1, 2, 3):
            with (
                tempfile.TemporaryDirectory() as folder,
                Slurm(Path(folder) / "slurm") as slurm,
                Story(slurm, Path(folder) / "story") as story,
            ):
                start = time.monotonic()
                codes = [code for code, _ in story.tell()]
                whole = time.monotonic() - start
                undisturbed = story.undisturbed()
                for rate in of.RATES:
                    is_equal = (
                        "" if rate == of.BROKEN else equal(undisturbed / name(rate), story.sweep_dir / name(rate))
                    )
                    states = story.states(rate)
                    starts = states.count("started")
                    told = ROLES.get(rate, "nothing")
                    row = (telling, name(rate), told, " ".join(states), starts, seconds(story, rate), is_equal)
                    writer.writerow(row)
                    file.flush()
                print(
                    f"telling {telling}: {whole:.0f} s, exit codes of launcher and of `sweep resume` {codes}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
