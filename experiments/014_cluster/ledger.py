"""A ledger that 1,000 processes write at once while a hundred more are killed.

`python experiments/014_cluster/ledger.py > experiments/014_cluster/ledger.csv`: each of the thousand writes 20 lines,
the others are killed with SIGKILL while they write. Prints what was written and what came back; the exit code is 1 if a
line of the thousand is lost or doubled, or a torn one is counted.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from rnnlab.sweeps import ledger

WRITERS, LINES, KILLED = 1000, 20, 100


def write(sweep_dir: Path, writer: int) -> None:
    for number in range(LINES):
        ledger.append(sweep_dir, f"job{writer}", "epoch", epoch=number, text="x" * (writer % 300))


def write_until_killed(sweep_dir: Path, writer: int) -> None:
    while True:
        ledger.append(sweep_dir, f"killed{writer}", "epoch", text="y" * 5000)


def main() -> int:
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        sweep_dir, chance, start = Path(folder), random.Random(0), time.perf_counter()
        doomed = [context.Process(target=write_until_killed, args=(sweep_dir, k)) for k in range(KILLED)]
        writers = [context.Process(target=write, args=(sweep_dir, k)) for k in range(WRITERS)]
        for number, process in enumerate([*doomed, *writers]):
            process.start()
            if number >= KILLED and (number - KILLED) % (WRITERS // KILLED) == 0:
                time.sleep(chance.uniform(0, 0.02))
                os.kill(doomed[(number - KILLED) // (WRITERS // KILLED)].pid, signal.SIGKILL)
        for process in [*doomed, *writers]:
            process.join()
        seconds = time.perf_counter() - start
        lines, _ = ledger.read(sweep_dir)
        torn = len((sweep_dir / ledger.LEDGER).read_bytes().splitlines()) - len(lines)
        found = [(line["job"], line["epoch"]) for line in lines if line["job"].startswith("job")]
        whole = all(len(line["text"]) == 5000 for line in lines if line["job"].startswith("killed"))
    lost = {(f"job{writer}", number) for writer in range(WRITERS) for number in range(LINES)} - set(found)
    print("writers,lines_written,lines_found,lost,twice,killed_writers,torn_lines_passed_over,seconds")
    twice = len(found) - len(set(found))
    print(f"{WRITERS},{WRITERS * LINES},{len(found)},{len(lost)},{twice},{KILLED},{torn},{seconds:.1f}")
    return int(bool(lost) or bool(twice) or not whole)


if __name__ == "__main__":
    sys.exit(main())
