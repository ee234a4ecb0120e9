"""Products of Jacobians, dh_{t+k}/dh_t = J_{t+k} ... J_{t+1}: what a gradient meets on its way back through k steps.

Letters: T time, I input_size, N numbers of the state, K vectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rnnlab.analysis.dynamics import Dynamics


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
    product, log_scale, values = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype), 0.0, []
    for jacobian in jacobians:
        product = jacobian @ product
        scale = float(product.norm())
        if scale > 0:
            product, log_scale = product / scale, log_scale + math.log(scale)
        values.append(torch.linalg.svdvals(product).log() + log_scale)
    return torch.stack(values)


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


def leading_singular_values(
    flow: Dynamics, inputs: Tensor, count: int = 1, h: Tensor | None = None, iterations: int = 50, seed: int = 0
) -> Tensor:
    """Return the largest singular values of dh_T/dh_0 (count,), without the matrix: for states of any size.

    Subspace iteration with Jacobian-vector products there and back. It converges as the square of the ratio of
    neighbouring singular values, so that after long distances, where they lie far apart, a few iterations do.

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
    states = flow.run(inputs, h)
    width = min(flow.size, 2 * count)  # more than asked for, that the last of them converges too
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(width, flow.size, generator=generator, dtype=torch.float64)
    values = torch.zeros(width, dtype=torch.float64)
    for _ in range(iterations):
        basis = torch.linalg.qr(basis.T).Q.T
        there = push_forward(flow, states, inputs, basis)[-1]
        former, values = values, torch.linalg.svdvals(there)
        if torch.allclose(values[:count], former[:count], rtol=1e-12, atol=0.0):
            break
        basis = pull_back(flow, states, inputs, there / there.norm())[0]
    return values[:count]
