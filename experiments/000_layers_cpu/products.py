"""Time float32 products, torch (MKL) against oneDNN: `python experiments/000_layers_cpu/products.py`.

Those of a recurrent step, and the gradient of a weight, dy (R, N).t() @ x (R, K), the same sums written in three ways.
"""

import statistics
import time
from collections.abc import Callable

import torch

SIZES = ((32, 20, 60), (128, 128, 128), (128, 128, 384), (64, 256, 768), (32, 512, 1536))  # B, K, N
GRADIENTS = ((80, 1600, 1), (80, 1600, 20), (512, 4096, 64), (512, 4096, 128), (1024, 8192, 256))  # N, R, K


def microseconds(call: Callable[[], object], rounds: int = 15, repeats: int = 100) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        times.append((time.perf_counter() - start) / repeats)
    return 1e6 * statistics.median(times)


if __name__ == "__main__":
    onednn = torch.ops.mkldnn._linear_pointwise.default
    print(f"{torch.get_num_threads()} threads\n| B x K x N | torch | oneDNN |\n| --- | --- | --- |")
    for batch, inner, columns in SIZES:
        x, weight = torch.randn(batch, inner), torch.randn(columns, inner)
        addend, weight_t = torch.randn(batch, columns), weight.t()
        ours = microseconds(lambda x=x, w=weight: onednn(x, w, None, "none", [], ""))
        theirs = microseconds(lambda x=x, w=weight_t, a=addend: torch.addmm(a, x, w))
        print(f"| {batch} x {inner} x {columns} | {theirs:.0f} | {ours:.0f} |")
    print("\n| N x R x K | dy.t() @ x | (x.t() @ dy).t() | oneDNN, transposed |\n| --- | --- | --- | --- |")
    for columns, rows, inner in GRADIENTS:
        dy, x = torch.randn(rows, columns), torch.randn(rows, inner)
        times = [
            microseconds(call, repeats=5)
            for call in (
                lambda dy=dy, x=x: dy.t() @ x,
                lambda dy=dy, x=x: (x.t() @ dy).t().contiguous(),
                lambda dy=dy, x=x: onednn(x.t(), dy.t(), None, "none", [], "").t().contiguous(),
            )
        ]
        print(f"| {columns} x {rows} x {inner} | {' | '.join(f'{value:.0f}' for value in times)} |")
