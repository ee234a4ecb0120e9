"""Products of Jacobians, dh_{t+k}/dh_t = J_{t+k} ... J_{t+1}: what a gradient meets on its way back through k steps.

Letters: T time, I input_size, N numbers of the state, K vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rnnlab.analysis.dynamics import Dynamics

_HALF_THE_DIGITS = math.log(1e-8)


def step_jacobians(flow: Dynamics, inputs: Tensor, h: Tensor | None = None) -> Tensor:
    """Return the Jacobians dh_t/dh_{t-1} (T, N, N) along the states that follow `h` under inputs (T, I).

    All at once, T N rows of a batch: for small states.
    """
    return flow.jacobian(flow.run(inputs, h)[:-1], inputs.double())


def jacobian_product(jacobians: Tensor) -> Tensor:
    """Return J_T ... J_1 (N, N), dh_T/dh_0, of Jacobians (T, N, N)."""
    product = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    for jacobian in jacobians:
        product = jacobian @ product
    return product


def log_singular_values(jacobians: Tensor) -> Tensor:
    """Return ln of the singular values of J_k ... J_1 for k = 1 ... T, (T, N), in descending order.

    Products are scaled as they grow or shrink, so any distance will do; but double precision holds 16 digits of a
    product: values below 1e-16 of the largest are rounding, not the network.
    """
    return torch.stack([_log_svdvals(*product) for product in _scaled_products(jacobians)])[1:]


def _scaled_products(jacobians: Tensor) -> Iterator[tuple[Tensor, float]]:
    """Yield J_k ... J_1 for k = 0 ... T as a matrix of norm 1 (the first is the identity) and ln of what scales it."""
    product, log_scale = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype), 0.0
    yield product, log_scale
    for jacobian in jacobians:
        product = jacobian @ product
        scale = float(product.norm())
        if scale > 0:
            product, log_scale = product / scale, log_scale + math.log(scale)
        yield product, log_scale


def _log_svdvals(product: Tensor, log_scale: float) -> Tensor:
    return torch.linalg.svdvals(product).log() + log_scale


def push_forward(flow: Dynamics, states: Tensor, inputs: Tensor, vectors: Tensor) -> Tensor:
    """Return dh_k/dh_0 v for k = 0 ... T, (T+1, K, N), by Jacobian-vector products: for states of any size.

    Args:
        flow: the recurrent module.
        states: (T+1, N), as `flow.run` returns them.
        inputs: (T, I).
        vectors: v (K, N).
    """
    found = [vectors]
    for h, x in zip(states[:-1], inputs, strict=True):
        found.append(flow.push(h, x, found[-1]))
    return torch.stack(found)


def pull_back(flow: Dynamics, states: Tensor, inputs: Tensor, vectors: Tensor) -> Tensor:
    """Return (dh_T/dh_t)^T v for t = 0 ... T, (T+1, K, N): gradients by h_t of a loss whose gradient by h_T is v.

    Args: those of `push_forward`.
    """
    found = [vectors]
    for h, x in zip(reversed(states[:-1]), reversed(inputs), strict=True):
        found.append(flow.pull(h, x, found[-1]))
    return torch.stack(found[::-1])


def stretch(step: Callable[..., Tensor], states: Tensor, inputs: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Take an orthonormal frame through steps by Jacobian-vector products, made orthonormal again after each by QR.

    Args:
        step: `Dynamics.push`, or `Dynamics.pull` with states and inputs in reverse.
        states: those before each step (T, N).
        inputs: (T, I).
        frame: K vectors (N, K).

    Returns:
        The frame after the last step (N, K), and R of each step (T, K, K): the Jacobians' product times the first frame
        is the last frame times R_T ... R_1.
    """
    triangles = [frame.new_zeros(0, frame.shape[1], frame.shape[1])]
    for h, x in zip(states, inputs, strict=True):
        frame, triangle = torch.linalg.qr(step(h, x, frame.T).T)
        triangles.append(triangle[None])
    return frame, torch.cat(triangles)


def log_growth(triangles: Tensor) -> Tensor:
    """Return the sums over steps of ln |R_ii| (K,) of what `stretch` returns (T, K, K): by what each vector grew."""
    return triangles.diagonal(dim1=1, dim2=2).abs().log().sum(0)


def leading_log_singular_values(
    flow: Dynamics, inputs: Tensor, count: int = 1, h: Tensor | None = None, iterations: int = 50, seed: int = 0
) -> Tensor:
    """Return ln of the largest singular values of dh_T/dh_0 (count,), without the matrix: for states of any size.

    Subspace iteration with Jacobian-vector products there and back, by QR at each step, so that any distance will do,
    and small values beside large ones. It converges as the square of the ratio of neighbouring singular values, so that
    after long distances, where they lie far apart, a few iterations do.

    Args:
        flow: the recurrent module.
        inputs: (T, I).
        count: how many.
        h: state before the first step (N,); None for the initial one.
        iterations: there and back; each costs 2 T steps for 2 count rows.
        seed: of the vectors to start from.

    Raises:
        ValueError: more values than N are asked for, or none.
    """
    if not 1 <= count <= flow.size:
        raise ValueError(f"count must be from 1 to {flow.size}, the numbers of the state, got {count}")
    states = flow.run(inputs, h)[:-1]
    width = min(flow.size, 2 * count)  # more than asked for, that the last of them converges too
    generator = torch.Generator().manual_seed(seed)
    frame = torch.linalg.qr(torch.randn(flow.size, width, generator=generator, dtype=torch.float64)).Q
    values = torch.full((width,), torch.nan, dtype=torch.float64)
    for _ in range(iterations):
        former = values
        frame, triangles = stretch(flow.push, states, inputs, frame)
        *_, product = _scaled_products(triangles)
        # Those of R_T ... R_1 tell neighbours apart that still mix, but far below the first they are rounding.
        values = _log_svdvals(*product)
        values = torch.where(values >= values[0] + _HALF_THE_DIGITS, values, log_growth(triangles))
        if torch.allclose(values[:count], former[:count], rtol=1e-12, atol=1e-12):
            break
        frame, _ = stretch(flow.pull, states.flip(0), inputs.flip(0), frame)
    return values.sort(descending=True).values[:count]
