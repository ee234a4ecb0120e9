"""Lyapunov exponents: the rates, in nats a step, at which small differences of the state grow or shrink for good."""

from __future__ import annotations

import torch
from torch import Tensor

from rnnlab.analysis.dynamics import Dynamics
from rnnlab.analysis.jacobians import log_growth, stretch


def lyapunov_exponents(
    flow: Dynamics,
    inputs: Tensor,
    count: int | None = None,
    h: Tensor | None = None,
    warm_up: int = 0,
    seed: int = 0,
) -> Tensor:
    """Return the largest exponents (count,), in descending order, by QR at each step.

    Benettin et al. (1980); for recurrent networks Vogt et al. (2022) and Engelken, Wolf and Abbott (2023). An
    orthonormal frame goes along by Jacobian-vector products and is made orthonormal again at each step; what that
    stretches is what the network did. Over T steps the error falls as 1/T.

    Args:
        flow: the recurrent module.
        inputs: T steps (T, I); the exponents are those under these inputs.
        count: how many; None for all N.
        h: state before the first step (N,); None for the initial one.
        warm_up: steps at the beginning that turn the frame and are not counted.
        seed: of the first frame.

    Raises:
        ValueError: more exponents than N, or no step is left to count.
    """
    count = flow.size if count is None else count
    if not 1 <= count <= flow.size:
        raise ValueError(f"count must be from 1 to {flow.size}, the numbers of the state, got {count}")
    if not len(inputs):
        raise ValueError("exponents are rates over steps, and inputs has none")
    if not 0 <= warm_up < len(inputs):
        raise ValueError(f"warm_up must be from 0 to {len(inputs) - 1}, one less than the steps, got {warm_up}")
    generator = torch.Generator().manual_seed(seed)
    frame = torch.linalg.qr(torch.randn(flow.size, count, generator=generator, dtype=torch.float64)).Q
    states = flow.run(inputs, h)[:-1]
    frame, _ = stretch(flow.push, states[:warm_up], inputs[:warm_up], frame)
    _, triangles = stretch(flow.push, states[warm_up:], inputs[warm_up:], frame)
    return (log_growth(triangles) / (len(inputs) - warm_up)).sort(descending=True).values
