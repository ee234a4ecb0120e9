"""Seconds of CPU that `import torch` takes, and `import rnnlab.nn` after it: medians over new processes.

python experiments/000_layers_cpu/import_time.py
"""

import statistics
import subprocess
import sys

ROUNDS = 3
CODE = """
from time import process_time
start = process_time()
import torch
middle = process_time()
import rnnlab.nn
print(middle - start, process_time() - middle)
"""

rows = [
    [float(value) for value in subprocess.check_output([sys.executable, "-c", CODE], text=True).split()]
    for _ in range(ROUNDS)
]
torch_s, nn_s = (statistics.median(column) for column in zip(*rows, strict=True))
print(f"torch {torch_s:.2f} s, rnnlab.nn {nn_s:.2f} s more")
