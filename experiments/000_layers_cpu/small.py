"""Time small work against torch.nn, one thread: `python experiments/000_layers_cpu/small.py [OUT.csv]`, a minute.

A call of a layer on one step of one row, and on few steps; a step of a stream (B = 1) by a layer, by a cell and by
cells in `Recurrent`, against torch's cell of the family. Arms take turns within a round; a row is the median of each
arm's microseconds, and their ratio.
"""

import csv
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import rnnlab.nn

ROUNDS, TURN_S = 25, 0.002
SIZES = (8, 20, 128, 512)  # I = H
FAMILIES = {
    "RNN": ["ElmanCell", "LayerNormRNNCell", "IndRNNCell", "JordanCell"],
    "LSTM": ["GatedLSTMCell", "CIFGCell", "PeepholeLSTMCell", "LayerNormLSTMCell", "MinLSTMCell"],
    "GRU": ["GatedGRUCell", "LayerNormGRUCell", "MinGRUCell"],
}
FEW = (1, 2, 4, 8, 16)  # T
FEW_SIZES = ((1, 8), (8, 20), (32, 128))  # B, H
HEADER = ("work", "arm", "H", "autograd", "torch us", "us", "ratio")
Row = tuple[str, str, int, str, float, float, float]


def under_no_grad(call: Callable[[], object]) -> object:
    with torch.no_grad():
        return call()


def both_passes(call: Callable[[], Any]) -> None:
    call()[0].sum().backward()


MODES = {"no_grad": under_no_grad, "with a graph": lambda call: call()}


def microseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median microseconds of each call over the rounds."""
    repeats, seen = {}, {name: [] for name in calls}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        for _ in range(20):
            call()
        repeats[name] = max(5, int(20 * TURN_S / (time.perf_counter() - start)))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seen[name].append(1e6 * (time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(values) for name, values in seen.items()}


def rows_of(
    work: str,
    size: int,
    theirs: Callable[[], object],
    arms: dict[str, Callable[[], object]],
    modes: dict[str, Callable[..., object]] = MODES,
) -> Iterator[Row]:
    for mode, around in modes.items():
        calls = {"torch": theirs, **arms}
        found = microseconds({name: partial(around, call) for name, call in calls.items()})
        for name in arms:
            yield work, name, size, mode, found["torch"], found[name], found[name] / found["torch"]


def layer_calls() -> Iterator[Row]:
    x = torch.randn(1, 1, 8)
    for family in FAMILIES:
        theirs, ours = (getattr(package, family)(8, 8) for package in (torch.nn, rnnlab.nn))
        for word, training in (("training", True), ("evaluation", False)):
            theirs.train(training), ours.train(training)
            yield from rows_of(f"call, {word}", 8, partial(theirs, x), {family: partial(ours, x)})


def few_steps(family: str) -> Iterator[Row]:
    """Where the compiled schedule overtakes torch's loop: `FEW_STEPS` in rnnlab/nn/backend.py."""
    for batch, size in FEW_SIZES:
        theirs = getattr(torch.nn, family)(size, size)
        ours = {name: getattr(rnnlab.nn, family)(size, size, backend=name) for name in ("auto", "fused")}
        for num_steps in FEW:
            x = torch.randn(num_steps, batch, size)
            arms = {f"{family}, {name}": partial(layer, x) for name, layer in ours.items()}
            modes = {"no_grad": under_no_grad, "forward + backward": both_passes}
            yield from rows_of(f"call, T={num_steps}, B={batch}", size, partial(theirs, x), arms, modes)


def steps(family: str, size: int) -> Iterator[Row]:
    """Steps that go on from a state, as a stream has them."""
    x, cells = torch.randn(1, size), rnnlab.nn
    theirs, ours = (getattr(package, f"{family}Cell")(size, size) for package in (torch.nn, cells))
    parts = torch.zeros(2, 1, size).unbind() if family == "LSTM" else torch.zeros(1, size)
    layers: dict[str, Any] = {f"{family}.step": getattr(cells, family)(size, size)}
    layers |= {f"Recurrent({family}Cell).step": cells.Recurrent(ours)}
    for name in FAMILIES[family]:
        layers[f"Recurrent({name}).step"] = cells.Recurrent(getattr(cells, name)(size, size))
    arms = {f"{family}Cell": partial(ours, x, parts)}
    arms |= {name: partial(layer.step, x, layer.initial_state(1)) for name, layer in layers.items()}
    yield from rows_of("step", size, partial(theirs, x, parts), arms)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    print("|", " | ".join(HEADER), "|\n" + "| --- " * len(HEADER) + "|")
    streams = (steps(family, size) for family in FAMILIES for size in SIZES)
    for found in (layer_calls(), *streams, *map(few_steps, FAMILIES)):
        for *words, theirs, ours, ratio in found:
            rows.append((*words, f"{theirs:.1f}", f"{ours:.1f}", f"{ratio:.2f}"))
            print("|", " | ".join(map(str, rows[-1])), "|", flush=True)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows])


if __name__ == "__main__":
    main()
