"""The one table of tolerances. A test may tighten, never loosen; a change here is a commit with its measurement.

Where no entry is named, `torch.testing.assert_close` uses its own defaults for the dtype.
"""

from typing import Any

import torch

Tolerance = dict[str, Any]

# Level 0 and layers in double precision: two correct routes differ by rounding alone.
FLOAT64: Tolerance = {"rtol": 1e-9, "atol": 1e-9}

# Ratio rule for kernels: error against float64 at most RATIO times that of torch in the same dtype, plus one rounding.
RATIO = 2.0
EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float16, torch.bfloat16)}
