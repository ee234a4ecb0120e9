"""Trains runs in the processes that two of it make, or in one; `tests/invariants/test_ddp.py` starts them.

Usage: python -m tests.invariants.two_processes RUNS.json OUT, with the variables of torch.distributed for two.
RUNS.json holds configurations by name; OUT/NAME/found.pt gets the weights of each, and what was measured.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import torch

from rnnlab.cli.build import build
from rnnlab.cli.measure import measured


def train(config, out):
    """Train a run and keep its weights and all that was logged."""
    run = build(config, out)
    run.trainer.fit(run.task, datamodule=run.data)
    logged = {key: float(value) for key, value in run.trainer.callback_metrics.items()}
    found = {
        "weights": run.task.state_dict(),
        "logged": logged,
        "measured": measured(run),
        "steps": run.trainer.global_step,
    }
    if run.trainer.is_global_zero:
        torch.save(found, out / "found.pt")


def main(runs, out):
    for name, config in json.loads(Path(runs).read_text()).items():
        target = Path(out) / name
        target.mkdir(exist_ok=True)
        try:
            train(config, target)
        except Exception:  # the others go on, where both fail alike
            (target / f"error_{os.environ.get('RANK', 0)}.txt").write_text(traceback.format_exc())


if __name__ == "__main__":
    main(*sys.argv[1:])
