"""What `checkpoint_steps` saves: `python experiments/003_cells/memory.py`.

Peak resident memory of one forward and backward pass, less that of the process before it; and seconds of a second one,
since the first touches new pages. Each arm in a process of its own. LSTM on one compiled call,
T = 4096, B = 32, H = 128, float32.
"""

import multiprocessing
import resource
import sys
import time

import torch

from rnnlab import nn
from rnnlab.cli.memory import keep_freed_memory

NUM_STEPS, BATCH, HIDDEN = 4096, 32, 128


def measure(steps: int | None) -> None:
    keep_freed_memory()  # as in training
    layer = nn.Recurrent(nn.LSTMCell(HIDDEN, HIDDEN), checkpoint_steps=steps)
    layer(torch.zeros(2, BATCH, HIDDEN))[0].sum().backward()  # compile first
    x = torch.randn(NUM_STEPS, BATCH, HIDDEN)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    layer(x)[0].sum().backward()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    start = time.perf_counter()
    layer(x)[0].sum().backward()
    seconds = time.perf_counter() - start
    print(f"| {steps or 'off'} | {peak:.0f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    print("| checkpoint_steps | peak MiB | s |\n| --- | --- | --- |", flush=True)
    for arm in (None, 512, 128, 64, 32):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(arm,))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)
