"""What the research cells share: parameters in torch's shapes, checks of names and sizes."""

from collections.abc import Collection
from typing import Any, ClassVar

from torch import Tensor, nn

from rnnlab.nn.gated import ChainCell, add_gate_parameters, check_bias, gate_weights, uniform_parameters


class GateRowsCell(ChainCell):
    """A chain cell whose main weights have torch's names and shapes.

    Attributes:
        gates: names of the blocks of H rows of weight_ih (G*H, I), weight_hh (G*H, H) and the biases, in order.
        num_heads: N. Each head of D = H/N units reads its own units of h alone, so that weight_hh is (G*H, D): the row
            of gate g, head n and unit u multiplies the h of head n.
    """

    gates: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str,
        device: Any,
        dtype: Any,
        rows: int | None = None,
        columns: int | None = None,
        num_heads: int = 1,
    ) -> None:
        """Register the main weights: G*H rows and H/N columns of weight_hh unless told otherwise."""
        super().__init__(input_size, hidden_size)
        self.bias = check_bias(bias)
        self.num_heads = check_size("num_heads", num_heads)
        if hidden_size % num_heads:
            raise ValueError(f"num_heads must divide hidden_size, got: {num_heads} and {hidden_size}")
        rows = len(self.gates) * hidden_size if rows is None else rows
        add_gate_parameters(self, rows, input_size, columns or hidden_size // num_heads, bias, device, dtype)

    def _empty(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(self.weight_ih.new_empty(shape))  # type: ignore[operator]

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch does."""
        uniform_parameters(self)

    def kernel_weights(self) -> dict[str, Tensor]:
        weights = gate_weights(self)
        if self.num_heads > 1:
            weights["hh"] = by_head(weights["hh"], self.num_heads)
        return weights


def by_head(weight: Tensor, num_heads: int) -> Tensor:
    """Return a recurrent weight of N heads (G*H, D) as the schedules take it, (N, G*D, D)."""
    units = weight.shape[1]
    return weight.view(-1, num_heads, units, units).transpose(0, 1).reshape(num_heads, -1, units)


def present(**weights: Tensor | None) -> dict[str, Tensor]:
    """Return the weights that are not None."""
    return {name: weight for name, weight in weights.items() if weight is not None}


def check_name(argument: str, name: object, allowed: Collection[object]) -> None:
    """Raise ValueError unless `name` is one of `allowed`."""
    if name not in allowed:
        raise ValueError(f"Unknown {argument}={name!r}. Select from {', '.join(map(repr, allowed))}.")


def check_size(argument: str, size: object, least: int = 1) -> int:
    """Return `size` if it is an int of at least `least`.

    Raises:
        TypeError: it is no int.
        ValueError: it is too small.
    """
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{argument} should be of type int, got: {type(size).__name__}")
    if size < least:
        raise ValueError(f"{argument} must be at least {least}, got: {size}")
    return size
