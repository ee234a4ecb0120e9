"""All programs of a grid alive at once in Triton's interpreter: `python -m tests.kernels.at_once` is the long form.

| file | what |
| --- | --- |
| memory.py | what a GPU's memory promises, and races |
| orders.py | whose turn it is |
| grid.py | programs as threads that take turns under the interpreter |
| cases.py | calls whose programs wait for each other |
| faults.py | what may be wrong with a barrier |
"""

import pytest

pytest.importorskip("triton")
