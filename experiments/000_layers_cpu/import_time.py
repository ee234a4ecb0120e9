"""Seconds of CPU that `import torch` takes, `import rnnlab.nn` after it, and the first forward and backward pass of an
LSTM in one compiled call after both, whose code an earlier process has left on disk: medians over new processes.

python experiments/000_layers_cpu/import_time.py
"""

import statistics
import subprocess
import sys

ROUNDS = 5
CODE = """
from time import process_time
start = process_time()
import torch
middle = process_time()
import rnnlab.nn
end = process_time()
layer = rnnlab.nn.LSTM(4, 20, backend="fused")
layer(torch.randn(5, 3, 4))[0].sum().backward()
print(middle - start, end - middle, process_time() - end)
"""

rows = [
    [float(value) for value in subprocess.check_output([sys.executable, "-c", CODE], text=True).split()]
    for _ in range(ROUNDS + 1)
][1:]  # the first one may have to compile
torch_s, nn_s, call_s = (statistics.median(column) for column in zip(*rows, strict=True))
print(f"torch {torch_s:.2f} s, rnnlab.nn {nn_s:.2f} s more, first call {call_s:.2f} s more")
