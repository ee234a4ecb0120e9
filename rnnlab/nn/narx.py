"""A NARX layer: known outputs fed back, or its own.

Letters: T time, B batch, I inputs, O outputs.
"""

from typing import Any

from torch import Tensor, nn

from rnnlab.nn.cells.state_space import NARXCell
from rnnlab.nn.recurrent import Recurrent


class NARX(nn.Module):
    """A NARX layer: `forward(x, targets)` with known outputs fed back, as in training; `forward(x)` runs free.

    Args:
        cell: how a step is done.
        backend: of the free run; see `Recurrent`.

    Example:
        >>> import torch
        >>> layer = NARX(NARXCell(3, 8, output_size=1, input_taps=2, output_taps=2))
        >>> x, targets = torch.zeros(5, 2, 3), torch.zeros(5, 2, 1)
        >>> warm, state = layer(x, targets)
        >>> forecast, state = layer(x, state=state)
        >>> forecast.shape
        torch.Size([5, 2, 1])
    """

    def __init__(self, cell: NARXCell, backend: str = "auto") -> None:
        super().__init__()
        self.free = Recurrent(cell, backend=backend)

    @property
    def cell(self) -> NARXCell:
        """The cell."""
        return self.free.cells[0]  # type: ignore[return-value]

    def forward(self, x: Tensor, targets: Tensor | None = None, state: Any = None) -> tuple[Tensor, Any]:
        """Return y (T, B, O) for x (T, B, I), and the state after it; `targets` (T, B, O) are fed back if given."""
        if targets is not None:
            return self.cell.forced(x, targets, state)
        y, (state,) = self.free(x, None if state is None else (state,))
        return y, state
