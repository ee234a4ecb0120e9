"""What tests look up in run directories, and waiting for what other processes do there."""

import time

import torch

from rnnlab.sweeps.ledger import Story

PATIENCE_S = 180  # for what takes seconds on a machine that has nothing else to do


def weights(run_dir, name="last"):
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def same_weights(one, other, name="last"):
    """Tell whether two runs have the same weights, bit for bit."""
    first, second = weights(one, name), weights(other, name)
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def wait_for(condition, seconds=PATIENCE_S):
    """Return what a condition gives, as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.02)
    return found


def running(sweep_dir, epochs):
    """Return the process of a job that has trained so many epochs and is not finished, None if there is none."""
    for line in Story(sweep_dir).jobs.values():
        if line["state"] == "epoch" and line["epoch"] >= epochs:
            return line["pid"]
    return None
