"""Run every case in every order on every memory, plant every fault, lose programs at every wait: `make races`.

    python -m tests.kernels.at_once [FILE]

prints a line each, writes them to FILE, and fails if a number is not the oracle's, a race is found where none was
planted, a fault is not found, or what was given up looks like a result. Needs TRITON_INTERPRET=1. Seeds are fixed.
"""

import itertools
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import check_overflow
from tests.kernels.at_once.cases import CASES, FORMS, alike
from tests.kernels.at_once.faults import FAULTS, found_by
from tests.kernels.at_once.grid import at_once
from tests.kernels.at_once.losing import silent_losses
from tests.kernels.at_once.memory import HABITS
from tests.kernels.at_once.orders import ORDERS
from tests.kernels.conftest import poison_empty

EXTREMES = ("slow", "quick")
LOST = ("lstm", "peephole_lstm", "gru, clipped, parts", "gru_reset_before", "layer_norm_gru", "layer_norm_lstm_state")


def schedules() -> Iterator[str]:
    """Run each case in each order on each memory, the others on two of them, and yield a line for it."""
    sums = [0] * 5
    yield f"{'case':<63} {'schedules':>9} {'launches':>8} {'turns':>7} {'wrong':>5} {'races':>5}"
    for name, case in CASES.items():
        expected, counts = case.run(), [0] * 5
        memories = HABITS if name in FORMS else EXTREMES
        for seed, (order, habits) in enumerate(itertools.product(ORDERS, memories)):
            with at_once(order, habits, seed) as report:
                wrong = not alike(case.run(), expected)
            for k, number in enumerate((1, report.launches, report.turns, wrong, len(report.races))):
                counts[k] += number
        sums = [first + second for first, second in zip(sums, counts, strict=True)]
        yield _line(name, counts)
    yield _line("all", sums)


def _line(name: str, counts: list[int]) -> str:
    verdict = "  FAULT" if counts[3] or counts[4] else ""
    return f"{name:<63} {counts[0]:>9} {counts[1]:>8} {counts[2]:>7} {counts[3]:>5} {counts[4]:>5}{verdict}"


def faults() -> Iterator[str]:
    """Plant each fault in each order on two memories, and yield in how many schedules it was found by what."""
    every = list(itertools.product(ORDERS, EXTREMES))
    yield f"{'planted':<63} {'schedules':>9} {'numbers':>8} {'races':>7} {'stuck':>5}"
    for name, fault in FAULTS.items():
        expected = fault.case.run()
        found = [found_by(fault, expected, order, habits, seed) for seed, (order, habits) in enumerate(every)]
        counts = [sum(word in each for each in found) for word in ("numbers", "races", "stuck")]
        verdict = "" if any(counts) else "  FAULT"
        yield f"{name:<63} {len(every):>9} {counts[0]:>8} {counts[1]:>7} {counts[2]:>5}{verdict}"


def losses() -> Iterator[str]:
    """Lose each program of some cases at each wait, and yield how often what came out looked like a result."""
    yield f"{'lost':<63} {'waits':>9} {'silent':>8}"
    for name in LOST:
        for way in (False, True):
            found = [each for program in (0, 1) for each in silent_losses(CASES[name], way, program)]
            silent = sum(map(bool, found))
            title = f"{name}, {'backward' if way else 'forward'}"
            yield f"{title:<63} {len(found):>9} {silent:>8}{'  FAULT' if silent else ''}"


def main(arguments: list[str]) -> int:
    check_overflow(False)
    warnings.simplefilter("ignore")  # of numpy, where the hardware quietly gives inf and NaN
    lines, start = ["$ make races", ""], time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        for part in (schedules, faults, losses):
            if part is losses:
                patch.undo()
            elif part is schedules:
                poison_empty(patch)
            for line in part():
                print(line, flush=True)
                lines.append(line)
            lines.append("")
    seconds = time.monotonic() - start
    print(f"{seconds:.0f} s")
    for path in arguments:
        Path(path).write_text("\n".join(lines).rstrip() + "\n")
    return any(line.endswith("FAULT") for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
