"""What a sum over two processes of one machine takes by gloo, as a step of training asks for it.

Usage: python experiments/014_cluster/gloo.py OUT.csv. Both processes, of one thread each, compute for 10 ms, or not at
all, and then sum a number, or as many as the character model of processes.py has weights. A time is that beyond the
computation, the mean of 200 sums.
"""

import csv
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch import distributed

SUMS = 200


def take_part(rank: int, port: int, results: Connection) -> None:
    """Sum with the other process, and send `results` the milliseconds of a sum."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    distributed.init_process_group("gloo")
    square = torch.randn(128, 128)
    for work_ms in (0, 10):
        for size in (1, 130_000):
            numbers, worked = torch.zeros(size), 0.0
            distributed.barrier()
            start = time.perf_counter()
            for _ in range(SUMS):
                begun = time.perf_counter()
                while time.perf_counter() - begun < work_ms / 1000:
                    square @ square
                worked += time.perf_counter() - begun
                distributed.all_reduce(numbers)
            if rank == 0:
                results.send([work_ms, size, round(1000 * (time.perf_counter() - start - worked) / SUMS, 2)])
    distributed.destroy_process_group()


def main(out: str) -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    port = find_free_network_port()
    both = [multiprocessing.Process(target=take_part, args=(rank, port, sender)) for rank in (0, 1)]
    for process in both:
        process.start()
    rows = [receiver.recv() for _ in range(4)]
    for process in both:
        process.join()
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["work_ms", "numbers", "sum_ms"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1])
