"""Time layers under torch.compile(fullgraph=True) against eager mode: `python experiments/000_layers_cpu/compiled.py`.

One training step, forward and backward, of a layer and a linear head, (B, T, I, H) = (32, 128, 64, 128), float32, all
cores; the arms take turns. Needs a C++ compiler, as inductor does.
"""

import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

import rnnlab.nn
from rnnlab.cli.memory import keep_freed_memory

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "torch.nn.LSTM": lambda: nn.LSTM(64, 128),
    "LSTM": lambda: rnnlab.nn.LSTM(64, 128),
    "GRU": lambda: rnnlab.nn.GRU(64, 128),
    "layer-norm LSTM": lambda: rnnlab.nn.Recurrent(rnnlab.nn.LayerNormLSTMCell(64, 128)),
    "minGRU": lambda: rnnlab.nn.Recurrent(rnnlab.nn.MinGRUCell(64, 128)),
}
ROUNDS = 15


class Model(nn.Module):
    """A layer and a head."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0]).square().mean()


def main() -> None:
    keep_freed_memory()  # as in training
    warnings.simplefilter("ignore")
    x = torch.randn(128, 32, 64)
    print("| layer | eager ms | compiled ms | compiled / eager | compiling s |\n| --- | --- | --- | --- | --- |")
    for name, make in LAYERS.items():
        torch._dynamo.reset()
        model = Model(make())
        whole = not name.startswith("torch")  # torch's own layer is a break in the graph
        compiled = torch.compile(model, fullgraph=whole)
        start = time.perf_counter()
        compiled(x).backward()
        compiling = time.perf_counter() - start
        seen: dict[str, list[float]] = {"eager": [], "compiled": []}
        for _ in range(ROUNDS):
            for arm, run in (("eager", model), ("compiled", compiled)):
                start = time.perf_counter()
                run(x).backward()
                seen[arm].append(1e3 * (time.perf_counter() - start))
        eager, fast = (statistics.median(seen[arm][2:]) for arm in ("eager", "compiled"))
        print(f"| {name} | {eager:.1f} | {fast:.1f} | {fast / eager:.2f} | {compiling:.1f} |", flush=True)


if __name__ == "__main__":
    main()
