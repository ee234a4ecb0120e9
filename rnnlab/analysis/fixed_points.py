"""Fixed points of a recurrent network under constant input, and what happens near them (Sussillo & Barak, 2013).

Letters: I input_size, N numbers of the state, S starts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab.analysis.dynamics import Dynamics

_DAMPING = 1e-3  # of the first step, in units of the mean of (J - 1)^T (J - 1)'s diagonal


class FixedPoint(NamedTuple):
    """A state that a step leaves as it is, or nearly so.

    Attributes:
        state: h (N,).
        q: half the squared distance that a step moves it, |F(h) - h|^2 / 2. Well above rounding, it is a slow point.
        eigenvalues: of the Jacobian at h, complex (N,), by falling absolute value.
    """

    state: Tensor
    q: float
    eigenvalues: Tensor

    @property
    def is_stable(self) -> bool:
        """Whether small differences die out: all eigenvalues within the unit circle."""
        return bool(self.eigenvalues.abs().max() < 1)


def fixed_points(
    flow: Dynamics,
    starts: Tensor,
    x: Tensor | None = None,
    tolerance: float = 1e-20,
    max_iterations: int = 200,
    apart: float = 1e-5,
) -> list[FixedPoint]:
    """Search for states with F(h, x) = h from S starts, and return those found, each once, the most contracting first.

    q = |F(h) - h|^2 / 2 is made small by Levenberg and Marquardt's method from all starts at once; each takes at most
    `max_iterations` steps, so that the search ends. Starts that end elsewhere are left out: a slow point is asked for
    by a larger tolerance. Where fixed points lie on a line or a plane, one of it is found for each start.

    Args:
        flow: the recurrent module.
        starts: states to start from (S, N), such as some that the network visits, with noise.
        x: constant input (I,); zeros if None.
        tolerance: the largest q of what is returned.
        max_iterations: steps of each search; one costs S N rows of a batch.
        apart: points nearer to each other than this, |h - h'|, are one.

    Raises:
        ValueError: starts or input of another width, or no start.
    """
    if not len(starts):
        raise ValueError("a search needs a state to start from, got none")
    h = starts.detach().double().clone()
    residual = flow.step(h, x) - h
    damping = h.new_full((len(h), 1, 1), _DAMPING)
    eye = torch.eye(flow.size, dtype=h.dtype)
    for _ in range(max_iterations):
        q = residual.square().sum(1) / 2
        if bool((q <= tolerance * 1e-4).all()):  # further than asked for, that one point is found as one
            break
        slope = flow.jacobian(h, x) - eye
        normal = slope.mT @ slope
        scale = normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)[:, None, None]
        move = torch.linalg.solve(normal + damping * scale * eye, -(slope.mT @ residual[:, :, None]))[:, :, 0]
        moved = flow.step(h + move, x) - (h + move)
        is_better = moved.square().sum(1) / 2 < q
        h = torch.where(is_better[:, None], h + move, h)
        residual = torch.where(is_better[:, None], moved, residual)
        damping = torch.where(is_better[:, None, None], damping / 4, damping * 4).clamp(1e-14, 1e14)
    q = residual.square().sum(1) / 2
    found: list[FixedPoint] = []
    for place in q.argsort().tolist():
        if not q[place] <= tolerance:  # NaN, of starts that are none, comes last
            break
        if all((h[place] - point.state).norm() > apart for point in found):
            values = torch.linalg.eigvals(flow.jacobian(h[place][None], x)[0])
            found.append(FixedPoint(h[place], float(q[place]), values[values.abs().argsort(descending=True)]))
    return sorted(found, key=lambda point: float(point.eigenvalues.abs().max()))
