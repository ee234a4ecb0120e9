"""Regularisers to add to a loss, and constraints to apply to weights after an update: plain functions.

    loss = task_loss + 1e-4 * l2(layer) + activation_regularisation(output, 2.0)
    ...
    optimizer.step()
    max_norm_(layer.weight_hh_l0, 3.0)

Regularisers return a scalar with a gradient; those over weights are sums, to be scaled by the user. Constraints end in
an underscore, change a parameter in place without a gradient, and return it.

Letters: T time, B batch, I input_size, H hidden_size, G gates.
"""

import torch
from torch import Tensor, nn

from rnnlab.nn.init import weight_names


def l1(module: nn.Module, names: tuple[str, ...] = ("weight_hh",)) -> Tensor:
    """Return the sum of the absolute values of recurrent weights.

    Args:
        module: a recurrent layer or cell, or a module that contains some.
        names: how the names of the weights to count begin; "weight_ih" adds those of the input, "bias" the biases.

    Raises:
        ValueError: no weight is called so.
    """
    return torch.stack([weight.abs().sum() for weight in _weights(module, names)]).sum()


def l2(module: nn.Module, names: tuple[str, ...] = ("weight_hh",)) -> Tensor:
    """Return the sum of the squares of recurrent weights; arguments as `l1`."""
    return torch.stack([weight.square().sum() for weight in _weights(module, names)]).sum()


def orthogonality(weight: Tensor, num_gates: int | None = None) -> Tensor:
    """Return the sum over the gates of |W^T W - 1|_F^2: zero where each gate's W keeps the norm of what it reads.

    The soft orthogonality penalty of Vorontsov et al. (2017), gate by gate.

    Args:
        weight: recurrent weight (G*H, H), with a projection (G*H, P), of heads (G*H, D).
        num_gates: G, for heads G*N; None takes the weight for square blocks, rows / columns of them.

    Raises:
        ValueError: the rows are not a whole number of gates.
    """
    rows, columns = weight.shape
    blocks, rest = (num_gates, rows % num_gates) if num_gates else divmod(rows, columns)
    if rest or not blocks:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} is not made of {num_gates or 'square'} gate blocks")
    gates = weight.view(blocks, rows // blocks, columns)
    return (gates.transpose(1, 2) @ gates - torch.eye(columns, dtype=weight.dtype, device=weight.device)).square().sum()


def activation_regularisation(output: Tensor, alpha: float, mask: Tensor | None = None) -> Tensor:
    """Return `alpha` times the mean square of the output: AR of Merity et al. (2017), section 4.

    The mean over all elements, as in the authors' AWD-LSTM, not the norm that the paper writes: it does not grow with
    the batch. The paper applies it to the last layer's output after dropout, with alpha = 2.

    Args:
        output: time-major output of a layer (T, B, H).
        alpha: weight of the penalty.
        mask: (T, B) bool, True at valid steps; None: all.
    """
    return alpha * _mean_square(output, mask)


def temporal_activation_regularisation(output: Tensor, beta: float, mask: Tensor | None = None) -> Tensor:
    """Return `beta` times the mean square of h_{t+1} - h_t: TAR of Merity et al. (2017), slowness.

    The paper applies it to the last layer's output before dropout, with beta = 1. Zero for a single step.

    Args:
        output: time-major output of a layer (T, B, H).
        beta: weight of the penalty.
        mask: (T, B) bool, True at valid steps; a change counts where both its steps are valid. None: all.
    """
    valid = None if mask is None else mask[1:] & mask[:-1]
    return beta * _mean_square(output[1:] - output[:-1], valid)


@torch.no_grad()
def max_norm_(weight: Tensor, limit: float, dim: int = 1) -> Tensor:
    """Shorten the vectors along `dim` that are longer than `limit`; the others stay as they are.

    dim=1 bounds what each gate of each unit reads, one row of a (G*H, I) weight: Keras' MaxNorm with its axis=0.

    Args:
        weight: a parameter, not one that is computed from others, such as a pruned one.
        limit: the largest norm allowed, above 0.
        dim: the dimension that the norm sums over.

    Raises:
        ValueError: a limit that is not above 0.
    """
    if not limit > 0:
        raise ValueError(f"limit must be above 0, got {limit}")
    norm = torch.linalg.vector_norm(weight, dim=dim, keepdim=True)
    return weight.mul_((limit / norm).clamp(max=1.0))


@torch.no_grad()
def unit_norm_(weight: Tensor, dim: int = 1) -> Tensor:
    """Scale the vectors along `dim` to length 1; zero vectors stay zero. Arguments as `max_norm_`."""
    norm = torch.linalg.vector_norm(weight, dim=dim, keepdim=True)
    return weight.div_(torch.where(norm == 0, 1.0, norm))


@torch.no_grad()
def non_negative_(weight: Tensor) -> Tensor:
    """Set negative elements to zero. Arguments as `max_norm_`."""
    return weight.clamp_(min=0.0)


def _weights(module: nn.Module, names: tuple[str, ...]) -> list[Tensor]:
    return [getattr(owner, name) for _, owner, name in weight_names(module, names)]


def _mean_square(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean square of the valid elements of (T, B, H), 0 if there are none."""
    if mask is None:
        return values.square().sum() / max(values.numel(), 1)
    # Selected before they are squared: what padding holds, NaN included, has no part in the gradient either.
    values = torch.where(mask.unsqueeze(-1), values, 0.0)
    return values.square().sum() / (mask.sum() * values.shape[-1]).clamp(min=1)
