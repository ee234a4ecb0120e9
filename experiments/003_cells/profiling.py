"""Where the time of a research cell goes: `python experiments/003_cells/profiling.py > profile.txt`.

Forward and backward of one layer, (B, T, I, H) = (32, 128, 64, 128), one thread, torch's profiler. `_Node` and
`_NodeBackward` by themselves are the two compiled calls, with the products of all steps in them; `mm` and
`_linear_pointwise` are the products after them, gradients of weights and of the input.
"""

import torch

from rnnlab import nn
from rnnlab.cli.memory import keep_freed_memory


def main() -> None:
    keep_freed_memory()  # as in training
    torch.set_num_threads(1)
    x = torch.randn(128, 32, 64)
    for cell in (nn.ElmanCell, nn.GatedLSTMCell, nn.LayerNormLSTMCell):
        layer = nn.Recurrent(cell(64, 128))

        def run(layer: nn.Recurrent = layer) -> None:
            output, _ = layer(x)
            output.backward(torch.ones_like(output))

        for _ in range(3):
            run()
        with torch.profiler.profile() as profile:
            for _ in range(5):
                run()
        rows = sorted(profile.key_averages(), key=lambda row: -row.self_cpu_time_total)
        total = sum(row.self_cpu_time_total for row in rows)
        print(f"{cell.__name__}: {total / 5e3:.1f} ms a pass")
        for row in rows[:8]:
            print(f"  {100 * row.self_cpu_time_total / total:5.1f}%  {row.count // 5:6} calls a pass  {row.key}")


if __name__ == "__main__":
    main()
