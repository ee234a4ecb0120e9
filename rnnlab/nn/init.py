"""Initialisers by name, among them Keras' defaults, for any recurrent layer or cell with torch's parameter names.

"glorot" and "orthogonal" act as Keras does on the whole kernel at once: on the (I, G*H) or (H, G*H) matrix of all
gates, not gate by gate (Glorot & Bengio, 2010; Saxe et al., 2014).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

LSTM_GATES = 4


def _identity(weight: Tensor) -> Tensor:
    """Identity in every gate block: the IRNN start (Le et al., 2015)."""
    hidden = weight.shape[1]
    return weight.copy_(torch.eye(hidden).repeat(weight.shape[0] // hidden, 1))


def _orthogonal(weight: Tensor) -> Tensor:
    """Orthonormal rows of the (H, G*H) kernel, i.e. orthonormal columns of torch's (G*H, H)."""
    return nn.init.orthogonal_(weight)


def _keep(weight: Tensor) -> Tensor:
    return weight


WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch": _keep,
    "glorot": nn.init.xavier_uniform_,
    "orthogonal": _orthogonal,
    "identity": _identity,
    "zeros": nn.init.zeros_,
}
BIASES = ("torch", "zeros")


def initialise(
    module: nn.Module,
    *,
    input: str = "torch",
    recurrent: str = "torch",
    bias: str = "torch",
    forget_bias: float | None = None,
) -> nn.Module:
    """Initialise a recurrent layer or cell in place.

    Args:
        module: a recurrent layer or cell of rnnlab.nn or torch.nn, or a module that contains some.
        input: for `weight_ih`: torch (leave as constructed), glorot, orthogonal, identity or zeros.
        recurrent: for `weight_hh`, same names.
        bias: torch or zeros.
        forget_bias: the LSTM's forget gates get this sum of biases: `bias_ih` is set to it and `bias_hh` to 0 in their
            f rows. None leaves them alone; other cells have no forget gate and ignore it.

    Returns:
        The module.

    Raises:
        ValueError: an unknown name, "identity" for weights that are not square per gate, or nothing recurrent inside.

    Example:
        >>> import rnnlab.nn
        >>> lstm = rnnlab.nn.init.initialise(rnnlab.nn.LSTM(3, 4), bias="zeros", forget_bias=1.0)
        >>> lstm.bias_ih_l0[4:8].tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    for argument, name, allowed in (
        ("input", input, tuple(WEIGHTS)),
        ("recurrent", recurrent, tuple(WEIGHTS)),
        ("bias", bias, BIASES),
    ):
        if name not in allowed:
            raise ValueError(f"Unknown initialiser {argument}={name!r}. Select from {', '.join(allowed)}.")
    layers = [part for part in module.modules() if isinstance(part, nn.RNNBase | nn.RNNCellBase)]
    if not layers:
        raise ValueError(
            f"expected a recurrent layer or cell, or a module with one inside, got: {type(module).__name__}"
        )
    with torch.no_grad():
        for layer in layers:
            _initialise_one(layer, input, recurrent, bias, forget_bias)
    return module


def _initialise_one(layer: nn.Module, input: str, recurrent: str, bias: str, forget_bias: float | None) -> None:
    hidden = int(layer.hidden_size)  # type: ignore[arg-type]
    for name, parameter in layer.named_parameters():
        kind = name.rpartition(".")[2]
        if kind.startswith("weight_ih"):
            _apply(input, parameter, hidden)
        elif kind.startswith("weight_hh"):
            _apply(recurrent, parameter, hidden)
        elif kind.startswith("bias_"):
            if bias == "zeros":
                parameter.zero_()
            if forget_bias is not None and parameter.shape[0] == LSTM_GATES * hidden:
                parameter[hidden : 2 * hidden] = forget_bias if kind.startswith("bias_ih") else 0.0


def _apply(name: str, weight: Tensor, hidden: int) -> None:
    if name == "identity" and weight.shape[1] != hidden:
        raise ValueError(f"identity needs square gate blocks, got {tuple(weight.shape)} for {hidden} units")
    WEIGHTS[name](weight)
