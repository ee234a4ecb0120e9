"""Time every research cell on a CPU: `python experiments/003_cells/speed.py [rounds [cell ...]] > speed.csv`.

Four arms take turns, round after round, so that a slow moment of the machine meets all of them: the cell on `auto`;
torch.nn's plain layer of the same size; the plain cell of the same family on the same backend; and the plain Python
loop, which calls the cell once a step. Numbers are medians over rounds, ratios medians of the ratios within a round.
Nothing is timed before `auto` and the loop have been found to agree, for output and gradients.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from rnnlab import nn
from rnnlab.cli.memory import keep_freed_memory

SHAPES = ((32, 50, 1, 20), (128, 32, 12, 128), (32, 128, 64, 128), (64, 64, 64, 256))  # (B, T, I, H)
LONG = ((8, 1024, 64, 64), (32, 1024, 64, 64))
# Name: the family's torch layer, its plain cell, and how the cell with its options is built.
CELLS: dict[str, tuple[str, Any, Callable[[int, int], Any]]] = {}


def add(name: str, family: str, cell: Any, **options: Any) -> None:
    plain = {"RNN": nn.ElmanCell, "LSTM": nn.GatedLSTMCell, "GRU": nn.GatedGRUCell}[family]
    CELLS[name] = (family, plain, lambda i, h: nn.Recurrent(cell(i, h), **options))


def peephole_dense(i: int, h: int) -> Any:
    return nn.PeepholeLSTMCell(i, h, dense=True)


def projection(i: int, h: int) -> Any:
    return nn.GatedLSTMCell(i, h, proj_size=h // 2)


add("Elman", "RNN", nn.ElmanCell)
add("Jordan", "RNN", nn.JordanCell)
add("layer-norm RNN", "RNN", nn.LayerNormRNNCell)
add("NARX", "RNN", nn.NARXCell)
add("state space", "RNN", nn.StateSpaceCell)
add("LSTM", "LSTM", nn.GatedLSTMCell)
add("LSTM, peepholes", "LSTM", nn.PeepholeLSTMCell)
add("LSTM, dense peepholes", "LSTM", peephole_dense)
add("LSTM, coupled gates", "LSTM", nn.CIFGCell)
add("LSTM, projection", "LSTM", projection)
add("layer-norm LSTM", "LSTM", nn.LayerNormLSTMCell)
add("LSTM, recurrent dropout", "LSTM", nn.GatedLSTMCell, recurrent_dropout=0.25)
add("LSTM, candidate dropout", "LSTM", nn.GatedLSTMCell, candidate_dropout=0.25)
add("LSTM, zoneout", "LSTM", nn.GatedLSTMCell, zoneout=0.1)
add("LSTM, weight dropout", "LSTM", nn.GatedLSTMCell, weight_dropout=0.25)
add("GRU, reset after", "GRU", nn.GatedGRUCell)
add("GRU, reset before", "GRU", lambda i, h: nn.GatedGRUCell(i, h, reset_after=False))
add("layer-norm GRU", "GRU", nn.LayerNormGRUCell)
add("GRU, zoneout", "GRU", nn.GatedGRUCell, zoneout=0.1)
SCANS = {"IndRNN": nn.IndRNNCell, "minGRU": nn.MinGRUCell, "minLSTM": nn.MinLSTMCell, "LRU": nn.LRUCell}
for scan_name, scan_cell in SCANS.items():
    add(scan_name, "RNN" if scan_name in ("IndRNN", "LRU") else scan_name[3:], scan_cell)


def loop(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the loop that a user would write around the layer's cell; regularisers inside the step are left out."""
    cell = layer.cells[0]

    def run(x: torch.Tensor) -> torch.Tensor:
        state = cell.initial_state(x.shape[1], x.device, x.dtype)
        outputs = []
        for x_t in x.unbind(0):
            y, state = cell(x_t, state)
            outputs.append(y)
        return torch.stack(outputs)

    return run


def agree(layer: Any, x: torch.Tensor) -> None:
    """Refuse to time what is wrong."""
    layer.eval()
    results = []
    for run in (lambda x: layer(x)[0], loop(layer)):
        output = run(x)
        torch.manual_seed(1)
        output.backward(torch.randn_like(output))
        results.append([output.detach(), *(p.grad for p in layer.parameters() if p.grad is not None)])
        layer.zero_grad()
    layer.train()
    # Behind a norm some gradients are differences of nearly equal numbers, hence a floor under the scale.
    floor = 0.01 * max(float(theirs.abs().max()) for theirs in results[1])
    for ours, theirs in zip(*results, strict=True):
        error = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(floor))
        if not error < 1e-3:
            raise RuntimeError(f"auto differs from the loop by {error:.1e}: no timing of a wrong result")


def measure(name: str, size: tuple[int, int, int, int], rounds: int) -> None:
    batch, num_steps, num_inputs, hidden = size
    family, plain_cell, build = CELLS[name]
    torch.manual_seed(0)
    x = torch.randn(num_steps, batch, num_inputs)
    layer = build(num_inputs, hidden)
    if not layer.zoneout:  # which the loop leaves out
        agree(layer, x[:16])  # over many steps a layer-norm LSTM at its start is chaotic: rounding grows in either arm
    backend = nn.explain_backend(layer, x).split(" ")[1]
    their = getattr(torch.nn, family)(num_inputs, hidden)
    plain = nn.Recurrent(plain_cell(num_inputs, hidden), backend=backend)
    arms = {"auto": lambda x: layer(x)[0], "torch": lambda x: their(x)[0], "plain": lambda x: plain(x)[0]}
    arms["loop"] = loop(layer)
    for trained in (False, True):
        times: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(rounds + 1):
            for arm, run in arms.items():
                start = time.perf_counter()
                if trained:
                    output = run(x)
                    output.backward(torch.ones_like(output))
                    del output  # and its graph, in the time of the arm that made it
                else:
                    with torch.no_grad():
                        run(x)
                times[arm].append(1e3 * (time.perf_counter() - start))
        times = {arm: values[1:] for arm, values in times.items()}  # the first round warms up
        auto, *others = (statistics.median(times[arm]) for arm in ("auto", "torch", "plain", "loop"))
        ratio = {arm: statistics.median(a / b for a, b in zip(times["auto"], times[arm], strict=True)) for arm in arms}
        words = ["forward + backward" if trained else "forward", backend, f"{auto:.2f}", *(f"{t:.2f}" for t in others)]
        words += [f"{ratio['torch']:.2f}", f"{ratio['plain']:.2f}", f"{1 / ratio['loop']:.1f}"]
        print(name, *size, *words, sep=";", flush=True)


if __name__ == "__main__":
    keep_freed_memory()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print("cell;B;T;I;H;pass;backend;auto ms;torch ms;plain ms;loop ms;auto/torch;auto/plain;loop/auto")
    for cell_name in sys.argv[2:] or CELLS:
        for shape in LONG if cell_name in SCANS else SHAPES:
            measure(cell_name, shape, count)
