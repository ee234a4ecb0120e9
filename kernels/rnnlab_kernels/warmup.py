"""Compile kernels before they are needed: `python -m rnnlab_kernels.warmup --cell lstm --size 64 512 --dtype bf16`.

Runs a forward and a backward pass of two steps on the GPU, which leaves what was compiled in Triton's cache; T is not
compiled in, so that any number of steps finds it there. Other kernels run in reverse, with masks, resets, dropout or
zoneout, and with TF32: what a run needs beyond a plain layer it compiles itself. Do it once on each node before a
sweep. The cache is where `rnnlab doctor` says; on a cluster, on the node's own disk unless TRITON_CACHE_DIR is set.
"""

import argparse
import sys
import time

import torch

from rnnlab_kernels import launch
from rnnlab_kernels.bench.arms import Unavailable, build
from rnnlab_kernels.bench.work import DTYPES, NAMES, Work, draw
from rnnlab_kernels.cache import use_node_local_cache

SCHEDULES = ("pointwise", "step", "sequence")


def main(arguments: list[str] | None = None) -> int:
    """Warm the cache up; 1 if no schedule takes the shape."""
    parser = argparse.ArgumentParser(prog="python -m rnnlab_kernels.warmup", description=__doc__.splitlines()[0])
    parser.add_argument("--cell", action="append", choices=NAMES, required=True, help="may be given several times")
    parser.add_argument("--size", nargs=2, type=int, action="append", required=True, metavar=("B", "H"))
    parser.add_argument("--dtype", action="append", choices=tuple(DTYPES), help="fp32 unless given")
    chosen = parser.parse_args(arguments)
    device = "cpu" if launch.is_interpreting() else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU here: kernels are compiled for the GPU that is there")
    folder, done = use_node_local_cache(), 0
    for cell in chosen.cell:
        for batch, hidden in chosen.size:
            for dtype in chosen.dtype or ("fp32",):
                work = Work(cell, dtype, batch, 2, hidden, hidden)
                given = draw(work).to(DTYPES[dtype], device)
                for schedule in SCHEDULES:
                    start = time.perf_counter()
                    try:
                        build(schedule, work, given)
                    except Unavailable as reason:
                        print(f"{work.words()} {batch}x{hidden} {schedule}: {reason}")
                        continue
                    done += 1
                    print(f"{work.words()} {batch}x{hidden} {schedule}: {time.perf_counter() - start:.1f} s")
    print(f"{done} compiled or found in {folder}")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
