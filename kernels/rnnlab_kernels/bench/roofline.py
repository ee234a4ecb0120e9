"""The time that a step of a recurrence takes at least when its weights stay on the chip.

Each of P programs holds the recurrent rows of H/P units in shared memory. At a step all of them wait for each other
once, and meanwhile, perfectly overlapped, three things happen:

    product     2 G B H^2 FLOP at the peak of the dtype
    broadcast   each program reads all of h (B, H), backward the gate gradients (B, G*H): P times that through L2
    weights     each multiprocessor reads its rows, G H^2 / P values, from shared memory, 128 bytes a clock

    step = barrier + max(product, broadcast, weights), the least of all P for which the rows fit

What comes on top in any kernel is left out: the latency of loads that wait for the barrier, gate maths, stores. The
input product and the gradients after the recurrence are no part of a step. B batch, H units, G gates.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

ITEM_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "tf32": 4}
SHARED_BYTES_PER_CLOCK = 128
PROGRAMS = (1, 2, 4, 8, 16, 32, 64, 128)


class Chip(NamedTuple):
    """What the time of a step depends on.

    Attributes:
        tflops: peak of products by dtype, "tf32" among them.
        l2_tb_s: terabytes a second that all multiprocessors together read of one buffer in L2.
        barrier_us: microseconds of a barrier by number of programs, or one number for all.
        clock_ghz: of the multiprocessors.
        multiprocessors: on the chip.
        shared_bytes: shared memory of one.
    """

    tflops: Mapping[str, float]
    l2_tb_s: float
    barrier_us: Mapping[int, float] | float
    clock_ghz: float
    multiprocessors: int
    shared_bytes: int

    def barrier(self, programs: int) -> float:
        """Return the microseconds of a barrier of so many programs: of the next larger number that was measured."""
        if programs == 1:
            return 0.0
        if not isinstance(self.barrier_us, Mapping):
            return self.barrier_us
        larger = [count for count in self.barrier_us if count >= programs]
        return self.barrier_us[min(larger) if larger else max(self.barrier_us)]


# Assumptions of the design, none of them measured by us, by what is in the name of the device. H200: 16-bit products as
# large ones reach them; fp32 and TF32 from NVIDIA's data sheet (TF32: 989 with sparsity, half of that without); L2,
# barrier and clock guessed.
ASSUMED = {
    "H200": Chip({"fp16": 790, "bf16": 790, "fp32": 67, "tf32": 494}, 5.5, 1.2, 1.75, 132, 232_448),
}


def chip_of(device: str, micro: Mapping[str, Any] | None) -> tuple[Chip | None, str]:
    """Return the chip of a device, None if nothing is known of it, and where its numbers are from, in words.

    Args:
        device: its name, as in the results.
        micro: what bench/micro.py measured on it, or None. Numbers that are not in it are the assumed ones.
    """
    assumed = next((chip for name, chip in ASSUMED.items() if name in device), None)
    measured = _measured(micro or {})
    if assumed is not None:
        if not measured:
            return assumed, "assumed inputs"
        rest = sorted(Chip._fields[k].split("_")[0] for k in range(6) if Chip._fields[k] not in measured)
        return assumed._replace(**measured), "measured inputs" + (f", assumed: {', '.join(rest)}" if rest else "")
    if measured.keys() == set(Chip._fields):
        return Chip(**measured), "measured inputs"
    return None, f"no roofline: nothing is known of {device}"


def _measured(micro: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if tflops := micro.get("product TFLOP/s"):
        found["tflops"] = tflops
    if broadcast := micro.get("broadcast TB/s"):
        found["l2_tb_s"] = max(broadcast.values())
    if barrier := micro.get("barrier us"):
        found["barrier_us"] = {int(count): value for count, value in barrier.items()}
    clock = micro.get("about", {}).get("highest clock MHz", "")
    if clock.isdecimal():
        found["clock_ghz"] = int(clock) / 1000
    if "multiprocessors" in micro:
        found |= {"multiprocessors": micro["multiprocessors"], "shared_bytes": micro["shared memory"]}
    return found


def step_us(chip: Chip, num_gates: int, batch: int, hidden: int, dtype: str, backward: bool) -> float | None:
    """Return the microseconds of a step in one direction, None where the weights fit on the chip in no way.

    Args:
        chip: see above.
        num_gates, batch, hidden: G, B, H.
        dtype: key of ITEM_BYTES.
        backward: of the step that makes the gradients of gates and states.
    """
    itemsize, flops = ITEM_BYTES[dtype], 2 * num_gates * batch * hidden**2
    if dtype not in chip.tflops:
        return None
    product = flops / chip.tflops[dtype] / 1e6
    found = []
    for programs in PROGRAMS:
        rows = num_gates * hidden**2 * itemsize / programs
        if programs > min(chip.multiprocessors, hidden) or rows > chip.shared_bytes:
            continue
        read = programs * batch * hidden * (num_gates if backward else 1) * itemsize
        # Terabytes a second are megabytes a microsecond.
        broadcast = read / chip.l2_tb_s / 1e6 if programs > 1 else 0.0
        weights = rows / (SHARED_BYTES_PER_CLOCK * chip.clock_ghz * 1e3)
        found.append(chip.barrier(programs) + max(product, broadcast, weights))
    return min(found, default=None)
