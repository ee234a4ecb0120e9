"""Dynamic evaluation: a language model that goes on learning from the text it is scored on (Krause et al., 2018)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rnnlab.data import Window
from rnnlab.models.layers import at_least_float32
from rnnlab.tasks.carry import Carry, read_window

# Windows of training text from which the sizes of gradients are learnt.
_RMS_WINDOWS = 100
_EPSILON = 1e-5


def evaluate_dynamically(
    model: nn.Module, windows: Iterable[Window], train_windows: Iterable[Window], lr: float, decay: float = 0.0
) -> float:
    """Return the nats per character of a model that learns from each window after having been scored on it.

    The update is RMS with a global prior (Krause et al., 2018, "Dynamic evaluation of neural sequence models", eq. 6
    and 7): with s = sqrt of the mean squared gradient g over training windows,
    w <- w - lr g / (s + eps) + decay s / mean(s) (w_trained - w), the last factor at most 1.

    Args:
        model: as `CharLMTask` takes it; changed in place.
        windows: consecutive windows of the text to score.
        train_windows: of the training text; the first hundred are read.
        lr: rate of the updates, > 0.
        decay: share of the way back to the trained weights at each update, in [0, 1].

    Raises:
        ValueError: a rate out of range.
    """
    check_rates(lr, decay)
    model.eval()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    scales = _gradient_scales(model, weights, train_windows)
    mean_scale = torch.cat([scale.flatten() for scale in scales]).mean()
    pulls = [(decay * scale / mean_scale).clamp(max=1.0) for scale in scales]
    trained = [weight.detach().clone() for weight in weights]
    total, count = 0.0, 0
    carry = Carry()
    for window in windows:
        nats = _window_nats(model, window, carry)
        if not len(nats):
            continue
        total, count = total + float(nats.detach().double().sum()), count + len(nats)
        gradients = torch.autograd.grad(nats.mean(), weights)
        with torch.no_grad():
            for weight, gradient, scale, pull, start in zip(weights, gradients, scales, pulls, trained, strict=True):
                weight.add_(pull * (start - weight) - lr * gradient / (scale + _EPSILON))
    return total / count


def check_rates(lr: Any, decay: Any) -> None:
    """Raise ValueError unless these are rates of dynamic evaluation."""
    are_numbers = all(isinstance(rate, int | float) and not isinstance(rate, bool) for rate in (lr, decay))
    if not are_numbers or not lr > 0 or not 0 <= decay <= 1:
        raise ValueError(f"task.dynamic_lr must be > 0 and task.dynamic_decay in [0, 1], got {lr!r} and {decay!r}")


def _gradient_scales(model: nn.Module, weights: list[nn.Parameter], windows: Iterable[Window]) -> list[Tensor]:
    """Return the root of the mean squared gradient of each weight over the first training windows."""
    squares = [torch.zeros_like(weight) for weight in weights]
    carry, count = Carry(), 0
    for window, _ in zip(windows, range(_RMS_WINDOWS), strict=False):
        gradients = torch.autograd.grad(_window_nats(model, window, carry).mean(), weights)
        for square, gradient in zip(squares, gradients, strict=True):
            square.add_(gradient.detach() ** 2)
        count += 1
    return [(square / count).sqrt() for square in squares]


def _window_nats(model: nn.Module, window: Window, carry: Carry) -> Tensor:
    """Return the nats (N,) of the scored characters of a window, whose state comes from `carry` and goes back there."""
    device = next(model.parameters()).device
    window = Window(*(part.to(device) if isinstance(part, Tensor) else part for part in window))
    logits = read_window(model, window, carry)
    scored = window.targets >= 0
    return cross_entropy(at_least_float32(logits[scored]), window.targets[scored], reduction="none")
